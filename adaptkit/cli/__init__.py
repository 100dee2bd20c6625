"""The command line.

`main` is the one error boundary: it turns the library's errors into messages and exit codes.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.output.failures import asks_for_json, show

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    The exit code: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted, 143 terminated.
    """
    from adaptkit.cli.app import VARIABLE, app

    if VARIABLE in os.environ:
        from adaptkit.cli.completion.shells import register

        register()
    debug = os.environ.get("ADAPTKIT_DEBUG") == "1"
    as_json = asks_for_json(sys.argv[1:] if arguments is None else list(arguments))
    asked = _Signals()
    try:
        code = app.main(args=arguments, prog_name="adaptkit", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.UsageError as error:
        show(error, as_json=as_json)
        return 2
    except click.ClickException as error:
        show(error, as_json=as_json)
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "interrupted; completed steps were kept, run the command again to continue", err=True
        )
        return 143 if asked.to_end else 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a bug, where it is no AdaptkitError; no traceback unless asked for
        if debug:
            raise
        show(error, as_json=as_json)
        return 1
    finally:
        asked.give_back()


class _Signals:
    """SIGTERM ends a command as Ctrl-C does, so that it clears away what it has begun."""

    def __init__(self) -> None:
        self.to_end = False
        self._before: Any = None
        with suppress(ValueError):  # not the main thread
            self._before = signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: object) -> None:
        self.to_end = True
        raise KeyboardInterrupt

    def give_back(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
