"""`Holdings`: what a workspace holds (home, plugins, store, registry, configuration), each opened when first needed.

It alone opens the registry, and only when a verb needs it: a merge of two folders into a third touches no
database.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from adaptkit.actions import Severity
from adaptkit.errors import Conflict, Corrupt, NotFound, Refused, StorageError, StoreError
from adaptkit.files import user_path
from adaptkit.home import FOLDER, Home
from adaptkit.manager import Plugins
from adaptkit.places import Places
from adaptkit.store import Store
from adaptkit.types import Event
from adaptkit.watching import nobody_watches, warn_in_python

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from adaptkit.actions import Action
    from adaptkit.bases import Bases
    from adaptkit.extend import StorageBackend
    from adaptkit.home import Config
    from adaptkit.signing.policy import Policy
    from adaptkit.signing.signatures import Kept, Signature
    from adaptkit.sources import Sources
    from adaptkit.types import BaseIdentity, PlacedVersion
    from adaptkit.watching import Watch
    from adaptkit_registry import Registry


class _Pairs(Mapping[str, str]):
    """A table that is read from the registry when something is first looked up in it."""

    def __init__(self, read: Callable[[], dict[str, str]]) -> None:
        self._read = read
        self._table: dict[str, str] | None = None

    def _known(self) -> dict[str, str]:
        if self._table is None:
            self._table = self._read()
        return self._table

    def __getitem__(self, key: str) -> str:
        return self._known()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())


class Holdings:
    """A home and what belongs to it. Close it, or use it in a `with`."""

    def __init__(
        self,
        home: Home,
        plugins: Plugins,
        *,
        notify: Callable[[str], None] = warn_in_python,
        watch: Watch = nobody_watches,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.home, self.plugins = home, plugins
        self.store = Store(home.store)
        self.notify, self._watch, self._clock = notify, watch, clock
        self._registry: Registry | None = None

    @classmethod
    def open(cls, home: str | os.PathLike[str] | None = None, **how: Any) -> Self:
        """The workspace at `home`, else the one in force (`ADAPTKIT_HOME`, `.adaptkit/` upward, user data)."""
        return cls(Home.find(Path(home) if home is not None else None), Plugins.from_environment(), **how)

    @classmethod
    def init(cls, folder: str | os.PathLike[str] = ".", **how: Any) -> Self:
        """Make a workspace in `folder/.adaptkit`, and open it; one that is there is opened as it is."""
        path = user_path(folder).absolute()
        if path.exists() and not path.is_dir():
            raise StoreError(f"cannot make a workspace in {folder}", why="it is a file", fix="give a folder")
        workspace = cls.open(path / FOLDER, **how)
        workspace.create()
        return workspace

    def create(self) -> None:
        """Make the home with all that belongs to it, where it is not there yet."""
        self.home.create()
        self.registry  # noqa: B018  (makes the database, so that a home that exists is whole)

    @cached_property
    def config(self) -> Config:
        """What `config.toml` says, read once."""
        return self.home.read_config()

    @property
    def places(self) -> Places:
        """Opens URLs and remotes."""
        return Places(self.plugins, self.config)

    @property
    def _bases(self) -> Bases:
        from adaptkit.bases import Bases  # reads headers, which a look at the registry does not need

        return Bases(self.home.cache, self._watch, lambda: [base for base, _ in self.registry.bases()],
                     lambda: self.registry.base_names(), self._pairs, self.places)  # noqa: PLW0108  # fmt: skip

    @cached_property
    def _pairs(self) -> Mapping[str, str]:
        """Which tensors (`tm1`) were measured in which files (`fs1`), by anybody here; asked for when first needed."""
        return _Pairs(lambda: {fs1: pair.tm1 for fs1, pair in self.registry.pairs().items()})

    @property
    def _sources(self) -> Sources:
        from adaptkit.sources import Sources  # brings numpy, which a look at the registry does not need

        return Sources(
            self.plugins, self._bases, self.places, self.store, self.notify, self._now, self._tree, self._admit
        )

    def set_remote(self, name: str, url: str | None) -> None:
        """Call the root of places at `url` by a name, or (None) forget it; what is there stays there."""
        if url is None:
            self.config.remote(name)
        else:
            self.places.open(url)
        self.home.set_remote(name, url and url.rstrip("/"))
        del self.config

    @property
    def _tmp(self) -> Path:
        return self.home.path / "tmp"

    @property
    def registry(self) -> Registry:
        """The registry, opened on first use."""
        if self._registry is None:
            from adaptkit_registry import Registry

            if not self.config.registry_url:
                self.home.create()
            self._registry = Registry.open(self.config.registry_url or self.home.database, clock=self._now)
        return self._registry

    def close(self) -> None:
        if self._registry is not None:
            self._registry.close()
            self._registry = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ for the verbs

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="microseconds")

    def _tree(self, digest: str) -> Path:
        """An artifact as a verified folder, fetched from a placement when this store has lost it or never had it."""
        try:
            return self.store.tree(digest)
        except StoreError as error:
            self._bring_back(digest, error)
            return self.store.tree(digest)

    def _present(self, digest: str) -> None:
        """See that an artifact's bytes are here and sound, as `_tree` does."""
        try:
            self.store.verify(digest)
        except StoreError as error:
            self._bring_back(digest, error)

    def _bring_back(self, digest: str, error: StoreError) -> None:
        from adaptkit.returning import bring_back

        placements = self.registry.placements(digest)
        if not placements and (isinstance(error, Corrupt) or not self.config.registry_url):
            raise error
        known = self.registry.versions(digest=digest)
        bring_back(digest, placements, self.places, self.store, known, self.notify)

    @cached_property
    def _policy(self) -> Policy | None:
        """The policy that config.toml names; one that cannot be read lets nothing in."""
        if self.config.policy is None:
            return None
        from adaptkit.signing.policy import Policy

        return Policy.read(self.config.policy)

    @property
    def _signatures(self) -> Kept:
        from adaptkit.signing.signatures import Kept

        return Kept(self.store.root)

    def _admit(self, place: StorageBackend, placed: PlacedVersion, asked: str | None = None) -> tuple[Signature, ...]:
        """The signatures of a version in a place, before a byte of it is fetched; `Refused` when the policy says so."""
        from adaptkit.signing.signatures import KIND, Signature

        try:
            found = tuple(filter(None, map(Signature.parse, place.attached(placed.number, KIND))))
        except (StorageError, StoreError) as error:
            if self._policy is not None:
                raise
            self.notify(f"the signatures of {place.url}@{placed.number} cannot be read: {error.what}")
            return ()
        if self._policy is not None:
            try:
                self._policy.judge(placed, f"{place.url}@{placed.number}", place.url, found, asked)
            except Refused as error:
                if self._policy.require:
                    raise
                self.notify(f"{error.what}: {error.why}")
        return found

    def _review(self, action: Action) -> None:
        """Ask every plugin; all objections are shown, and one that refuses stops the action."""
        objections = self.plugins.review(action)
        for plugin, objection in objections:
            if objection.severity is Severity.WARN:
                self.notify(f"{plugin}: {objection.text}")
        refusals = [f"{plugin}: {o.text}" for plugin, o in objections if o.severity is Severity.REFUSE]
        if refusals:
            raise Refused(f"{type(action).__name__} was refused by a plugin", why="; ".join(refusals))

    def _check_reviews(self) -> None:
        """A review that config.toml names must be there: one that is not made for a slip of the pen protects nobody."""
        there = [record.plugin for record in self.plugins.records() if "review" in record.registered.get("hooks", ())]
        known = {name.rpartition(":")[2].removeprefix("builtin-") for name in there} | set(there)
        for name in (*self.config.reviews.enable, *self.config.reviews.disable):
            if name not in known:
                raise NotFound("review in [review] of config.toml", name, known, fix=f"mend {self.home.config_file}")

    def _learn(self, base: BaseIdentity, author: str = "") -> None:
        """Remember which tensors were measured in which files; a contradiction is told, and changes nothing."""
        files, tensors = base.level("fs1"), base.level("tm1")
        if files is None or tensors is None or not (files.measured and tensors.measured):
            return
        try:
            self.registry.record_pair(files.value, tensors.value, author=author or self.config.author)
        except Conflict as error:
            self.notify(f"{error.what}: {error.why}")
        self.__dict__.pop("_pairs", None)

    def _emit(self, verb: str, subject: str, digest: str = "", detail: Mapping[str, Any] | None = None) -> None:
        facts = dict(detail or {})
        if self.plugins.disabled:
            facts["plugins_off"] = sorted(self.plugins.disabled)
        for text in self.plugins.emit(Event(verb, subject, digest, facts, self._now(), self.config.author)):
            self.notify(text)
