"""Rows of a large registry, written in bulk: versions of adapters, of which every tenth has a deep lineage."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import text

from adaptkit.types import (
    BaseIdentity,
    FileEntry,
    Level,
    Manifest,
    Parent,
    artifact_digest,
    canonical_json,
)
from adaptkit_registry.database.indexes import INDEXES, rebuild_index
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from adaptkit_registry import Registry

WHEN = "2026-01-01T00:00:00.000000+00:00"
DEEP = 50
FILES = (("adapter_config.json", 700), ("adapter_model.safetensors", 40_000_000))


def hexes(seed: object) -> str:
    return sha256(str(seed).encode()).hexdigest()


def manifest(seed: object, base: BaseIdentity, parents: tuple[Parent, ...] = ()) -> Manifest:
    entries = tuple(
        FileEntry(path, size, hexes((kind, seed)))
        for (path, size), kind in zip(FILES, "cw", strict=True)
    )
    return Manifest(
        artifact_digest(entries), entries, "lora", 16, base, parents=parents, created=WHEN
    )


@cache
def base(number: int) -> BaseIdentity:
    return BaseIdentity(
        f"fleet/base-{number}",
        tuple(Level(f"{k}:{hexes((k, number))}", True) for k in ("as1", "fs1", "tm1")),
    )


@cache
def template(number: int) -> str:
    """The text of a manifest on a base, with marks where manifests differ."""
    text = canonical_json(manifest("any", base(number)).to_json())
    marks = {
        manifest("any", base(number)).digest: "<digest>",
        '"parents":[]': '"parents":[<parents>]',
    }
    marks |= {hexes(("c", "any")): "<config>", hexes(("w", "any")): "<weights>"}
    for known, mark in marks.items():
        text = text.replace(known, mark)
    return text


def written(
    seed: object, number: int, parents: tuple[Parent, ...]
) -> tuple[str, tuple[str, str], str]:
    """Digest, the sha256 of both files and the text of `manifest(seed, base(number), parents)`, in a tenth of the time."""
    config, weights = hexes(("c", seed)), hexes(("w", seed))
    files = (
        f'["adapter_config.json",700,"{config}"],["adapter_model.safetensors",40000000,"{weights}"]'
    )
    digest = f"sha256:{sha256(f'[{files}]'.encode()).hexdigest()}"
    listed = ",".join(canonical_json(asdict(parent)) for parent in parents)
    text = template(number).replace("<digest>", digest).replace("<parents>", listed)
    return digest, (config, weights), text.replace("<config>", config).replace("<weights>", weights)


@contextmanager
def without_triggers(sql: Connection) -> Iterator[None]:
    """Bulk work on SQLite: the indexes of texts are made afterwards, all at once."""
    if sql.dialect.name != "sqlite":
        yield
        return
    sql.exec_driver_sql("PRAGMA cache_size = -500000")
    triggers = sql.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
    ).all()
    for trigger, _ in triggers:
        sql.exec_driver_sql(f"DROP TRIGGER {trigger}")
    yield
    for _, statement in triggers:
        sql.exec_driver_sql(statement)
    for index in INDEXES:
        rebuild_index(sql, index)
    sql.exec_driver_sql("PRAGMA cache_size = -2000")  # as it was


def fill(registry: Registry, size: int) -> None:
    """Write `size` versions of size/20 adapters on size/500 bases, in bulk."""
    names, known = size // 20, max(size // 500, 2)
    with registry._writing() as sql, without_triggers(sql):  # noqa: SLF001
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
                digest, shas, stored = written((adapter, number), adapter % known, parents)
                last[adapter] = digest
                rows["a"].append(
                    {
                        "digest": digest,
                        "method": "lora",
                        "rank": 16,
                        "base_id": ids[adapter % known],
                        "manifest": stored,
                    }
                )
                rows["f"] += [
                    {"digest": digest, "path": path, "size": bytes_, "sha256": sha}
                    for (path, bytes_), sha in zip(FILES, shas, strict=True)
                ]
                rows["l"] += [
                    {
                        "child": digest,
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
                        "digest": digest,
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
