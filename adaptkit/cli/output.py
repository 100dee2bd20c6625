"""The one sink: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from adaptkit.io.progress import Progress

WIDE = 240  # columns when stdout is no terminal: a program that reads a pipe wants whole lines


class Output:
    """Prints for people, or with `as_json` for programs."""

    as_json = False

    def data(self, value: Any, text: str | Callable[[], str]) -> None:
        """Print the command's result.

        `value` as JSON, or `text` (a string, or a function that is called only when needed).
        """
        if self.as_json:
            click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
        else:
            click.echo(text() if callable(text) else text)

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
            table.add_row(*(Text(cell) for cell in row))
        console = Console(
            file=sys.stdout, width=None if sys.stdout.isatty() else WIDE, highlight=False
        )
        console.print(table)

    def say(self, text: str) -> None:
        """A remark for people, on stderr."""
        click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """A warning on stderr: the command goes on."""
        click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {text}", err=True)

    @contextmanager
    def watch(self, what: str, total: int | None) -> Iterator[Progress]:
        """A progress bar for long work, when stderr is a terminal."""
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            yield lambda count: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(what, total=total)
            yield lambda count: bars.advance(task, count)
