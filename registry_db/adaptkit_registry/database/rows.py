"""From rows to the dataclasses of adaptkit.types, without a query per row."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from adaptkit.types import (
    BaseIdentity,
    Level,
    Manifest,
    Quantisation,
    Version,
    canonical_json,
    digest_of,
)
from adaptkit_registry.database.schema import (
    adapters,
    aliases,
    artifacts,
    base_levels,
    bases,
    files,
    lineage,
    metrics,
    tags,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Select

LIVE = versions.c.deleted.is_(None)
_FEW = 200  # below this many rows, ask for their tags by id; above, by the same filter


def version_query() -> Select[tuple[object, ...]]:
    """Select versions, with the columns of their adapter and artifact."""
    return (
        select(
            versions,
            adapters.c.name,
            adapters.c.description,
            artifacts.c.method,
            artifacts.c.rank,
            artifacts.c.base_id,
        )
        .join(adapters, adapters.c.id == versions.c.adapter_id)
        .join(artifacts, artifacts.c.digest == versions.c.digest)
    )


def read_versions(connection: Connection, query: Select[tuple[object, ...]]) -> list[Version]:
    """Run a query made from `version_query`, and gather aliases, tags, metrics and bases in one query each."""
    rows = connection.execute(query).all()
    if not rows:
        return []
    ids = [row.id for row in rows]
    named = _by_version(
        connection, select(aliases.c.version_id, aliases.c.alias), aliases.c.version_id, ids
    )
    tagged = _by_version(connection, select(tags.c.version_id, tags.c.tag), tags.c.version_id, ids)
    measured = _by_version(
        connection,
        select(metrics.c.version_id, metrics.c.name, metrics.c.value),
        metrics.c.version_id,
        ids,
    )
    known = read_bases(connection, sorted({row.base_id for row in rows}))
    return [
        Version(
            row.name,
            row.number,
            row.digest,
            row.method,
            row.rank,
            known[row.base_id],
            row.created,
            row.author,
            row.message,
            row.origin,
            tuple(sorted(r[1] for r in named[row.id])),
            tuple(sorted(r[1] for r in tagged[row.id])),
            {r[1]: r[2] for r in sorted(measured[row.id])},
            row.description,
        )
        for row in rows
    ]


def read_bases(connection: Connection, ids: Sequence[int]) -> dict[int, BaseIdentity]:
    """The base identities of these rows."""
    few = len(ids) <= _FEW
    query = select(bases).where(bases.c.id.in_(ids)) if few else select(bases)
    level_query = select(base_levels).order_by(base_levels.c.kind)
    levels: dict[int, list[Level]] = defaultdict(list)
    for row in connection.execute(
        level_query.where(base_levels.c.base_id.in_(ids)) if few else level_query
    ):
        levels[row.base_id].append(Level(row.value, row.measured))
    return {
        row.id: BaseIdentity(
            row.name,
            tuple(levels[row.id]),
            _quantised(row.quantised),
            row.derived_from,
            row.checked,
        )
        for row in connection.execute(query)
    }


def write_base(connection: Connection, base: BaseIdentity) -> int:
    """The id of the row of exactly this base, written if it does not exist."""
    key = digest_of(base.to_json())
    known = connection.execute(select(bases.c.id).where(bases.c.key == key)).scalar()
    if known is not None:
        return int(known)
    quantised = canonical_json(asdict(base.quantised)) if base.quantised else None
    inserted = connection.execute(
        bases.insert().values(
            key=key,
            name=base.name,
            quantised=quantised,
            derived_from=base.derived_from,
            checked=base.checked,
        )
    ).inserted_primary_key
    assert inserted is not None
    for level in base.levels:
        connection.execute(
            base_levels.insert().values(
                base_id=inserted[0], kind=level.kind, value=level.value, measured=level.measured
            )
        )
    return int(inserted[0])


def write_artifact(connection: Connection, manifest: Manifest) -> None:
    """Write the rows of an artifact: itself, its files and its parents, unless they exist."""
    known = select(artifacts.c.digest).where(artifacts.c.digest == manifest.digest)
    if connection.execute(known).first() is not None:
        return
    connection.execute(
        artifacts.insert().values(
            digest=manifest.digest,
            method=manifest.method,
            rank=manifest.rank,
            base_id=write_base(connection, manifest.base),
            manifest=canonical_json(manifest.to_json()),
        )
    )
    connection.execute(
        files.insert(),
        [
            {"digest": manifest.digest, "path": f.path, "size": f.size, "sha256": f.sha256}
            for f in manifest.files + manifest.extras
        ],
    )
    if manifest.parents:
        connection.execute(
            lineage.insert(),
            [
                {
                    "child": manifest.digest,
                    "position": i,
                    "parent": p.digest,
                    "weight": p.weight,
                    "role": p.role,
                    "label": p.label,
                }
                for i, p in enumerate(manifest.parents)
            ],
        )


def _by_version(
    connection: Connection, query: Select[Any], column: ColumnElement[int], ids: Sequence[int]
) -> Mapping[int, list[Any]]:
    rows: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(query.where(column.in_(ids)) if len(ids) <= _FEW else query):
        rows[row.version_id].append(row)
    return rows


def _quantised(text: str | None) -> Quantisation | None:
    return Quantisation(**json.loads(text)) if text else None
