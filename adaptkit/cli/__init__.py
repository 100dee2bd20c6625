"""The command line.

`main` is the one error boundary: it turns the library's errors into messages and exit codes.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from adaptkit.cli.signals import Signals
from adaptkit.errors import AdaptkitError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    The exit code: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted, 143 terminated.
    """
    from adaptkit.cli.app import app

    debug = os.environ.get("ADAPTKIT_DEBUG") == "1"
    asked = Signals()
    try:
        code = app.main(args=arguments, prog_name="adaptkit", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.UsageError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "interrupted; completed steps were kept, run the command again to continue", err=True
        )
        return 143 if asked.to_end else 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except AdaptkitError as error:
        if debug:
            raise
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
        return 1
    except Exception as error:  # a bug; even so no traceback unless asked for
        if debug:
            raise
        click.echo(
            f"{click.style('error:', fg='red', bold=True)} {type(error).__name__}: {error}\n"
            "  this is a bug in adaptkit or a plugin; ADAPTKIT_DEBUG=1 shows where",
            err=True,
        )
        return 1
    finally:
        asked.give_back()
