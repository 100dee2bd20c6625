"""The one sink: data on stdout, everything else on stderr.

With `--json`, stdout is one JSON value and every line on stderr is a JSON object: `{"note": …}`,
`{"warning": …}` or `{"error": {…}}`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.output.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from adaptkit.cli.output.table import Cell
    from adaptkit.io.progress import Progress


class Output:
    """Prints for people, or with `as_json` for programs."""

    as_json = False
    sort = ""
    limit: int | None = None
    columns: tuple[str, ...] = ()

    def data(self, value: Any, text: str | Callable[[], str]) -> None:
        """Print the command's result.

        `value` as JSON, or `text` (a string, or a function that is called only when needed).
        """
        if self.as_json:
            click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
        else:
            click.echo(text() if callable(text) else text)

    def done(self, value: Any, text: str) -> None:
        """A command that only does something: `value` as JSON on stdout, or `text` on stderr."""
        if self.as_json:
            self.data(value, "")
        else:
            self.say(text)

    def table(
        self,
        values: Any,
        head: Sequence[str],
        rows: Sequence[Sequence[str | Cell]],
        empty: str,
        *,
        drop: Sequence[str] = (),
    ) -> None:
        """Print the result as a table; without rows, `empty` goes to stderr.

        `values` is the result as JSON; of a list as long as `rows`, each is a row, sorted and cut
        with it. `drop` names the columns that a narrow terminal does
        without, the first one first; after them go the others, from the right.
        """
        table = Table(tuple(head), tuple(tuple(row) for row in rows), tuple(drop))
        order = table.order(self.sort) if self.sort else list(range(len(rows)))
        order = order[: self.limit]
        if self.as_json:
            same = isinstance(values, list) and len(values) == len(rows)
            self.data([values[place] for place in order] if same else values, "")
            return
        if not rows:
            self.say(empty)
            return
        taken = table.taken(order, self.columns)
        click.echo(taken.piped() if self.width is None else taken.fitted(self.width))

    @property
    def width(self) -> int | None:
        """The columns of the terminal; None where stdout is none, and nothing is to be cut."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def say(self, text: str) -> None:
        """A remark for people, on stderr."""
        click.echo(_line("note", text) if self.as_json else text, err=True)

    def warn(self, text: str) -> None:
        """A warning on stderr: the command goes on."""
        label = click.style("warning:", fg="yellow", bold=True)
        click.echo(_line("warning", text) if self.as_json else f"{label} {text}", err=True)

    def watch(
        self, what: str, total: int | None, unit: str = "", /
    ) -> AbstractContextManager[Progress]:
        """Progress of long work: a bar when stderr is a terminal, else a line now and then."""
        from adaptkit.io.bars import log_lines, terminal_bar
        from adaptkit.io.progress import no_watch

        if self.as_json:
            return no_watch(what, total, unit)
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return log_lines(what, total, unit)
        return terminal_bar(what, total, unit)


def _line(kind: str, value: object) -> str:
    return json.dumps({kind: value}, ensure_ascii=False)
