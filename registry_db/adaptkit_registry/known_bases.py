"""`KnownBases`: the bases of versions, the names of bases, and which files hold which tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import func, select

from adaptkit.errors import Conflict, NotFound
from adaptkit.types import BaseIdentity, Event, digest_of
from adaptkit_registry.database.rows import LIVE, read_bases, write_base
from adaptkit_registry.database.schema import artifacts, base_names, bases, pairs, versions
from adaptkit_registry.database.transactions import Transactions, once_more


@dataclass(frozen=True, slots=True)
class Pair:
    """Files (`fs1`) and the tensors (`tm1`) that `author` measured in them."""

    fs1: str
    tm1: str
    author: str
    when: str


class KnownBases(Transactions):
    """What is known of bases."""

    def bases(self) -> list[tuple[BaseIdentity, int]]:
        """Every base that a live version is for or that has a name here, with the number of such versions."""
        query = (
            select(artifacts.c.base_id, func.count())
            .join(versions, versions.c.digest == artifacts.c.digest)
            .where(LIVE)
            .group_by(artifacts.c.base_id)
        )
        with self._reading() as connection:
            counts = {base_id: count for base_id, count in connection.execute(query)}  # noqa: C416
            named = set(connection.execute(select(base_names.c.base_id)).scalars())
            known = read_bases(connection, sorted(counts.keys() | named))
        found: dict[str, tuple[BaseIdentity, int]] = {}
        for i in known:
            if i in counts or i in named:
                base = replace(known[i], checked=False)  # that is of adapters
                key = digest_of(base.to_json())
                found[key] = (base, counts.get(i, 0) + found.get(key, (base, 0))[1])
        return sorted(found.values(), key=lambda pair: (pair[0].name or "", -pair[1]))

    def known_bases(self) -> tuple[BaseIdentity, ...]:
        """Every base that an artifact was ever for, whether or not it lives, and every one that has a name."""
        with self._reading() as connection:
            return tuple(
                read_bases(
                    connection, list(connection.execute(select(bases.c.id)).scalars())
                ).values()
            )

    @once_more
    def attach_base(self, digest: str, base: BaseIdentity, *, author: str = "") -> None:
        """Record what is now known of the base of an artifact."""
        with self._writing() as connection:
            base_id = write_base(connection, base)
            known = artifacts.update().where(artifacts.c.digest == digest).values(base_id=base_id)
            if not connection.execute(known).rowcount:
                raise NotFound("artifact with digest", digest)
            self._record(
                connection,
                Event("base-added", base.name or "", digest, base.to_json(), actor=author),
            )

    @once_more
    def name_base(
        self, name: str, base: BaseIdentity, *, author: str = "", move: bool = False
    ) -> bool:
        """Name a base; False when it has this name already. The name of another base is moved only with `move`."""
        with self._writing() as connection:
            base_id = write_base(connection, replace(base, checked=False))
            of_name = base_names.c.name == name
            current = connection.execute(select(base_names.c.base_id).where(of_name)).scalar()
            if current == base_id:
                return False
            if current is not None and not move:
                (known,) = read_bases(connection, [current]).values()
                levels = (
                    ", ".join(level.value[:16] + "…" for level in known.levels)
                    or "nothing but its name"
                )
                raise Conflict(
                    f"the base name '{name}' is taken",
                    why=f"it means another base, of which is known: {levels}",
                    fix="choose another name, or --move it",
                )
            connection.execute(base_names.delete().where(of_name))
            connection.execute(
                base_names.insert().values(
                    name=name, base_id=base_id, author=author, when=self._now()
                )
            )
            self._record(connection, Event("base-added", name, "", base.to_json(), actor=author))
            return True

    @once_more
    def forget_base_name(self, name: str, *, author: str = "") -> None:
        """Remove the name of a base."""
        with self._writing() as connection:
            if not connection.execute(
                base_names.delete().where(base_names.c.name == name)
            ).rowcount:
                known = connection.execute(select(base_names.c.name)).scalars()
                raise NotFound("base name", name, known)
            self._record(connection, Event("base-forgotten", name, actor=author))

    def base_names(self) -> dict[str, BaseIdentity]:
        """The bases that have a name here, by name."""
        with self._reading() as connection:
            rows = connection.execute(
                select(base_names.c.name, base_names.c.base_id).order_by(base_names.c.name)
            ).all()
            known = read_bases(connection, sorted({row.base_id for row in rows}))
            return {row.name: known[row.base_id] for row in rows}

    @once_more
    def record_pair(self, fs1: str, tm1: str, *, author: str = "") -> bool:
        """Record that files hold tensors; False when that was known. `Conflict` when other tensors were measured in them."""
        with self._writing() as connection:
            known = connection.execute(select(pairs).where(pairs.c.fs1 == fs1)).one_or_none()
            if known is None:
                connection.execute(
                    pairs.insert().values(fs1=fs1, tm1=tm1, author=author, when=self._now())
                )
                return True
        if known.tm1 != tm1:
            raise Conflict(
                f"the files {fs1[:20]}… cannot hold the tensors {tm1[:20]}…",
                why=f"{known.author or 'an unknown author'} measured {known.tm1[:20]}… in the same files on {known.when[:10]}",
                fix="hash them again where they are stored: one of the two measured a damaged copy",
            )
        return False

    def pairs(self) -> dict[str, Pair]:
        """The measured pairs, by the digest of the files."""
        with self._reading() as connection:
            return {row.fs1: Pair(*row) for row in connection.execute(select(pairs))}
