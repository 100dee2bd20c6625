"""The command line.

`main` is the one error boundary: it turns the library's errors into messages and exit codes.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING

import click

from adaptkit.cli.output.failures import asks_for_json, show
from adaptkit.cli.shell.signals import INTERRUPTED, Signals
from adaptkit.errors import AdaptkitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from adaptkit.cli.shell.session import Session


OUTPUT_LOST = 74  # EX_IOERR of sysexits.h: the work was done, and its result could not be written


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    The exit code: 0 done, 1 refused or failed, 2 wrong usage, 74 done but stdout took no more,
    130 interrupted, 143 terminated.
    """
    from adaptkit.cli.shell.session import Session

    session = Session()
    session.out.as_json = asks_for_json(sys.argv[1:] if arguments is None else arguments)
    asked = Signals(as_json=session.out.as_json)
    with _streams(as_json=session.out.as_json):
        try:
            return _ended(_guarded(arguments, session, asked), session)
        finally:
            asked.give_back()


def _guarded(arguments: Sequence[str] | None, session: Session, asked: Signals) -> int:
    """The command's exit code; whatever it raised, a plugin's or a library's own kinds too, is a message."""
    from adaptkit.cli.app import VARIABLE, PipeError, app

    if VARIABLE in os.environ:
        from adaptkit.cli.completion.shells import register

        register()
    debug = os.environ.get("ADAPTKIT_DEBUG") == "1"
    out = session.out
    try:
        code = app.main(args=arguments, prog_name="adaptkit", standalone_mode=False, obj=session)
        return int(code or 0)
    except click.ClickException as error:
        show(error, out)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as stopped:
        has_advice = (stopped.__cause__ or stopped).args  # the operation printed how to go on
        out.say("interrupted" if has_advice else INTERRUPTED)
        return 143 if asked.to_end else 130
    except SystemExit as error:
        if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            return 0  # click's own end, when the reader of --help went away
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    except AdaptkitError as error:
        if debug:
            raise
        show(error, out)
        return 1
    except (OSError, PipeError) as failed:
        cause = failed.error if isinstance(failed, PipeError) else failed
        if debug or not _of_stdout(cause):
            return _reported(cause, debug, session)
        out.lost = cause
        return 0
    except BaseException as error:  # noqa: BLE001  (a bug, or a library's panic, which is no Exception)
        return _reported(error, debug, session)


def _reported(error: BaseException, debug: bool, session: Session) -> int:
    """A bug; even so no traceback unless asked for."""
    if debug:
        raise error
    show(session.blamed(error) or error, session.out)
    return 1


def _ended(code: int, session: Session) -> int:
    """The exit code, when stdout may have taken less than all of the result."""
    lost = session.out.lost
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        lost = lost or error
    if lost is None:
        return code
    with suppress(OSError, ValueError, AttributeError):  # or Python complains when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(lost, BrokenPipeError):  # the reader, such as `head`, has seen enough
        return code
    session.out.warn(
        f"the command was carried out, but its result could not be written: {lost.strerror or lost}"
    )
    return code or OUTPUT_LOST


def _of_stdout(error: OSError) -> bool:
    """Whether printing raised it, and not the work: a full disk and a lost connection look the same."""
    return any(frame.f_code is click.echo.__code__ for frame, _ in walk_tb(error.__traceback__))


@contextmanager
def _streams(*, as_json: bool) -> Iterator[None]:
    """What a stream's encoding lacks is written as an escape; a stream that was closed takes and drops everything.

    With `as_json`, what libraries write to stderr is JSON too.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with ExitStack() as stack:
        for name, stream in zip(("stdout", "stderr"), before, strict=True):
            if stream is None:
                nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                setattr(sys, name, nowhere)
        if as_json:
            from adaptkit.cli.output.json_lines import JsonLines

            sys.stderr = lines = JsonLines(sys.stderr)
            stack.callback(lines.finish)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
