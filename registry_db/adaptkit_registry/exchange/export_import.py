"""`ExportImport`: the whole registry as JSON lines, and back, between any two databases.

Notable choices:
- rows are identified by what they mean (an adapter's name, a version's number), never by ids of one database
- files and lineage are not written: they are in the manifests, whose digests are checked on the way in
- the last line counts the others and has their sha256, so a truncated file is refused
- an import is one transaction; existing rows stay as they are, so the same file twice changes nothing the
  second time, and a number that means something else here stops all of it
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from adaptkit.errors import RegistryError, RegistryTooNew, install_line
from adaptkit.types import Event, canonical_json
from adaptkit_registry.database.checked import Known, json_object
from adaptkit_registry.database.engine import HEAD
from adaptkit_registry.database.schema import (
    adapters,
    alias_moves,
    aliases,
    artifacts,
    base_levels,
    base_names,
    bases,
    events,
    metrics,
    pairs,
    placements,
    redirects,
    tags,
    versions,
)
from adaptkit_registry.database.transactions import Transactions, once_more
from adaptkit_registry.exchange.import_lines import EVENT_COLUMNS, MOVE_COLUMNS, Import

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    Line = dict[str, Any]

FORMAT = 1


class ExportImport(Transactions):
    """Writes a registry out, and reads one in."""

    def export_lines(self) -> Iterator[str]:
        """Every line of an export, without line ends, from one state of the database."""
        hashed, count = sha256(), 0
        with self._reading() as connection:
            for line in _lines(connection):
                text = canonical_json(line)
                hashed.update(f"{text}\n".encode())
                count += 1
                yield text
        yield canonical_json({"end": count, "sha256": hashed.hexdigest()})

    @once_more
    def import_lines(
        self,
        lines: Sequence[str],
        *,
        author: str = "",
        source: str = "export",
        check_name: Callable[[str], object] = str,
    ) -> dict[str, int]:
        """Import what `export_lines` wrote, in one transaction; returns how many rows of each kind were new.

        `check_name` raises for a name that no adapter may have: a file comes from anywhere.
        """
        read = _checked(lines, source)
        with self._writing() as connection:
            added = Import(connection, source, check_name).take(read)
            new = {kind: count for kind, count in sorted(added.items()) if count}
            if new:
                self._record(
                    connection, Event("imported", source[-400:], "", dict(new), actor=author)
                )
            return new


def _lines(connection: Connection) -> Iterator[Line]:
    """What a later line names, an earlier one has brought."""
    from adaptkit.types.checks.schema import check_manifest  # defining what it checks takes time

    yield {"adaptkit-registry": FORMAT, "schema": HEAD}
    keys, names = Known[int, str]("bases"), Known[int, str]("adapters")
    yield from _base_lines(connection, keys)
    yield from _adapter_lines(connection, names)
    for row in connection.execute(select(artifacts).order_by(artifacts.c.digest)):
        yield {
            "artifact": row.digest,
            "base": keys[row.base_id],
            "manifest": json_object("artifacts.manifest", row.manifest, check_manifest),
        }
    yield from _version_lines(connection, names)
    for row in connection.execute(select(alias_moves).order_by(alias_moves.c.id)):
        yield {
            "move": names[row.adapter_id],
            **{field: getattr(row, field) for field in MOVE_COLUMNS},
        }
    for row in sorted(connection.execute(select(placements)), key=lambda r: (r.place, r.number)):
        yield {"placement": row.place, "number": row.number, "digest": row.digest, "when": row.when}
    for row in connection.execute(select(events).order_by(events.c.id)):
        yield {"event": row.verb, **{field: getattr(row, field) for field in EVENT_COLUMNS[1:]}}


def _base_lines(connection: Connection, keys: dict[int, str]) -> Iterator[Line]:
    """The bases, their names and what was measured of them; notes each one's key in `keys`."""
    levels: dict[int, list[list[Any]]] = {}
    for row in connection.execute(
        select(base_levels).order_by(base_levels.c.base_id, base_levels.c.kind)
    ):
        levels.setdefault(row.base_id, []).append([row.value, row.measured])
    for row in connection.execute(select(bases).order_by(bases.c.key)):
        keys[row.id] = row.key
        yield {
            "base": row.key,
            "name": row.name,
            "quantised": row.quantised,
            "derived_from": row.derived_from,
            "checked": row.checked,
            "levels": levels.get(row.id, []),
        }
    for row in connection.execute(select(base_names).order_by(base_names.c.name)):
        yield {
            "base_name": row.name,
            "of": keys[row.base_id],
            "author": row.author,
            "when": row.when,
        }
    for row in connection.execute(select(pairs).order_by(pairs.c.fs1)):
        yield {"pair": row.fs1, "tm1": row.tm1, "author": row.author, "when": row.when}


def _adapter_lines(connection: Connection, names: dict[int, str]) -> Iterator[Line]:
    """The adapters, with the names they had; notes each one's name in `names`."""
    former: dict[int, list[list[str]]] = {}
    for row in connection.execute(select(redirects).order_by(redirects.c.name)):
        former.setdefault(row.adapter_id, []).append([row.name, row.when])
    for row in connection.execute(select(adapters).order_by(adapters.c.name)):
        names[row.id] = row.name
        yield {
            "adapter": row.name,
            "next_number": row.next_number,
            "created": row.created,
            "description": row.description,
            "former": former.get(row.id, []),
        }


def _version_lines(connection: Connection, names: Mapping[int, str]) -> Iterator[Line]:
    """The versions with their tags and metrics, then the aliases."""
    tagged: dict[int, list[str]] = {}
    for row in connection.execute(select(tags).order_by(tags.c.tag)):
        tagged.setdefault(row.version_id, []).append(row.tag)
    measured: dict[int, dict[str, float]] = {}
    for row in connection.execute(select(metrics)):
        measured.setdefault(row.version_id, {})[row.name] = row.value
    numbers = Known[int, int]("versions")
    for row in connection.execute(select(versions).order_by(versions.c.id)):
        numbers[row.id] = row.number
        yield {
            "version": names[row.adapter_id],
            "number": row.number,
            "digest": row.digest,
            "message": row.message,
            "author": row.author,
            "origin": row.origin,
            "created": row.created,
            "deleted": row.deleted,
            "tags": sorted(tagged.get(row.id, [])),
            "metrics": measured.get(row.id, {}),
        }
    for row in sorted(
        connection.execute(select(aliases)), key=lambda r: (names[r.adapter_id], r.alias)
    ):
        yield {"alias": row.alias, "of": names[row.adapter_id], "number": numbers[row.version_id]}


def _checked(lines: Sequence[str], source: str) -> list[Line]:
    """The lines of a whole export, parsed; `RegistryError` for anything else."""
    broken = f"cannot import {source}"
    kept = [line for line in lines if line.strip()]
    try:
        read = [json.loads(line) for line in kept]
        first, last = read[0], read[-1]
        known = first["adaptkit-registry"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise RegistryError(
            broken,
            why="it is not a registry export, or only part of one",
            fix="adaptkit registry export FILE writes one",
        ) from error
    if known != FORMAT:
        raise RegistryTooNew(
            broken,
            why=f"it has the format {known}, this version reads {FORMAT}",
            fix=install_line(upgrade=True),
        )
    body = kept[:-1]
    digest = sha256("".join(f"{line.rstrip()}\n" for line in body).encode()).hexdigest()
    if not isinstance(last, dict) or (last.get("end"), last.get("sha256")) != (len(body), digest):
        raise RegistryError(
            broken,
            why="its last line does not count and hash the others: it was cut off or edited",
            fix="export again, and copy the file whole",
        )
    return read[1:-1]
