"""`Transactions`: the transactions that queries run in, and the parts that several queries share."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, Self, TypeVar

from sqlalchemy import bindparam, func, select

from adaptkit.errors import Conflict, NotFound, Refused
from adaptkit.types import AliasMove, Event, canonical_json
from adaptkit_registry.database.driver_errors import (
    Overtaken,
    database_errors,
    row_errors,
    shown,
)
from adaptkit_registry.database.engine import (
    close_engine,
    empty_engine,
    open_engine,
    to_read,
    to_write,
)
from adaptkit_registry.database.rows import LIVE, read_versions, version_query
from adaptkit_registry.database.schema import (
    adapters,
    alias_moves,
    aliases,
    events,
    metrics,
    redirects,
    tags,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine, Select

    from adaptkit.types import Version

ANY: Final = -1
"""For `expect`: whatever the alias points at."""


def utc_now() -> str:
    """The time, in the one form the registry writes."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _nothing() -> None:
    """No preparation."""


P = ParamSpec("P")
R = TypeVar("R")


def once_more(change: Callable[P, R]) -> Callable[P, R]:
    """Retry a change once, when the database rolled it back because of another one."""

    @wraps(change)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return change(*arguments, **named)
        except Overtaken:
            return change(*arguments, **named)

    return run


# Built once: to build a statement takes SQLAlchemy as long as to run it.
_NAMED = select(adapters.c.id, adapters.c.name, adapters.c.next_number, adapters.c.description)
_BY_NAME = _NAMED.where(adapters.c.name == bindparam("name"))
_BY_FORMER_NAME = _NAMED.join(redirects, redirects.c.adapter_id == adapters.c.id).where(
    redirects.c.name == bindparam("name")
)
_RECORD = events.insert()


class Named(NamedTuple):
    """An adapter's row."""

    id: int
    name: str
    next_number: int
    description: str = ""


class Transactions:
    """A database of adapters. Every change is recorded as an event in the same transaction."""

    def __init__(self, engine: Engine, clock: Callable[[], str] = utc_now) -> None:
        self._engine, self._now = engine, clock
        self._absent: Path | None = None
        self._empty: Engine | None = None
        """What was read before the database was made, which other threads may still be reading."""
        self._making: Callable[[], None] = _nothing
        self._lock = Lock()

    @classmethod
    def open(
        cls,
        where: str | Path,
        clock: Callable[[], str] = utc_now,
        *,
        making: Callable[[], None] | None = None,
    ) -> Self:
        """Open a registry by database URL, or by path for SQLite; made or migrated if need be.

        With `making`, a file that does not exist reads as empty, and is made by the first change,
        after that call.
        """
        if making is None or not isinstance(where, Path) or where.exists():
            return cls(open_engine(where), clock)
        registry = cls(empty_engine(), clock)
        registry._absent, registry._making = where, making
        return registry

    def make(self) -> None:
        """Make the database, where it does not exist yet."""
        with self._lock:
            if self._absent is not None:
                self._making()
                self._engine, self._empty = open_engine(self._absent), self._engine
                self._absent = None

    @property
    def shown(self) -> str:
        """Where the database is, as it may be shown."""
        return str(self._absent) if self._absent else shown(self._engine.url)

    def close(self) -> None:
        close_engine(self._engine)
        if self._empty is not None:
            self._empty.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        if self._absent is not None and self._absent.exists():  # another process made it
            self.make()
        url = self._engine.url
        with row_errors(url), database_errors(url), to_read(self._engine).begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self.make()
        url = self._engine.url
        with row_errors(url), database_errors(url), to_write(self._engine).begin() as connection:
            yield connection

    def _list(self, query: Select[tuple[object, ...]]) -> list[Version]:
        with self._reading() as connection:
            return read_versions(connection, query.order_by(adapters.c.name, versions.c.number))

    def _adapter(self, connection: Connection, name: str, *, create: bool = False) -> Named:
        """The adapter with this name or former name."""
        if (named := self._known(connection, name)) is not None:
            return named
        if not create:
            raise NotFound("adapter", name, self._live_names(connection))
        self._check_case(connection, name)
        inserted = connection.execute(
            adapters.insert().values(name=name, next_number=1, created=self._now())
        )
        assert inserted.inserted_primary_key is not None
        return Named(int(inserted.inserted_primary_key[0]), name, 1)

    @staticmethod
    def _known(connection: Connection, name: str) -> Named | None:
        row = (
            connection.execute(_BY_NAME, {"name": name}).first()
            or connection.execute(_BY_FORMER_NAME, {"name": name}).first()
        )
        return None if row is None else Named(*row)

    @staticmethod
    def _check_case(connection: Connection, name: str, of: int | None = None) -> None:
        """Refuse a name that differs from another's by case only: in some file systems they are one."""
        for table, owner in ((adapters, adapters.c.id), (redirects, redirects.c.adapter_id)):
            # names are ASCII, and SQLite compares them itself much faster than through `lower`
            column = (
                table.c.name.collate("NOCASE")
                if connection.dialect.name == "sqlite"
                else func.lower(table.c.name)
            )
            query = select(table.c.name, owner.label("owner")).where(column == name.lower())
            for row in connection.execute(query):
                if row.name != name and row.owner != of:
                    raise Refused(
                        f"'{name}' cannot name an adapter",
                        why=f"'{row.name}' differs from it by upper and lower case only, "
                        "and in some file systems they are one",
                        fix=f"write {row.name}, or choose another name",
                    )

    def _live_names(self, connection: Connection) -> tuple[str, ...]:
        query = (
            select(adapters.c.name)
            .distinct()
            .join(versions, versions.c.adapter_id == adapters.c.id)
            .where(LIVE)
        )
        return tuple(name for (name,) in connection.execute(query.order_by(adapters.c.name)))

    def _one(self, connection: Connection, name: str, number: int) -> Version:
        named = self._adapter(connection, name)
        query = version_query().where(
            versions.c.adapter_id == named.id, versions.c.number == number, LIVE
        )
        found = read_versions(connection, query)
        if not found:
            raise self._missing(connection, named.id, named.name, number, None, None)
        return found[0]

    def _version_id(self, connection: Connection, name: str, number: int) -> int:
        adapter_id, name, *_ = self._adapter(connection, name)
        query = select(versions.c.id).where(
            versions.c.adapter_id == adapter_id, versions.c.number == number, LIVE
        )
        found = connection.execute(query).scalar()
        if found is None:
            raise self._missing(connection, adapter_id, name, number, None, None)
        return int(found)

    def _missing(
        self,
        connection: Connection,
        adapter_id: int,
        name: str,
        number: int | None,
        alias: str | None,
        digest: str | None,
    ) -> NotFound:
        if alias is not None:
            return NotFound(f"alias of {name}", alias, self._aliases(connection, adapter_id))
        of_adapter = versions.c.adapter_id == adapter_id
        numbers = [
            str(n) for (n,) in connection.execute(select(versions.c.number).where(of_adapter, LIVE))
        ]
        if not numbers:
            return NotFound(
                "adapter",
                name,
                self._live_names(connection),
                fix="adaptkit restore lists the trash",
            )
        if digest is not None:
            return NotFound(f"version of {name} with digest", digest, numbers)
        trashed = connection.execute(
            select(versions.c.id).where(of_adapter, versions.c.number == number)
        ).first()
        return NotFound(
            f"version of {name}",
            str(number),
            numbers,
            fix=f"it is in the trash: adaptkit restore {name}@{number}" if trashed else "",
        )

    def _aliases(self, connection: Connection, adapter_id: int) -> dict[str, int]:
        query = select(aliases.c.alias, versions.c.number).join(
            versions, versions.c.id == aliases.c.version_id
        )
        rows = connection.execute(
            query.where(aliases.c.adapter_id == adapter_id).order_by(aliases.c.alias)
        )
        return {row.alias: row.number for row in rows}

    def _point(
        self,
        connection: Connection,
        adapter_id: int,
        name: str,
        alias: str,
        number: int | None,
        expect: int | None,
        author: str,
        *,
        rollback: bool = False,
    ) -> AliasMove:
        old = self._aliases(connection, adapter_id).get(alias)
        if expect not in {ANY, old}:
            raise Conflict(
                f"{name}@{alias} was not moved",
                why=f"it points at {old or 'nothing'}, not at {expect or 'nothing'}",
                fix=f"look at adaptkit log {name}, then try again",
            )
        version_id = None if number is None else self._version_id(connection, name, number)
        move = AliasMove(alias, old, number, self._now(), author, rollback)
        if old == number:
            return move
        key = (aliases.c.adapter_id == adapter_id) & (aliases.c.alias == alias)
        connection.execute(aliases.delete().where(key))
        if version_id is not None:
            connection.execute(
                aliases.insert().values(adapter_id=adapter_id, alias=alias, version_id=version_id)
            )
        connection.execute(
            alias_moves.insert().values(
                adapter_id=adapter_id,
                alias=alias,
                old=old,
                new=number,
                when=move.when,
                author=author,
            )
        )
        detail = {"old": old, "new": number} | ({"rollback": True} if rollback else {})
        event = Event("alias-moved", f"{name}@{alias}", "", detail, move.when, actor=author)
        self._record(connection, event)
        return move

    def _replace(self, connection: Connection, table: str, version_id: int, **values: Any) -> None:
        target, column = (tags, tags.c.tag) if table == "tags" else (metrics, metrics.c.name)
        key = (target.c.version_id == version_id) & (column == next(iter(values.values())))
        connection.execute(target.delete().where(key))
        connection.execute(target.insert().values(version_id=version_id, **values))

    def _take_away(self, connection: Connection, table: str, version_id: int, value: str) -> None:
        target, column = (tags, tags.c.tag) if table == "tags" else (metrics, metrics.c.name)
        of_version = target.c.version_id == version_id
        if not connection.execute(target.delete().where(of_version, column == value)).rowcount:
            known = connection.execute(select(column).where(of_version)).scalars()
            raise NotFound(f"{table[:-1]} of this version", value, list(known))

    def _count_live(self, connection: Connection, digest: str) -> int:
        query = select(func.count()).select_from(versions).where(versions.c.digest == digest, LIVE)
        return int(connection.execute(query).scalar_one())

    def _record(self, connection: Connection, event: Event) -> None:
        connection.execute(
            _RECORD,
            {
                "verb": event.verb,
                "subject": event.subject,
                "digest": event.digest,
                "detail": canonical_json(dict(event.detail)),
                "when": event.when or self._now(),
                "author": event.author,
                "actor": event.actor,
            },
        )
