"""`Registry`: each method is one transaction, and records what it changed as an event in the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, or_, select

from adaptkit.errors import Conflict, NotFound, Refused
from adaptkit.types import AliasMove, Event, Manifest, Version
from adaptkit_registry.database.rows import (
    LIVE,
    read_bases,
    read_manifest,
    read_versions,
    version_query,
    write_artifact,
)
from adaptkit_registry.database.schema import (
    adapters,
    alias_moves,
    artifacts,
    events,
    redirects,
    versions,
)
from adaptkit_registry.database.transactions import ANY, once_more
from adaptkit_registry.events import Events
from adaptkit_registry.exchange.export_import import ExportImport
from adaptkit_registry.known_bases import KnownBases
from adaptkit_registry.maintenance.contradictions import Contradictions
from adaptkit_registry.maintenance.garbage import Garbage
from adaptkit_registry.maintenance.statistics import Statistics
from adaptkit_registry.placements import Placements
from adaptkit_registry.versions.corrections import Corrections
from adaptkit_registry.versions.limits import check_texts, granted
from adaptkit_registry.versions.lineage import LineageQueries
from adaptkit_registry.versions.lookup import Lookup
from adaptkit_registry.versions.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection


# Built once: to build a statement takes SQLAlchemy as long as to run it.
_LATEST = (
    select(versions.c.number, versions.c.digest)
    .where(versions.c.adapter_id == bindparam("adapter_id"), LIVE)
    .order_by(versions.c.number.desc())
    .limit(1)
)
_HELD = (
    select(versions.c.number)
    .where(
        versions.c.adapter_id == bindparam("adapter_id"),
        versions.c.digest == bindparam("digest"),
        LIVE,
    )
    .order_by(versions.c.number.desc())
    .limit(1)
)
_INSERT = versions.insert()
_COUNT = adapters.update().where(adapters.c.id == bindparam("adapter"))


class Registry(
    Lookup,
    Names,
    LineageQueries,
    KnownBases,
    Placements,
    Events,
    Garbage,
    Statistics,
    Contradictions,
    ExportImport,
    Corrections,
):
    """Adapters, versions, aliases, bases, lineage, placements and events in one database."""

    @once_more
    def add_version(
        self,
        name: str,
        manifest: Manifest,
        *,
        message: str = "",
        author: str = "",
        actor: str | None = None,
        origin: str = "added",
        alias: str | None = None,
        admit: Callable[[Version], None] | None = None,
        number: int | None = None,
    ) -> tuple[Version, bool]:
        """The next version of `name`; False with the version that already holds this digest.

        `number` is a wish: granted when it is larger than all that were ever used. `admit` sees the latest
        version, inside the transaction, and may raise to refuse. `author` made the content, `actor` (None: the
        same) registers it.
        """
        actor = author if actor is None else actor
        check_texts(f"{name}: a version", message=message, author=author)
        with self._writing() as connection:
            adapter_id, name, next_number, description = self._adapter(
                connection, name, create=True
            )
            latest = connection.execute(_LATEST, {"adapter_id": adapter_id}).first()
            same = latest.number if latest and latest.digest == manifest.digest else None
            if same is None and latest and origin in {"pulled", "rebuilt"}:
                of_digest = {"adapter_id": adapter_id, "digest": manifest.digest}
                same = connection.execute(_HELD, of_digest).scalar()
            added = None
            if same is None:
                if latest and admit is not None:
                    admit(self._one(connection, name, latest.number))
                number = granted(name, number, next_number)
                base_id = write_artifact(connection, manifest)
                added = Version(
                    name,
                    number,
                    manifest.digest,
                    manifest.method,
                    manifest.rank,
                    read_bases(connection, [base_id])[base_id],
                    self._now(),
                    author,
                    message,
                    origin,
                    description=description,
                )
                connection.execute(
                    _INSERT,
                    {
                        "adapter_id": adapter_id,
                        "number": number,
                        "digest": manifest.digest,
                        "message": message,
                        "author": author,
                        "origin": origin,
                        "created": added.created,
                    },
                )
                connection.execute(_COUNT, {"adapter": adapter_id, "next_number": number + 1})
                self._record(
                    connection,
                    Event(origin, f"{name}@{number}", manifest.digest, author=author, actor=actor),
                )
            else:
                number = same
            if alias is not None:
                self._point(connection, adapter_id, name, alias, number, ANY, actor)
            if added is None or alias is not None:
                return self._one(connection, name, number), added is not None
            return added, True

    def check_addition(
        self,
        name: str,
        digest: str,
        admit: Callable[[Version], None] | None = None,
        *,
        message: str = "",
        author: str = "",
    ) -> None:
        """Raise what `add_version` would, before anything is made or stored for it."""
        check_texts(f"{name}: a version", message=message, author=author)
        with self._reading() as connection:
            named = self._known(connection, name)
            if named is None:
                self._check_case(connection, name)
                return
            if admit is None:
                return
            query = version_query().where(versions.c.adapter_id == named.id, LIVE)
            query = query.order_by(versions.c.number.desc()).limit(1)
            latest = next(iter(read_versions(connection, query)), None)
        if latest is not None and latest.digest != digest:
            admit(latest)

    def names(self) -> tuple[str, ...]:
        """Every name that has a live version, sorted."""
        with self._reading() as connection:
            return self._live_names(connection)

    def manifest(self, digest: str) -> Manifest:
        """The manifest of an artifact, fixed when it was made, but for its extras."""
        with self._reading() as connection:
            text = connection.execute(
                select(artifacts.c.manifest).where(artifacts.c.digest == digest)
            ).scalar()
            if text is None:
                raise NotFound("artifact with digest", digest)
            return read_manifest(text)

    @once_more
    def annotate(
        self,
        name: str,
        number: int,
        *,
        message: str | None = None,
        tags: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        description: str | None = None,
        without_tags: Sequence[str] = (),
        without_metrics: Sequence[str] = (),
        author: str = "",
    ) -> Version:
        """Replace the message, add and remove tags, set and remove metrics.

        `description` is that of the adapter, all its versions.
        """
        check_texts(f"{name}@{number}", message=message or "", author=author)
        with self._writing() as connection:
            version_id = self._version_id(connection, name, number)
            if message is not None:
                connection.execute(
                    versions.update().where(versions.c.id == version_id).values(message=message)
                )
            if description is not None:
                of_adapter = adapters.c.id == self._adapter(connection, name).id
                connection.execute(
                    adapters.update().where(of_adapter).values(description=description)
                )
            for tag in tags:
                self._replace(connection, "tags", version_id, tag=tag)
            for key, value in (metrics or {}).items():
                self._replace(connection, "metrics", version_id, name=key, value=value)
            for kind, gone in (("tags", without_tags), ("metrics", without_metrics)):
                for text in gone:
                    self._take_away(connection, kind, version_id, text)
            detail = {"message": message, "tags": list(tags), "metrics": dict(metrics or {})}
            if taken := [*without_tags, *without_metrics]:
                detail["without"] = taken
            detail |= {} if description is None else {"description": description}
            noted = self._one(connection, name, number)
            self._record(connection, Event("noted", noted.ref, noted.digest, detail, actor=author))
            return noted

    @once_more
    def delete(self, name: str, number: int, *, author: str = "") -> None:
        """To the trash; `Refused` while an alias, or a descendant that lives here, points at it."""
        with self._writing() as connection:
            version = self._one(connection, name, number)
            if version.aliases:
                raise Refused(
                    f"cannot remove {version.ref}",
                    why=f"the alias {version.aliases[0]} points at it",
                    fix=f"adaptkit alias {name} {version.aliases[0]} OTHER, then remove it",
                )
            elsewhere = self._count_live(connection, version.digest) > 1
            children = () if elsewhere else self._children(connection, version.digest)
            if children:
                raise Refused(
                    f"cannot remove {version.ref}",
                    why=f"{', '.join(v.ref for v in children[:3])} was made from it",
                    fix=f"adaptkit rm {children[0].ref} first",
                )
            version_id = self._version_id(connection, name, number)
            connection.execute(
                versions.update().where(versions.c.id == version_id).values(deleted=self._now())
            )
            self._record(connection, Event("deleted", version.ref, version.digest, actor=author))

    @once_more
    def restore(self, name: str, number: int, *, author: str = "") -> Version:
        """Out of the trash, under the number it had."""
        with self._writing() as connection:
            adapter_id, name, *_ = self._adapter(connection, name)
            gone = (versions.c.adapter_id == adapter_id) & versions.c.deleted.is_not(None)
            if not connection.execute(
                versions.update().where(gone, versions.c.number == number).values(deleted=None)
            ).rowcount:
                query = select(versions.c.number).where(gone)
                known = [f"{name}@{found}" for (found,) in connection.execute(query)]
                raise NotFound("version in the trash", f"{name}@{number}", known)
            version = self._one(connection, name, number)
            self._record(connection, Event("restored", version.ref, version.digest, actor=author))
            return version

    def trash(self) -> list[Version]:
        """What `restore` can bring back."""
        return self._list(version_query().where(versions.c.deleted.is_not(None)))

    @once_more
    def rename(self, old: str, new: str, *, author: str = "") -> str:
        """Another name for an adapter; the old one leads to it from now on. Returns the name it had."""
        with self._writing() as connection:
            adapter_id, name, *_ = self._adapter(connection, old)
            if name == new:
                return name
            former = select(redirects.c.adapter_id).where(redirects.c.name == new)
            taken = connection.execute(select(adapters.c.id).where(adapters.c.name == new)).scalar()
            if taken is not None or connection.execute(former).scalar() not in {None, adapter_id}:
                why = (
                    "that name is taken"
                    if taken is not None
                    else "that name leads to an adapter that had it before"
                )
                raise Conflict(f"cannot rename {name} to {new}", why=why, fix="choose another name")
            self._check_case(connection, new, adapter_id)
            connection.execute(redirects.delete().where(redirects.c.name == new))
            connection.execute(
                redirects.insert().values(name=name, adapter_id=adapter_id, when=self._now())
            )
            connection.execute(
                adapters.update().where(adapters.c.id == adapter_id).values(name=new)
            )
            self._record(
                connection, Event("renamed", new, "", {"old": name, "new": new}, actor=author)
            )
            return name

    # ------------------------------------------------------------ aliases

    @once_more
    def move_alias(
        self,
        name: str,
        alias: str,
        number: int | None,
        *,
        expect: int | None = ANY,
        author: str = "",
        rollback: bool = False,
    ) -> AliasMove:
        """Compare-and-swap: `Conflict` unless the alias points at `expect` (None: nowhere; ANY: do not ask)."""
        with self._writing() as connection:
            adapter_id, name, *_ = self._adapter(connection, name)
            return self._point(
                connection, adapter_id, name, alias, number, expect, author, rollback=rollback
            )

    def aliases(self, name: str) -> dict[str, int]:
        """Where each alias of a name points."""
        with self._reading() as connection:
            return self._aliases(connection, self._adapter(connection, name).id)

    def alias_history(self, name: str, alias: str | None = None) -> tuple[AliasMove, ...]:
        """The moves of a name's aliases, oldest first."""
        with self._reading() as connection:
            adapter_id, name, *_ = self._adapter(connection, name)
            query = (
                select(alias_moves)
                .where(alias_moves.c.adapter_id == adapter_id)
                .order_by(alias_moves.c.id)
            )
            if alias is not None:
                query = query.where(alias_moves.c.alias == alias)
            back = self._rollbacks(connection, adapter_id, name)
            return tuple(
                AliasMove(r.alias, r.old, r.new, r.when, r.author, (r.alias, r.when) in back)
                for r in connection.execute(query)
            )

    @staticmethod
    def _rollbacks(connection: Connection, adapter_id: int, name: str) -> set[tuple[str, str]]:
        """Which moves of aliases were rollbacks: the alias and the time of each, from the events."""
        former = select(redirects.c.name).where(redirects.c.adapter_id == adapter_id)
        names = {name, *connection.execute(former).scalars()}
        subject = or_(*(events.c.subject.startswith(f"{n}@", autoescape=True) for n in names))
        query = select(events.c.subject, events.c.when).where(
            events.c.verb == "alias-moved", subject, events.c.detail.contains('"rollback":true')
        )
        return {(r.subject.rpartition("@")[2], r.when) for r in connection.execute(query)}
