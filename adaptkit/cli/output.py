"""The one sink: data on stdout, everything else on stderr.

Notable choices:
- every text passes `adaptkit.cli.inert`: what comes from elsewhere can neither act on the terminal nor forge a line
- a stream that is closed, full or read no further is noted in `lost`; the command goes on, for what it did is done
- what a stream's encoding lacks is written as an escape
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.inert import LONGEST_CELL, inert, inert_json, inert_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from adaptkit.io.progress import Progress

    Lines = str | Sequence[str]

WIDE = 240  # columns when stdout is no terminal: a program that reads a pipe wants whole lines


class Output:
    """Prints for people, or with `as_json` for programs."""

    as_json = False

    def __init__(self) -> None:
        self.lost: OSError | None = None
        """Why stdout took no more, when it did not."""

    def data(self, value: Any, text: Lines | Callable[[], Lines]) -> None:
        """Print the command's result.

        `value` as JSON, or `text`: a list of lines, or a string (or a function that returns one, called
        only when needed). Foreign text belongs into a list, where its line feeds are made visible.
        """
        if self.as_json:
            self._write(inert_json(value))
        else:
            self._write(_joined(text() if callable(text) else text))

    def table(
        self, value: Any, head: Sequence[str], rows: Sequence[Sequence[str]], empty: str
    ) -> None:
        """Print the result as a table; without rows, `empty` goes to stderr."""
        if self.as_json:
            self.data(value, "")
            return
        if not rows:
            self.say(empty)
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in head:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(inert(cell, LONGEST_CELL)) for cell in row))
        terminal = sys.stdout is not None and sys.stdout.isatty()
        drawn = StringIO()
        console = Console(
            file=drawn,
            width=Console().width if terminal else WIDE,
            force_terminal=terminal,
            highlight=False,
        )
        console.print(table)
        self._write(drawn.getvalue().removesuffix("\n"))

    def say(self, text: Lines) -> None:
        """A remark for people, on stderr."""
        _to_stderr(_joined(text))

    def warn(self, text: Lines) -> None:
        """A warning on stderr: the command goes on."""
        _to_stderr(f"{click.style('warning:', fg='yellow', bold=True)} {_joined(text)}")

    def error(self, text: Lines) -> None:
        """What failed, on stderr."""
        _to_stderr(f"{click.style('error:', fg='red', bold=True)} {_joined(text)}")

    @contextmanager
    def watch(self, what: str, total: int | None) -> Iterator[Progress]:
        """A progress bar for long work, when stderr is a terminal."""
        if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            yield lambda count: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(inert(what, LONGEST_CELL), total=total)
            yield lambda count: bars.advance(task, count)

    def _write(self, text: str) -> None:
        """To stdout. `text` has been made inert, or is a table with the styles of rich."""
        if self.lost is not None:
            return
        try:
            click.echo(text)
        except OSError as error:
            self.lost = error


def _joined(text: Lines) -> str:
    return inert_lines(text) if isinstance(text, str) else "\n".join(map(inert, text))


def _to_stderr(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:  # no stderr: the exit code is all that is left to tell
        return
