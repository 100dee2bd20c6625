"""`Import`: one import of a registry's JSON lines, in one transaction of another registry."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from adaptkit.errors import Conflict, RegistryError
from adaptkit.types import BaseIdentity, Level, Manifest, Quantisation
from adaptkit_registry.database.rows import write_artifact, write_base
from adaptkit_registry.database.schema import (
    adapters,
    alias_moves,
    aliases,
    artifacts,
    base_names,
    events,
    metrics,
    pairs,
    placements,
    redirects,
    tags,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy import Connection

    Line = dict[str, Any]

EVENT_COLUMNS = ("verb", "subject", "digest", "detail", "when", "author", "actor")
MOVE_COLUMNS = ("alias", "old", "new", "when", "author")

BROUGHT = ("pulled", "rebuilt")
"""Events whose author made the content, and need not be who ran the command."""
MADE = (*BROUGHT, "added", "merged", "extracted")
"""Events by which content came in, so that it has an author."""


class Import:
    """One import in its transaction; what is in the database already stays as it is."""

    def __init__(
        self, connection: Connection, source: str, check_name: Callable[[str], object]
    ) -> None:
        self.sql, self.source, self.check_name = connection, source, check_name
        self.new: Counter[str] = Counter()

    def take(self, lines: Iterable[Line]) -> Mapping[str, int]:
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
        moves = select(alias_moves.c.adapter_id, *(alias_moves.c[field] for field in MOVE_COLUMNS))
        self.moves = Counter(map(tuple, self.sql.execute(moves)))
        self.placements = set(
            map(tuple, self.sql.execute(select(placements.c.place, placements.c.number)))
        )
        self.events = Counter(
            map(tuple, self.sql.execute(select(*(events.c[field] for field in EVENT_COLUMNS))))
        )
        from adaptkit_registry.exchange.line_schema import checked  # takes time to define

        for number, line in enumerate(lines, start=2):
            try:
                kind = checked(line)
                getattr(self, f"_{kind}")(line)
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                raise RegistryError(
                    f"cannot import {self.source}",
                    why=f"line {number} is not a line of an export: {error}",
                    fix="export again",
                ) from error
        return self.new

    def _base(self, line: Line) -> None:
        quantised = Quantisation(**json.loads(line["quantised"])) if line["quantised"] else None
        levels = tuple(Level(value, bool(measured)) for value, measured in line["levels"])
        before = any(level.measured and level.kind != "as1" for level in levels)
        checked = bool(line.get("checked", before))  # exports of schema 0003 and older lack it
        self.bases[line["base"]] = BaseIdentity(
            line["name"], levels, quantised, line["derived_from"], checked
        )

    def _base_name(self, line: Line) -> None:
        base_id = write_base(self.sql, self.bases[line["of"]])
        known = self.sql.execute(
            select(base_names.c.base_id).where(base_names.c.name == line["base_name"])
        ).scalar()
        if known is None:
            self._insert(
                "base_names",
                base_names,
                name=line["base_name"],
                base_id=base_id,
                author=line["author"],
                when=line["when"],
            )
        elif known != base_id:
            raise Conflict(
                f"cannot import {self.source}",
                why=f"the base name '{line['base_name']}' means another base here",
                fix="adaptkit base alias it to another name first; nothing was changed",
            )

    def _pair(self, line: Line) -> None:
        known = self.sql.execute(select(pairs.c.tm1).where(pairs.c.fs1 == line["pair"])).scalar()
        if known is None:
            self._insert(
                "pairs",
                pairs,
                fs1=line["pair"],
                tm1=line["tm1"],
                author=line["author"],
                when=line["when"],
            )
        elif known != line["tm1"]:
            raise Conflict(
                f"cannot import {self.source}",
                why=f"other tensors were measured in the files {line['pair'][:20]}… here",
                fix="hash them again where they are stored: one of the two measured a damaged copy",
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
            of_adapter, known = adapters.c.id == self.ids[name], self.adapters[name]
            changes = {
                "next_number": max(line["next_number"], known.next_number),
                "description": known.description or line["description"],
            }
            if changes != {"next_number": known.next_number, "description": known.description}:
                self.sql.execute(adapters.update().where(of_adapter).values(**changes))
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
        write_artifact(self.sql, manifest)
        known = write_base(self.sql, self.bases[line["base"]])  # what `base verify` found out later
        self.sql.execute(
            artifacts.update().where(artifacts.c.digest == digest).values(base_id=known)
        )
        self.artifacts.add(digest)
        self.new["artifacts"] += 1

    def _version(self, line: Line) -> None:
        key = (self.ids[line["version"]], line["number"])
        known = self.versions.get(key)
        if known is None:
            fields = ("number", "digest", "message", "author", "origin", "created", "deleted")
            self.version_ids[key] = self._insert(
                "versions", versions, adapter_id=key[0], **{f: line[f] for f in fields}
            )
        elif known.digest != line["digest"]:
            raise Conflict(
                f"cannot import {self.source}",
                why=f"{line['version']}@{line['number']} is {line['digest'][:19]}… in the export "
                f"and {known.digest[:19]}… here",
                fix="rename one of the two adapters first; nothing was changed",
            )
        owner = self.version_ids[key]
        tagged, measured = set(), set()
        if known is not None:
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
        row = (adapter_id, *(line[field] for field in MOVE_COLUMNS))
        if self._is_new(self.moves, row):
            self._insert(
                "moves", alias_moves, adapter_id=adapter_id, **{f: line[f] for f in MOVE_COLUMNS}
            )

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
        if "actor" not in line:  # written before there were two fields
            line["actor"] = "" if line["event"] in BROUGHT else line["author"]
            line["author"] = line["author"] if line["event"] in MADE else ""
        row = (line["event"], *(line[field] for field in EVENT_COLUMNS[1:]))
        if self._is_new(self.events, row):
            self._insert("events", events, **dict(zip(EVENT_COLUMNS, row, strict=True)))

    @staticmethod
    def _is_new(known: Counter[tuple[Any, ...]], row: tuple[Any, ...]) -> bool:
        """Whether this row is new; each row that exists already stands for one line of the file."""
        known[row] -= 1
        return known[row] < 0

    def _insert(self, kind: str, table: Any, **values: Any) -> int:
        self.new[kind] += 1
        inserted = self.sql.execute(table.insert().values(**values)).inserted_primary_key
        return int(inserted[0]) if inserted and isinstance(inserted[0], int) else 0
