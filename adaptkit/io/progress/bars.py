"""Progress as it is shown: a bar on a terminal, a line now and then in a log, one picture in a notebook.

Each says the same: how much of how much (or bytes), the rate, and the time left.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptkit.io.progress.progress import no_watch, thread_safe
from adaptkit.io.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adaptkit.io.progress.progress import Progress, Watch

EVERY = 10.0  # seconds between two lines in a log


class Count:
    """What is counted, how far it is, and since when."""

    def __init__(
        self, what: str, total: int | None, unit: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self._clock, self._start = clock, clock()

    def __str__(self) -> str:
        """`merging naval: 12/128 modules, 3.1/s, 37 s left`."""
        seconds = max(self._clock() - self._start, 1e-9)
        rate = self.done / seconds
        parts = [f"{self.what}: {self._amount()}".removesuffix(": ")]
        if self.done:
            parts.append(f"{size_text(rate)}/s" if self.unit == "bytes" else _rate(rate))
            if self.total:
                parts.append(f"{clock_time((self.total - self.done) / rate)} left")
        else:
            parts.append(f"{clock_time(seconds)}")
        return ", ".join(parts)

    @property
    def share(self) -> float | None:
        """From 0 to 1; None when the end is not known."""
        return min(1.0, self.done / self.total) if self.total else None

    def _amount(self) -> str:
        if self.unit == "bytes":
            return size_text(self.done) + (f" of {size_text(self.total)}" if self.total else "")
        if self.total is None and not self.done:
            return ""
        return f"{self.done}{f'/{self.total}' if self.total else ''} {self.unit}".rstrip()


def _rate(a_second: float) -> str:
    """`2,330/s`, `3.1/s`."""
    return f"{a_second:,.0f}/s" if a_second >= 100 else f"{a_second:.3g}/s"


def clock_time(seconds: float) -> str:
    """`37 s`, `4 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def terminal_bar(
    what: str, total: int | None, unit: str = "", above: list[Callable[[str], None]] | None = None
) -> Iterator[Progress]:
    """A bar on stderr that goes away when the work is done.

    As long as it is there, `above` ends with a function that writes a text above it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    count = Count(what, total, unit)
    columns = (SpinnerColumn(), BarColumn(bar_width=20), TextColumn("{task.fields[count]}"))
    with Bars(*columns, console=Console(stderr=True, highlight=False), transient=True) as bars:
        task = bars.add_task(what, total=total, count=str(count))

        def step(number: int) -> None:
            count.done += number
            bars.update(task, completed=count.done, count=str(count))

        def write(text: str) -> None:
            bars.console.print(Text.from_ansi(text), soft_wrap=True)

        writers = [] if above is None else above
        writers.append(write)
        try:
            yield thread_safe(step)
        finally:
            writers.remove(write)


@contextmanager
def log_lines(
    what: str,
    total: int | None,
    unit: str = "",
    *,
    write: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """A line every ten seconds of long work; short work writes none."""
    count, last = Count(what, total, unit, clock), clock()

    def step(number: int) -> None:
        nonlocal last
        count.done += number
        if clock() - last >= EVERY:
            last = clock()
            write(str(count))

    yield thread_safe(step)


@contextmanager
def notebook_bar(what: str, total: int | None, unit: str = "") -> Iterator[Progress]:
    """A bar below the cell, taken away when the work is done."""
    from html import escape

    shown = sys.modules["IPython"].display  # a notebook has loaded it

    count, last = Count(what, total, unit), 0.0

    def drawn() -> Any:
        share = "" if count.share is None else f' value="{count.share:.3f}"'
        return shown.HTML(f"<progress{share}></progress> {escape(str(count))}")

    handle = shown.display(drawn(), display_id=True)

    def step(number: int) -> None:
        nonlocal last
        count.done += number
        if time.monotonic() - last >= 0.1:
            last = time.monotonic()
            handle.update(drawn())

    try:
        yield thread_safe(step)
    finally:
        handle.update(shown.HTML(""))


def in_notebook() -> bool:
    """Whether this Python is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def default_watch() -> Watch:
    """What `Workspace.open` shows unless it is told otherwise: a bar in a notebook, else nothing."""
    return notebook_bar if in_notebook() else no_watch
