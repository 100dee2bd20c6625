"""`Transfer`: the whole registry as JSON lines, and back, between any two databases.

Notable choices:
- rows are told by what they mean (an adapter's name, a version's number), never by ids of one database
- files and lineage are not written: they are in the manifests, whose digests are checked on the way in
- the last line counts the others and has their sha256, so half a file is never taken for a whole one
- an import is one transaction; what is there already stays as it is, so the same file twice changes nothing the
  second time, and a number that means something else here stops all of it
"""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from adaptkit.errors import Conflict, RegistryError, RegistryTooNew, install_line
from adaptkit.types import BaseIdentity, Event, Level, Manifest, Quantisation, canonical_json
from adaptkit_registry.ledger import Ledger, once_more
from adaptkit_registry.opening import HEAD
from adaptkit_registry.rows import write_base
from adaptkit_registry.schema import (
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    Line = dict[str, Any]

FORMAT = 1
_EVENT = ("verb", "subject", "digest", "detail", "when", "author")
_MOVE = ("alias", "old", "new", "when", "author")


class Transfer(Ledger):
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
        """Take in what `export_lines` wrote: how many rows of each kind were new. All of it, or an error and nothing.

        `check_name` raises for a name that no adapter may have: a file comes from anywhere.
        """
        read = _checked(lines, source)
        with self._writing() as connection:
            added = _Import(connection, source, check_name).take(read, self)
            new = {kind: count for kind, count in sorted(added.items()) if count}
            if new:
                self._record(
                    connection, Event("imported", source[-400:], "", dict(new), author=author)
                )
            return new


def _lines(connection: Connection) -> Iterator[Line]:
    yield {"adaptkit-registry": FORMAT, "schema": HEAD}
    levels: dict[int, list[list[Any]]] = {}
    for row in connection.execute(
        select(base_levels).order_by(base_levels.c.base_id, base_levels.c.kind)
    ):
        levels.setdefault(row.base_id, []).append([row.value, row.measured])
    keys = {}
    for row in connection.execute(select(bases).order_by(bases.c.key)):
        keys[row.id] = row.key
        yield {
            "base": row.key,
            "name": row.name,
            "quantised": row.quantised,
            "derived_from": row.derived_from,
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
    former: dict[int, list[list[str]]] = {}
    for row in connection.execute(select(redirects).order_by(redirects.c.name)):
        former.setdefault(row.adapter_id, []).append([row.name, row.when])
    names = {}
    for row in connection.execute(select(adapters).order_by(adapters.c.name)):
        names[row.id] = row.name
        yield {
            "adapter": row.name,
            "next_number": row.next_number,
            "created": row.created,
            "description": row.description,
            "former": former.get(row.id, []),
        }
    for row in connection.execute(select(artifacts).order_by(artifacts.c.digest)):
        yield {
            "artifact": row.digest,
            "base": keys[row.base_id],
            "manifest": json.loads(row.manifest),
        }
    tagged: dict[int, list[str]] = {}
    for row in connection.execute(select(tags).order_by(tags.c.tag)):
        tagged.setdefault(row.version_id, []).append(row.tag)
    measured: dict[int, dict[str, float]] = {}
    for row in connection.execute(select(metrics)):
        measured.setdefault(row.version_id, {})[row.name] = row.value
    numbers = {}
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
    for row in connection.execute(select(alias_moves).order_by(alias_moves.c.id)):
        yield {"move": names[row.adapter_id], **{field: getattr(row, field) for field in _MOVE}}
    for row in sorted(connection.execute(select(placements)), key=lambda r: (r.place, r.number)):
        yield {"placement": row.place, "number": row.number, "digest": row.digest, "when": row.when}
    for row in connection.execute(select(events).order_by(events.c.id)):
        yield {"event": row.verb, **{field: getattr(row, field) for field in _EVENT[1:]}}


def _checked(lines: Sequence[str], source: str) -> list[Line]:
    """The lines of a whole export, parsed; a sentence for anything else."""
    broken = f"cannot import {source}"
    kept = [line for line in lines if line.strip()]
    try:
        read = [json.loads(line) for line in kept]
        first, last = read[0], read[-1]
        known = first["adaptkit-registry"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise RegistryError(
            broken,
            why="it is no export of a registry, or a part of one",
            fix="adaptkit registry export FILE writes one",
        ) from error
    if known != FORMAT:
        raise RegistryTooNew(
            broken,
            why=f"it has the format {known}, this version reads {FORMAT}",
            fix=install_line(upgrade=True),
        )
    body = kept[:-1]
    found = sha256("".join(f"{line.rstrip()}\n" for line in body).encode()).hexdigest()
    if not isinstance(last, dict) or (last.get("end"), last.get("sha256")) != (len(body), found):
        raise RegistryError(
            broken,
            why="its last line does not count and hash the others: it was cut off or edited",
            fix="export again, and copy the file whole",
        )
    return read[1:-1]


class _Import:
    """One import in its transaction; what is in the database already stays as it is."""

    def __init__(
        self, connection: Connection, source: str, check_name: Callable[[str], object]
    ) -> None:
        self.sql, self.source, self.check_name = connection, source, check_name
        self.new: Counter[str] = Counter()

    def take(self, lines: Iterable[Line], ledger: Transfer) -> Mapping[str, int]:
        self.ledger = ledger
        self.adapters = {row.name: row for row in self.sql.execute(select(adapters))}
        self.ids = {name: row.id for name, row in self.adapters.items()}
        self.former = {row.name: row.adapter_id for row in self.sql.execute(select(redirects))}
        self.bases: dict[str, BaseIdentity] = {}
        self.artifacts = set(self.sql.execute(select(artifacts.c.digest)).scalars())
        self.versions = {
            (row.adapter_id, row.number): row
            for row in self.sql.execute(
                select(versions.c.id, versions.c.adapter_id, versions.c.number, versions.c.digest)
            )
        }
        self.version_ids = {key: row.id for key, row in self.versions.items()}
        self.aliases = {(row.adapter_id, row.alias) for row in self.sql.execute(select(aliases))}
        moves = select(alias_moves.c.adapter_id, *(alias_moves.c[field] for field in _MOVE))
        self.moves = Counter(map(tuple, self.sql.execute(moves)))
        self.placements = set(
            map(tuple, self.sql.execute(select(placements.c.place, placements.c.number)))
        )
        self.events = Counter(
            map(tuple, self.sql.execute(select(*(events.c[field] for field in _EVENT))))
        )
        for number, line in enumerate(lines, start=2):
            try:
                kind = next(kind for kind in _KINDS if kind in line)
                for field, types in _TYPES.items():
                    if field in line and type(line[field]) not in types:
                        raise TypeError(f"'{field}' is {line[field]!r}")  # noqa: TRY301
                getattr(self, f"_{kind}")(line)
            except (StopIteration, KeyError, TypeError, ValueError, AttributeError) as error:
                raise RegistryError(
                    f"cannot import {self.source}",
                    why=f"line {number} is none that an export holds: {error}",
                    fix="export again",
                ) from error
        return self.new

    def _base(self, line: Line) -> None:
        quantised = Quantisation(**json.loads(line["quantised"])) if line["quantised"] else None
        levels = tuple(Level(value, bool(measured)) for value, measured in line["levels"])
        self.bases[line["base"]] = BaseIdentity(
            line["name"], levels, quantised, line["derived_from"]
        )

    def _base_name(self, line: Line) -> None:
        known = write_base(self.sql, self.bases[line["of"]])
        there = self.sql.execute(
            select(base_names.c.base_id).where(base_names.c.name == line["base_name"])
        ).scalar()
        if there is None:
            self._insert(
                "base_names",
                base_names,
                name=line["base_name"],
                base_id=known,
                author=line["author"],
                when=line["when"],
            )
        elif there != known:
            raise Conflict(
                f"cannot import {self.source}",
                why=f"the base name '{line['base_name']}' means another base here",
                fix="adaptkit base alias it to another name first; nothing was changed",
            )

    def _pair(self, line: Line) -> None:
        there = self.sql.execute(select(pairs.c.tm1).where(pairs.c.fs1 == line["pair"])).scalar()
        if there is None:
            self._insert(
                "pairs",
                pairs,
                fs1=line["pair"],
                tm1=line["tm1"],
                author=line["author"],
                when=line["when"],
            )
        elif there != line["tm1"]:
            raise Conflict(
                f"cannot import {self.source}",
                why=f"other tensors were measured in the files {line['pair'][:20]}… here",
                fix="hash them again where they lie: one of the two measured a damaged copy",
            )

    def _adapter(self, line: Line) -> None:
        name = line["adapter"]
        for called in (name, *(former for former, _ in line["former"])):
            self.check_name(called)
        if name in self.former:
            raise Conflict(
                f"cannot import {self.source}",
                why=f"'{name}' leads to another adapter here, which had that name",
                fix="rename one of them first",
            )
        if name not in self.ids:
            self.ids[name] = self._insert(
                "adapters",
                adapters,
                name=name,
                next_number=line["next_number"],
                created=line["created"],
                description=line["description"],
            )
        else:
            mine, there = adapters.c.id == self.ids[name], self.adapters[name]
            changes = {
                "next_number": max(line["next_number"], there.next_number),
                "description": there.description or line["description"],
            }
            if changes != {"next_number": there.next_number, "description": there.description}:
                self.sql.execute(adapters.update().where(mine).values(**changes))
                self.new["adapters"] += 1
        for former, when in line["former"]:
            leads = self.ids.get(former, self.former.get(former))
            if leads not in {None, self.ids[name]}:
                raise Conflict(
                    f"cannot import {self.source}",
                    why=f"'{former}', a former name of {name}, means another adapter here",
                    fix="rename one of them first",
                )
            if leads is None:
                self._insert(
                    "redirects", redirects, name=former, adapter_id=self.ids[name], when=when
                )
                self.former[former] = self.ids[name]

    def _artifact(self, line: Line) -> None:
        digest, manifest = line["artifact"], Manifest.from_json(line["manifest"])
        if manifest.digest != digest:
            raise ValueError(f"the manifest of {digest[:19]}… is that of {manifest.digest[:19]}…")
        if digest in self.artifacts:
            return
        self.ledger._write_artifact(self.sql, manifest)  # noqa: SLF001  (one class in two parts)
        known = write_base(self.sql, self.bases[line["base"]])  # what `base verify` found out later
        self.sql.execute(
            artifacts.update().where(artifacts.c.digest == digest).values(base_id=known)
        )
        self.artifacts.add(digest)
        self.new["artifacts"] += 1

    def _version(self, line: Line) -> None:
        key = (self.ids[line["version"]], line["number"])
        there = self.versions.get(key)
        if there is None:
            fields = ("number", "digest", "message", "author", "origin", "created", "deleted")
            self.version_ids[key] = self._insert(
                "versions", versions, adapter_id=key[0], **{f: line[f] for f in fields}
            )
        elif there.digest != line["digest"]:
            raise Conflict(
                f"cannot import {self.source}",
                why=f"{line['version']}@{line['number']} is {line['digest'][:19]}… there "
                f"and {there.digest[:19]}… here",
                fix="rename one of the two adapters first; nothing was changed",
            )
        owner = self.version_ids[key]
        tagged, measured = set(), set()
        if there is not None:
            tagged = set(
                self.sql.execute(select(tags.c.tag).where(tags.c.version_id == owner)).scalars()
            )
            measured = set(
                self.sql.execute(
                    select(metrics.c.name).where(metrics.c.version_id == owner)
                ).scalars()
            )
        for tag in line["tags"]:
            if tag not in tagged:
                self._insert("tags", tags, version_id=owner, tag=tag)
        for name, value in line["metrics"].items():
            if name not in measured:
                self._insert("metrics", metrics, version_id=owner, name=name, value=value)

    def _alias(self, line: Line) -> None:
        adapter_id = self.ids[line["of"]]
        if (adapter_id, line["alias"]) not in self.aliases:
            self._insert(
                "aliases",
                aliases,
                adapter_id=adapter_id,
                alias=line["alias"],
                version_id=self.version_ids[adapter_id, line["number"]],
            )

    def _move(self, line: Line) -> None:
        adapter_id = self.ids[line["move"]]
        row = (adapter_id, *(line[field] for field in _MOVE))
        if self._is_new(self.moves, row):
            self._insert("moves", alias_moves, adapter_id=adapter_id, **{f: line[f] for f in _MOVE})

    def _placement(self, line: Line) -> None:
        if (line["placement"], line["number"]) not in self.placements:
            self._insert(
                "placements",
                placements,
                place=line["placement"],
                number=line["number"],
                digest=line["digest"],
                when=line["when"],
            )

    def _event(self, line: Line) -> None:
        row = (line["event"], *(line[field] for field in _EVENT[1:]))
        if self._is_new(self.events, row):
            self._insert("events", events, **dict(zip(_EVENT, row, strict=True)))

    @staticmethod
    def _is_new(there: Counter[tuple[Any, ...]], row: tuple[Any, ...]) -> bool:
        """Whether this row is not there yet; one that is there answers for one line of the file."""
        there[row] -= 1
        return there[row] < 0

    def _insert(self, kind: str, table: Any, **values: Any) -> int:
        self.new[kind] += 1
        made = self.sql.execute(table.insert().values(**values)).inserted_primary_key
        return int(made[0]) if made and isinstance(made[0], int) else 0


_KINDS = (
    "artifact",
    "base_name",
    "pair",
    "base",
    "adapter",
    "version",
    "move",
    "alias",
    "placement",
    "event",
)  # the first key that a line has
_TYPES = {
    "number": (int,),
    "next_number": (int,),
    "old": (int, type(None)),
    "new": (int, type(None)),
    "message": (str,),
    "author": (str,),
    "created": (str,),
    "deleted": (str, type(None)),
    "when": (str,),
    "digest": (str,),
    "tags": (list,),
    "metrics": (dict,),
    "description": (str,),
    "alias": (str,),
    "adapter": (str,),
    "version": (str,),
    "placement": (str,),
    "detail": (str,),
    "subject": (str,),
    "event": (str,),
    "origin": (str,),
}
