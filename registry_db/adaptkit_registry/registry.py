"""`Registry`: each method is one transaction. What it changed, it wrote down as an event in the same one."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import func, select

from adaptkit.errors import BadReference, Conflict, NotFound, Refused
from adaptkit.types import AliasMove, Event, Manifest, Parent, Placement, canonical_json
from adaptkit_registry.opening import WRITE, explained, open_engine
from adaptkit_registry.rows import LIVE, read_bases, read_versions, version_query, write_base
from adaptkit_registry.schema import (
    adapters,
    alias_moves,
    aliases,
    artifacts,
    base_levels,
    bases,
    events,
    files,
    lineage,
    metrics,
    placements,
    tags,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Engine, Select

    from adaptkit.types import BaseIdentity, Version

ANY: Final = -1
"""For `expect`: whatever the alias points at."""


def utc_now() -> str:
    """The time, in the one form the registry writes."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Registry:
    """Adapters, versions, aliases, bases, lineage, placements and events in one database."""

    def __init__(self, engine: Engine, clock: Callable[[], str] = utc_now) -> None:
        self._engine, self._now = engine, clock

    @classmethod
    def open(cls, where: str | Path, clock: Callable[[], str] = utc_now) -> Self:
        """Open a registry by database URL, or by path for SQLite; made or migrated if need be."""
        return cls(open_engine(where), clock)

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ versions

    def add_version(
        self,
        name: str,
        manifest: Manifest,
        *,
        message: str = "",
        author: str = "",
        origin: str = "added",
        alias: str | None = None,
        admit: Callable[[Version], None] | None = None,
        number: int | None = None,
    ) -> tuple[Version, bool]:
        """The next version of `name`; False with the version that already holds this digest.

        `number` is a wish: granted when it is larger than all that were ever used. `admit` sees the latest
        version, inside the transaction, and may raise to refuse.
        """
        with self._writing() as connection:
            adapter_id, next_number = self._adapter(connection, name, create=True)
            live = version_query().where(versions.c.adapter_id == adapter_id, LIVE).order_by(versions.c.number.desc())
            latest = next(iter(read_versions(connection, live.limit(1))), None)
            held = live.where(versions.c.digest == manifest.digest).limit(1)
            same = latest if latest is not None and latest.digest == manifest.digest else None
            if same is None and origin in {"pulled", "rebuilt"}:
                same = next(iter(read_versions(connection, held)), None)
            if same is None:
                if latest is not None and admit is not None:
                    admit(latest)
                number = number if number is not None and number >= next_number else next_number
                self._write_artifact(connection, manifest)
                connection.execute(versions.insert().values(
                    adapter_id=adapter_id, number=number, digest=manifest.digest, message=message, author=author,
                    origin=origin, created=self._now(),
                ))  # fmt: skip
                connection.execute(adapters.update().where(adapters.c.id == adapter_id).values(next_number=number + 1))
                self._record(connection, Event(origin, f"{name}@{number}", manifest.digest, author=author))
            else:
                number = same.number
            if alias is not None:
                self._point(connection, adapter_id, name, alias, number, ANY, author)
            return self._one(connection, name, number), same is None

    def version(
        self, name: str, *, number: int | None = None, alias: str | None = None, digest: str | None = None
    ) -> Version:
        """One live version: by number, alias or digest prefix, else the highest number."""
        with self._reading() as connection:
            adapter_id, _ = self._adapter(connection, name)
            query = version_query().where(versions.c.adapter_id == adapter_id, LIVE).order_by(versions.c.number.desc())
            if number is not None:
                query = query.where(versions.c.number == number)
            elif alias is not None:
                query = query.join(aliases, aliases.c.version_id == versions.c.id).where(
                    aliases.c.adapter_id == adapter_id, aliases.c.alias == alias
                )
            elif digest is not None:
                query = query.where(versions.c.digest.startswith(digest, autoescape=True))
                found = read_versions(connection, query)
                if len({version.digest for version in found}) > 1:
                    raise _ambiguous(digest, found)
            found = read_versions(connection, query.limit(1))
            if not found:
                raise self._missing(connection, adapter_id, name, number, alias, digest)
            return found[0]

    def find_digest(self, prefix: str) -> tuple[Version, ...]:
        """Every live version of the one digest that starts so, oldest first."""
        with self._reading() as connection:
            query = version_query().where(versions.c.digest.startswith(prefix, autoescape=True), LIVE)
            found = read_versions(connection, query.order_by(versions.c.id))
        if not found:
            raise NotFound("artifact with digest", prefix, (), fix="adaptkit list --all --json shows the digests")
        if len({version.digest for version in found}) > 1:
            raise _ambiguous(prefix, found)
        return tuple(found)

    def versions(self, **filters: Any) -> list[Version]:
        """All live versions by name and number; filters are name, method, level_values, base_name, tag."""
        return self._list(_filtered(version_query(), **filters))

    def latest_versions(self, **filters: Any) -> list[Version]:
        """The highest live version of each name; filters as for `versions`."""
        highest = (
            select(versions.c.adapter_id, func.max(versions.c.number).label("number"))
            .where(LIVE)
            .group_by(versions.c.adapter_id)
            .subquery()
        )
        query = version_query().join(
            highest, (highest.c.adapter_id == versions.c.adapter_id) & (highest.c.number == versions.c.number)
        )
        return self._list(_filtered(query, **filters))

    def names(self) -> tuple[str, ...]:
        """Every name that has a live version, sorted."""
        with self._reading() as connection:
            return self._live_names(connection)

    def manifest(self, digest: str) -> Manifest:
        """The facts fixed when an artifact was made."""
        with self._reading() as connection:
            text = connection.execute(select(artifacts.c.manifest).where(artifacts.c.digest == digest)).scalar()
        if text is None:
            raise NotFound("artifact with digest", digest)
        return Manifest.from_json(json.loads(text))

    def annotate(self, name: str, number: int, *, message: str | None = None, tags: Sequence[str] = (),
                 metrics: Mapping[str, float] | None = None, author: str = "") -> Version:  # fmt: skip
        """Replace the message, add tags, set metrics."""
        with self._writing() as connection:
            version_id = self._version_id(connection, name, number)
            if message is not None:
                connection.execute(versions.update().where(versions.c.id == version_id).values(message=message))
            for tag in tags:
                self._replace(connection, "tags", version_id, tag=tag)
            for key, value in (metrics or {}).items():
                self._replace(connection, "metrics", version_id, name=key, value=value)
            detail = {"message": message, "tags": list(tags), "metrics": dict(metrics or {})}
            noted = self._one(connection, name, number)
            self._record(connection, Event("noted", noted.ref, noted.digest, detail, author=author))
            return noted

    def delete(self, name: str, number: int, *, author: str = "") -> None:
        """To the trash; `Refused` while an alias, or a descendant that lives here, points at it."""
        with self._writing() as connection:
            version = self._one(connection, name, number)
            if version.aliases:
                raise Refused(f"cannot remove {version.ref}", why=f"the alias {version.aliases[0]} points at it",
                              fix=f"adaptkit alias {name} {version.aliases[0]} OTHER, then remove it")  # fmt: skip
            elsewhere = self._count_live(connection, version.digest) > 1
            heirs = () if elsewhere else self._children(connection, version.digest)
            if heirs:
                raise Refused(f"cannot remove {version.ref}", why=f"{', '.join(v.ref for v in heirs[:3])} was made from it",
                              fix=f"adaptkit rm {heirs[0].ref} first")  # fmt: skip
            version_id = self._version_id(connection, name, number)
            connection.execute(versions.update().where(versions.c.id == version_id).values(deleted=self._now()))
            self._record(connection, Event("deleted", version.ref, version.digest, author=author))

    def restore(self, name: str, number: int, *, author: str = "") -> Version:
        """Out of the trash, under the number it had."""
        with self._writing() as connection:
            adapter_id, _ = self._adapter(connection, name)
            gone = (versions.c.adapter_id == adapter_id) & versions.c.deleted.is_not(None)
            if not connection.execute(
                versions.update().where(gone, versions.c.number == number).values(deleted=None)
            ).rowcount:
                query = select(versions.c.number).where(gone)
                known = [f"{name}@{found}" for (found,) in connection.execute(query)]
                raise NotFound("version in the trash", f"{name}@{number}", known)
            version = self._one(connection, name, number)
            self._record(connection, Event("restored", version.ref, version.digest, author=author))
            return version

    def trash(self) -> list[Version]:
        """What `restore` can bring back."""
        return self._list(version_query().where(versions.c.deleted.is_not(None)), live=False)

    # ------------------------------------------------------------ aliases

    def move_alias(self, name: str, alias: str, number: int | None, *, expect: int | None = ANY,
                   author: str = "") -> AliasMove:  # fmt: skip
        """Compare-and-swap: `Conflict` unless the alias points at `expect` (None: nowhere; ANY: do not ask)."""
        with self._writing() as connection:
            adapter_id, _ = self._adapter(connection, name)
            return self._point(connection, adapter_id, name, alias, number, expect, author)

    def aliases(self, name: str) -> dict[str, int]:
        """Where each alias of a name points."""
        with self._reading() as connection:
            return self._aliases(connection, self._adapter(connection, name)[0])

    def alias_history(self, name: str, alias: str | None = None) -> tuple[AliasMove, ...]:
        """The moves of a name's aliases, oldest first."""
        with self._reading() as connection:
            adapter_id, _ = self._adapter(connection, name)
            query = select(alias_moves).where(alias_moves.c.adapter_id == adapter_id).order_by(alias_moves.c.id)
            if alias is not None:
                query = query.where(alias_moves.c.alias == alias)
            return tuple(AliasMove(r.alias, r.old, r.new, r.when, r.author) for r in connection.execute(query))

    # ------------------------------------------------------------ lineage, places, bases, events

    def parents(self, digest: str) -> tuple[Parent, ...]:
        """What an artifact was made from, in the order of its recipe."""
        query = select(lineage).where(lineage.c.child == digest).order_by(lineage.c.position)
        with self._reading() as connection:
            return tuple(Parent(r.parent, r.weight, r.role, r.label) for r in connection.execute(query))

    def children(self, digest: str) -> tuple[Version, ...]:
        """The live versions that were made from an artifact."""
        with self._reading() as connection:
            return self._children(connection, digest)

    def record_placement(self, placement: Placement, *, author: str = "", detail: Mapping[str, Any] | None = None,
                         subject: str = "", verb: str = "published") -> None:  # fmt: skip
        """Remember that an artifact lies at a place under a number."""
        with self._writing() as connection:
            key = (placements.c.place == placement.place) & (placements.c.number == placement.number)
            connection.execute(placements.delete().where(key))
            connection.execute(placements.insert().values(
                place=placement.place, number=placement.number, digest=placement.digest, when=placement.when))  # fmt: skip
            told = Event(verb, subject or placement.place, placement.digest, detail or {}, author=author)
            self._record(connection, told)

    def placements(self, digest: str) -> tuple[Placement, ...]:
        """Where else an artifact lies."""
        query = select(placements).where(placements.c.digest == digest).order_by(placements.c.when)
        with self._reading() as connection:
            return tuple(Placement(r.place, r.number, r.digest, r.when) for r in connection.execute(query))

    def bases(self) -> list[tuple[BaseIdentity, int]]:
        """Every base that a live version is for, with the number of such versions."""
        query = (
            select(artifacts.c.base_id, func.count())
            .join(versions, versions.c.digest == artifacts.c.digest)
            .where(LIVE)
            .group_by(artifacts.c.base_id)
        )
        with self._reading() as connection:
            counts = {base_id: count for base_id, count in connection.execute(query)}  # noqa: C416
            known = read_bases(connection, sorted(counts))
        return sorted(((known[i], counts[i]) for i in counts), key=lambda pair: (pair[0].name or "", -pair[1]))

    def attach_base(self, digest: str, base: BaseIdentity, *, author: str = "") -> None:
        """Record what is now known of the base of an artifact."""
        with self._writing() as connection:
            base_id = write_base(connection, base)
            known = artifacts.update().where(artifacts.c.digest == digest).values(base_id=base_id)
            if not connection.execute(known).rowcount:
                raise NotFound("artifact with digest", digest)
            self._record(connection, Event("base-added", base.name or "", digest, base.to_json(), author=author))

    def events(self, *, limit: int | None = None) -> list[Event]:
        """What happened, newest first."""
        query = select(events).order_by(events.c.id.desc()).limit(limit)
        with self._reading() as connection:
            return [Event(r.verb, r.subject, r.digest, json.loads(r.detail), r.when, r.author)
                    for r in connection.execute(query)]  # fmt: skip

    # ------------------------------------------------------------ how

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with explained(self._engine.url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        engine = self._engine.execution_options(**{WRITE: True})
        with explained(self._engine.url), engine.begin() as connection:
            yield connection

    def _list(self, query: Select[tuple[object, ...]], *, live: bool = True) -> list[Version]:
        if live:
            query = query.where(LIVE)
        with self._reading() as connection:
            return read_versions(connection, query.order_by(adapters.c.name, versions.c.number))

    def _adapter(self, connection: Connection, name: str, *, create: bool = False) -> tuple[int, int]:
        query = select(adapters.c.id, adapters.c.next_number).where(adapters.c.name == name)
        row = connection.execute(query.with_for_update() if create else query).first()
        if row is not None:
            return row.id, row.next_number
        if not create:
            raise NotFound("adapter", name, self._live_names(connection))
        made = connection.execute(adapters.insert().values(name=name, next_number=1, created=self._now()))
        assert made.inserted_primary_key is not None
        return int(made.inserted_primary_key[0]), 1

    def _live_names(self, connection: Connection) -> tuple[str, ...]:
        query = select(adapters.c.name).distinct().join(versions, versions.c.adapter_id == adapters.c.id).where(LIVE)
        return tuple(name for (name,) in connection.execute(query.order_by(adapters.c.name)))

    def _one(self, connection: Connection, name: str, number: int) -> Version:
        query = version_query().where(adapters.c.name == name, versions.c.number == number, LIVE)
        found = read_versions(connection, query)
        if not found:
            raise self._missing(connection, self._adapter(connection, name)[0], name, number, None, None)
        return found[0]

    def _version_id(self, connection: Connection, name: str, number: int) -> int:
        adapter_id, _ = self._adapter(connection, name)
        query = select(versions.c.id).where(versions.c.adapter_id == adapter_id, versions.c.number == number, LIVE)
        found = connection.execute(query).scalar()
        if found is None:
            raise self._missing(connection, adapter_id, name, number, None, None)
        return int(found)

    def _missing(self, connection: Connection, adapter_id: int, name: str, number: int | None,
                 alias: str | None, digest: str | None) -> NotFound:  # fmt: skip
        if alias is not None:
            return NotFound(f"alias of {name}", alias, self._aliases(connection, adapter_id))
        mine = versions.c.adapter_id == adapter_id
        numbers = [str(n) for (n,) in connection.execute(select(versions.c.number).where(mine, LIVE))]
        if not numbers:
            return NotFound("adapter", name, self._live_names(connection), fix="adaptkit restore lists the trash")
        if digest is not None:
            return NotFound(f"version of {name} with digest", digest, numbers)
        trashed = connection.execute(select(versions.c.id).where(mine, versions.c.number == number)).first()
        return NotFound(f"version of {name}", str(number), numbers,
                        fix=f"it is in the trash: adaptkit restore {name}@{number}" if trashed else "")  # fmt: skip

    def _aliases(self, connection: Connection, adapter_id: int) -> dict[str, int]:
        query = select(aliases.c.alias, versions.c.number).join(versions, versions.c.id == aliases.c.version_id)
        return {alias: number for alias, number in  # noqa: C416
                connection.execute(query.where(aliases.c.adapter_id == adapter_id).order_by(aliases.c.alias))}  # fmt: skip

    def _point(self, connection: Connection, adapter_id: int, name: str, alias: str, number: int | None,
               expect: int | None, author: str) -> AliasMove:  # fmt: skip
        old = self._aliases(connection, adapter_id).get(alias)
        if expect not in {ANY, old}:
            raise Conflict(f"{name}@{alias} was not moved", why=f"it points at {old or 'nothing'}, not at {expect or 'nothing'}",
                           fix=f"look at adaptkit log {name}, then try again")  # fmt: skip
        version_id = None if number is None else self._version_id(connection, name, number)
        move = AliasMove(alias, old, number, self._now(), author)
        if old == number:
            return move
        mine = (aliases.c.adapter_id == adapter_id) & (aliases.c.alias == alias)
        connection.execute(aliases.delete().where(mine))
        if version_id is not None:
            connection.execute(aliases.insert().values(adapter_id=adapter_id, alias=alias, version_id=version_id))
        connection.execute(alias_moves.insert().values(adapter_id=adapter_id, alias=alias, old=old, new=number,
                                                       when=move.when, author=author))  # fmt: skip
        detail = {"old": old, "new": number}
        self._record(connection, Event("alias-moved", f"{name}@{alias}", "", detail, author=author))
        return move

    def _write_artifact(self, connection: Connection, manifest: Manifest) -> None:
        known = select(artifacts.c.digest).where(artifacts.c.digest == manifest.digest)
        if connection.execute(known).first() is not None:
            return
        connection.execute(artifacts.insert().values(
            digest=manifest.digest, method=manifest.method, rank=manifest.rank,
            base_id=write_base(connection, manifest.base), manifest=canonical_json(manifest.to_json())))  # fmt: skip
        connection.execute(files.insert(), [
            {"digest": manifest.digest, "path": f.path, "size": f.size, "sha256": f.sha256}
            for f in manifest.files + manifest.extras])  # fmt: skip
        if manifest.parents:
            connection.execute(lineage.insert(), [
                {"child": manifest.digest, "position": i, "parent": p.digest, "weight": p.weight, "role": p.role,
                 "label": p.label} for i, p in enumerate(manifest.parents)])  # fmt: skip

    def _replace(self, connection: Connection, table: str, version_id: int, **values: Any) -> None:
        target, key = (tags, tags.c.tag) if table == "tags" else (metrics, metrics.c.name)
        mine = (target.c.version_id == version_id) & (key == next(iter(values.values())))
        connection.execute(target.delete().where(mine))
        connection.execute(target.insert().values(version_id=version_id, **values))

    def _count_live(self, connection: Connection, digest: str) -> int:
        query = select(func.count()).select_from(versions).where(versions.c.digest == digest, LIVE)
        return int(connection.execute(query).scalar_one())

    def _children(self, connection: Connection, digest: str) -> tuple[Version, ...]:
        made = select(lineage.c.child).where(lineage.c.parent == digest)
        return tuple(read_versions(connection, version_query().where(versions.c.digest.in_(made), LIVE)))

    def _record(self, connection: Connection, event: Event) -> None:
        connection.execute(events.insert().values(
            verb=event.verb, subject=event.subject, digest=event.digest, detail=canonical_json(dict(event.detail)),
            when=event.when or self._now(), author=event.author))  # fmt: skip


def _filtered(query: Select[tuple[object, ...]], *, name: str | None = None, method: str | None = None,
              level_values: Collection[str] | None = None, base_name: str | None = None,
              tag: str | None = None) -> Select[tuple[object, ...]]:  # fmt: skip
    if name is not None:
        query = query.where(adapters.c.name == name)
    if method is not None:
        query = query.where(artifacts.c.method == method)
    if level_values is not None:
        query = query.where(artifacts.c.base_id.in_(
            select(base_levels.c.base_id).where(base_levels.c.value.in_(level_values))))  # fmt: skip
    if base_name is not None:
        query = query.where(artifacts.c.base_id.in_(select(bases.c.id).where(bases.c.name == base_name)))
    if tag is not None:
        query = query.where(versions.c.id.in_(select(tags.c.version_id).where(tags.c.tag == tag)))
    return query


def _ambiguous(prefix: str, found: Sequence[Version]) -> BadReference:
    listed = ", ".join(f"{v.ref} is {v.digest[:23]}…" for v in found[:4])
    return BadReference(f"'{prefix}' is the start of several digests", why=listed, fix="type more digits")
