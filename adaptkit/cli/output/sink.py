"""The one sink: data on stdout, everything else on stderr.

Notable choices:
- every text passes `adaptkit.cli.shell.inert`: what comes from elsewhere can neither act on the terminal nor forge a line
- with `--json`, stdout is one JSON value and every line on stderr is a JSON object: `{"note": …}`,
  `{"warning": …}` or `{"error": {…}}`
- a stream that is closed, full or read no further is noted in `lost`; the command goes on, for what it did is done
- what a stream's encoding lacks is written as an escape
- on a terminal, remarks and what `fit` says is prose are broken between words; what is said while a bar is shown stands
  above it
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

import click

from adaptkit.cli.output.fit import fitted
from adaptkit.cli.output.table import Table
from adaptkit.cli.shell.inert import LONGEST_CELL, inert, inert_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from adaptkit.cli.output.table import Cell
    from adaptkit.io.progress.progress import Progress

    Lines = str | Sequence[str]


class Output:
    """Prints for people, or with `as_json` for programs.

    A text is a list of lines, or a string of lines. Foreign text belongs into a list, where its line
    feeds are made visible.
    """

    as_json = False
    sort = ""
    limit: int | None = None
    columns: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.lost: OSError | None = None
        """Why stdout took no more, when it did not."""
        self._above: list[Callable[[str], None]] = []

    def data(self, value: Any, text: Lines | Callable[[], Lines], *, fit: bool = False) -> None:
        """Print the command's result.

        `value` as JSON, or `text` (or a function that returns it, called only when needed). With `fit` it is prose,
        which a narrow terminal gets in shorter lines.
        """
        if self.as_json:
            self._write(inert_json(value))
        else:
            lines = _inert(text() if callable(text) else text)
            self._write("\n".join(fitted(lines, self.width if fit else None)))

    def done(self, value: Any, text: Lines) -> None:
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
        empty: Lines,
        *,
        drop: Sequence[str] = (),
        titled: bool = False,
    ) -> None:
        """Print the result as a table; without rows, `empty` goes to stderr.

        `values` is the result as JSON; of a list as long as `rows`, each is a row, sorted and cut
        with it. `drop` names the columns that a narrow terminal does
        without, the first one first; after them go the others, from the right. A pipe gets the
        head too where it is `titled`: where the head is not known beforehand.
        """
        table = Table(tuple(head), tuple(tuple(row) for row in rows), tuple(drop))
        order = table.order(self.sort) if self.sort else list(range(len(rows)))
        order = order[: self.limit]
        taken = table.taken(order, self.columns)  # names a column that there is not, of no rows too
        if self.as_json:
            same = isinstance(values, list) and len(values) == len(rows)
            self.data([values[place] for place in order] if same else values, "")
            return
        if not rows:
            self.say(empty)
            return
        self._write(taken.piped(titled=titled) if self.width is None else taken.fitted(self.width))

    @property
    def width(self) -> int | None:
        """The columns of the terminal; None where stdout is none, and nothing is to be cut."""
        return _columns(sys.stdout)

    def say(self, text: Lines) -> None:
        """A remark for people, on stderr."""
        self._remark("note", text)

    def warn(self, text: Lines) -> None:
        """A warning on stderr: the command goes on."""
        self._remark("warning", text, "yellow")

    def error(self, text: Lines, described: Mapping[str, str]) -> None:
        """What failed, on stderr: `text`, or with `as_json` the object that describes it."""
        if self.as_json:
            _to_stderr(inert_json({"error": described}, indent=None))
        else:
            self._remark("error", text, "red")

    def watch(
        self, what: str, total: int | None, unit: str = "", /
    ) -> AbstractContextManager[Progress]:
        """Progress of long work: a bar when stderr is a terminal, else a line now and then."""
        from adaptkit.io.progress.bars import log_lines, terminal_bar
        from adaptkit.io.progress.progress import no_watch

        if self.as_json:
            return no_watch(what, total, unit)
        what = inert(what, LONGEST_CELL)
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return log_lines(what, total, unit, write=_to_stderr)
        if self._above:  # a terminal has room for one
            return no_watch(what, total, unit)
        return terminal_bar(what, total, unit, self._above)

    def _write(self, text: str) -> None:
        """To stdout. `text` has been made inert."""
        if self.lost is not None:
            return
        try:
            click.echo(text)
        except OSError as error:
            self.lost = error

    def _remark(self, kind: str, text: Lines, colour: str = "") -> None:
        if self.as_json:
            whole = text if isinstance(text, str) else "\n".join(text)
            _to_stderr(inert_json({kind: whole}, indent=None))
            return
        name = f"{kind}:"
        plain = (
            os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        )  # https://no-color.org
        label = f"{name if plain else click.style(name, fg=colour, bold=True)} " if colour else ""
        first, *rest = _inert(text) or [""]
        shown = fitted([f"{name} {first}" if colour else first, *rest], _columns(sys.stderr))
        whole = "\n".join(shown)
        if colour:
            whole = label + whole.removeprefix(f"{name} ")
        (self._above[-1] if self._above else _to_stderr)(whole)


def _inert(text: Lines) -> list[str]:
    return list(map(inert, text.split("\n") if isinstance(text, str) else text))


def _columns(stream: TextIO) -> int | None:
    """How wide the terminal behind a stream is; None where there is none."""
    if not stream.isatty():
        return None
    if os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    with suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(stream.fileno()).columns or None
    return shutil.get_terminal_size().columns


def _to_stderr(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:  # no stderr: the exit code is all that is left to tell
        return
