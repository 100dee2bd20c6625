"""From rows to the dataclasses of adaptkit.types, without a query per row."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, cast, func, literal_column, null, select, union_all

from adaptkit.types import (
    BaseIdentity,
    Level,
    Manifest,
    Quantisation,
    Version,
    canonical_json,
    digest_of,
)
from adaptkit_registry.database.checked import DamagedRow, Known, decoding, json_object, optional
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
    from collections.abc import Iterator, Sequence

    from sqlalchemy import BindParameter, Connection, Select

LIVE = versions.c.deleted.is_(None)
_other = versions.alias()
_live_of_adapter = (_other.c.adapter_id == adapters.c.id) & _other.c.deleted.is_(None)
HIGHEST = versions.c.number == (
    select(func.max(_other.c.number)).where(_live_of_adapter).scalar_subquery()
)
"""Of a live version: its adapter has none of a higher number. One look into an index for each version."""
HIGHEST_OF_ALL = versions.c.id.in_(
    select(
        select(_other.c.id)
        .where(_live_of_adapter)
        .order_by(_other.c.number.desc())
        .limit(1)
        .scalar_subquery()
    ).select_from(adapters)
)
"""The same, by one look for each adapter that there is."""
_MANY = 500
_NAMED, _TAGGED, _MEASURED = range(3)
_IDS: BindParameter[Sequence[int]] = bindparam("ids", expanding=True)
# Built once: to build a statement takes SQLAlchemy as long as to run it.
_NO_FIGURE = cast(null(), optional(metrics.c.value).type)
_BELONGING = union_all(
    select(literal_column(str(_NAMED)), aliases.c.version_id, aliases.c.alias, _NO_FIGURE).where(
        aliases.c.version_id.in_(_IDS)
    ),
    select(literal_column(str(_TAGGED)), tags.c.version_id, tags.c.tag, _NO_FIGURE).where(
        tags.c.version_id.in_(_IDS)
    ),
    select(
        literal_column(str(_MEASURED)), metrics.c.version_id, metrics.c.name, metrics.c.value
    ).where(metrics.c.version_id.in_(_IDS)),
)
_BASES = (
    select(
        bases,
        optional(base_levels.c.value).label("value"),
        optional(base_levels.c.measured).label("measured"),
    )
    .outerjoin(base_levels, base_levels.c.base_id == bases.c.id)
    .where(bases.c.id.in_(_IDS))
    .order_by(bases.c.id, base_levels.c.kind)
)
_BASE_OF_KEY = select(bases.c.id).where(bases.c.key == bindparam("key"))
_BASE_OF_ARTIFACT = select(artifacts.c.base_id).where(artifacts.c.digest == bindparam("digest"))
_ARTIFACT, _FILE = artifacts.insert(), files.insert()


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
    """Run a query made from `version_query`, and gather what belongs to its versions, some hundreds at a time."""
    rows = connection.execute(query).all()
    if not rows:
        return []
    named: dict[int, list[str]] = defaultdict(list)
    tagged: dict[int, list[str]] = defaultdict(list)
    measured: dict[int, dict[str, float]] = defaultdict(dict)
    for some in batched([row.id for row in rows]):
        for kind, version_id, text, value in connection.execute(_BELONGING, {"ids": some}):
            if kind == _MEASURED:
                measured[version_id][text] = value
            else:
                (named if kind == _NAMED else tagged)[version_id].append(text)
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
            tuple(sorted(named[row.id])),
            tuple(sorted(tagged[row.id])),
            dict(sorted(measured[row.id].items())),
            row.description,
        )
        for row in rows
    ]


def read_bases(connection: Connection, ids: Sequence[int]) -> dict[int, BaseIdentity]:
    """The base identities of these rows."""
    found = Known[int, BaseIdentity]("bases")
    for some in batched(ids):
        for row in connection.execute(_BASES, {"ids": some}):
            known = found.get(row.id) or BaseIdentity(
                row.name, (), _quantised(row.quantised), row.derived_from, row.checked
            )
            if (row.value is None) != (row.measured is None):
                raise DamagedRow("its columns base_levels.value and measured hold one value of two")
            if row.value is not None:
                level = Level(row.value, row.measured)
                known = replace(known, levels=(*known.levels, level))
            found[row.id] = known
    return found


def batched(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """As many ids at a time as a statement takes well."""
    for start in range(0, len(ids), _MANY):
        yield ids[start : start + _MANY]


def write_base(connection: Connection, base: BaseIdentity) -> int:
    """The id of the row of exactly this base, written if it does not exist."""
    key = digest_of(base.to_json())
    known = connection.execute(_BASE_OF_KEY, {"key": key}).scalar()
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


def write_artifact(connection: Connection, manifest: Manifest) -> int:
    """Write the rows of an artifact (itself, its files, its parents) unless they exist; returns the id of its base."""
    digest = manifest.digest
    known = connection.execute(_BASE_OF_ARTIFACT, {"digest": digest}).scalar()
    if known is not None:
        return int(known)
    base_id = write_base(connection, manifest.base)
    connection.execute(
        _ARTIFACT,
        {
            "digest": digest,
            "method": manifest.method,
            "rank": manifest.rank,
            "base_id": base_id,
            "manifest": canonical_json(manifest.to_json()),
        },
    )
    connection.execute(
        _FILE,
        [
            {"digest": digest, "path": f.path, "size": f.size, "sha256": f.sha256}
            for f in manifest.files + manifest.extras
        ],
    )
    if manifest.parents:
        connection.execute(
            lineage.insert(),
            [
                {
                    "child": digest,
                    "position": i,
                    "parent": p.digest,
                    "weight": p.weight,
                    "role": p.role,
                    "label": p.label,
                }
                for i, p in enumerate(manifest.parents)
            ],
        )
    return base_id


def read_manifest(text: str) -> Manifest:
    """The manifest in the text of an artifact's row."""
    with decoding("artifacts.manifest"):
        return Manifest.from_json(json.loads(text))


def _quantised(text: str | None) -> Quantisation | None:
    """How a base was quantised, from the text of its row, under the rules of a manifest."""
    if not text:
        return None
    from adaptkit.types.checks.schema import check_quantised  # defining what it checks takes time

    return Quantisation(**json_object("bases.quantised", text, check_quantised))


def read_detail(text: str) -> dict[str, Any]:
    """What an event records, from the text of its row."""
    from adaptkit.types.checks.schema import check_detail  # defining what it checks takes time

    return json_object("events.detail", text, check_detail)
