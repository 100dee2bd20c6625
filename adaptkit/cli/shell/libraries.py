"""What libraries log and warn about while a command runs: only what matters, and nothing that acts on a terminal.

Their texts hold what servers and files hold: huggingface_hub logs a header of the Hub's, `X-HF-Warning`, as it came.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.shell.inert import inert, inert_lines
from adaptkit.io.machine.libraries import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def inert_libraries() -> Iterator[None]:
    """Only what matters, and all of it inert, while a workspace is open; what needs none waits for no `logging`."""
    records, warned, broke = (
        logging.getLogRecordFactory(),
        warnings.formatwarning,
        threading.excepthook,
    )
    logging.setLogRecordFactory(_inert_records(records))
    warnings.formatwarning = lambda *args, **more: inert_lines(warned(*args, **more))
    if os.environ.get("ADAPTKIT_DEBUG") != "1":
        threading.excepthook = _named
    try:
        with quiet_libraries():
            yield
    finally:
        logging.setLogRecordFactory(records)
        warnings.formatwarning, threading.excepthook = warned, broke


def _inert_records(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Records whose message, and texts in it, are inert; formatters that take the arguments apart still can."""

    def record(*args: Any, **more: Any) -> logging.LogRecord:
        made = make(*args, **more)
        if isinstance(made.msg, str):
            made.msg = inert_lines(made.msg)
        if isinstance(made.args, tuple):
            made.args = tuple(
                inert_lines(one) if isinstance(one, str) else one for one in made.args
            )
        try:
            text = made.getMessage()
        except Exception:  # noqa: BLE001  (a library's mistake, which logging reports by itself)
            return made
        if (safe := inert_lines(text)) != text:  # an object, such as an exception, has brought it
            made.msg, made.args = safe, ()
        return made

    return record


def _named(broken: threading.ExceptHookArgs) -> None:
    """One line on a thread that broke, in place of a traceback."""
    name = broken.thread.name if broken.thread else "a thread"
    kind = broken.exc_type.__name__
    click.echo(inert(f"warning: {name} broke: {kind}: {broken.exc_value}"), err=True)
