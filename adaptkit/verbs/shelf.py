"""Adding adapters and looking at them."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.actions import MoveAlias
from adaptkit.admission import admit_next
from adaptkit.conditions import parse_condition, parse_rank
from adaptkit.errors import BadReference, MissingExtra, NotFound, StoreError
from adaptkit.files import user_path
from adaptkit.folders import staging
from adaptkit.holdings import Holdings
from adaptkit.results import Added, Logged, Shown, Verified
from adaptkit.types import Sameness

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from adaptkit.intake import Intake
    from adaptkit.types import Event, Lineage, Manifest, Quantisation, Version


class Shelf(Holdings):
    """Takes adapters in, and finds them again."""

    def add(
        self,
        path: str | os.PathLike[str],
        name: str,
        *,
        base: str | None = None,
        message: str = "",
        alias: str | None = None,
        include: Sequence[str] = (),
        allow_pickle: bool = False,
        new_version: bool = False,
        force: bool = False,
        dialect: str | None = None,
        quantised: Quantisation | None = None,
    ) -> Added:
        """Take in an adapter folder as the next version of `name`; `created` is False when it already is the latest.

        What kohya's scripts or diffusers wrote is recognised and turned into a PEFT directory; `dialect` says who
        wrote it where the file does not tell. `quantised` says how the base was quantised when it was loaded for
        training (QLoRA): its identity stays that of its files.
        """
        refs.check_name(name)
        if alias is not None:
            refs.check_alias(alias)
        folder = user_path(path)
        with staging(self._tmp) as work:
            intake = self._sources.folder(folder, base, work, include=include, allow_pickle=allow_pickle, force=force,
                                          dialect=dialect, quantised=quantised)  # fmt: skip
            return self._register(intake, name, message=message, alias=alias, new_version=new_version, origin="added")

    def list(self, *, base: str | None = None, method: str | None = None, every: bool = False, rank: str | None = None,
             tag: str | None = None, metrics: Sequence[str] = (), words: Sequence[str] = (),
             team: str | None = None) -> tuple[Version, ...]:  # fmt: skip
        """The latest version of each name (or `every` version), narrowed.

        `rank` is `8` or `>=8`, `metrics` are conditions such as `accuracy>=0.9`, and each of `words` must be found in
        the name, the names it had, the description, the message or a tag.
        """
        find = self.registry.versions if every else self.registry.latest_versions
        fitting = None
        if base is not None:
            wanted = self._bases.find(base).identity
            fitting = [known for known in self.registry.known_bases()
                       if self._bases.same(known, wanted).sameness in _FITTING
                       or (not wanted.levels and known.name == wanted.name)]  # fmt: skip
        return tuple(find(method=method, tag=tag, team=team and refs.check_name(team), words=tuple(words),
                          rank=None if rank is None else parse_rank(rank), fitting=fitting,
                          figures=tuple(parse_condition(text) for text in metrics)))  # fmt: skip

    def version(self, ref: str) -> Version:
        """The registered version that a reference means."""
        parsed = refs.parse(ref)
        if isinstance(parsed, refs.DigestRef):
            return self.registry.find_digest(parsed.prefix)[-1]
        if not isinstance(parsed, refs.NameRef):
            raise BadReference(f"'{ref}' is not a registered adapter", why="it is a place or a path",
                               fix=f"add or pull it first: adaptkit add {ref} --name NAME")  # fmt: skip
        return self._named(parsed)

    def show(self, ref: str) -> Shown:
        """Everything known of one version."""
        version = self.version(ref)
        return Shown(version, self._manifest(version), tuple(self.registry.parents(version.digest)),
                     tuple(self.registry.placements(version.digest)))  # fmt: skip

    def log(self, name: str) -> Logged:
        """The versions of a name, newest first, and the moves of its aliases."""
        name = self.version(refs.check_name(name)).name
        return Logged(tuple(reversed(self.registry.versions(name=name))), tuple(self.registry.alias_history(name)),
                      self.registry.former_names(name))  # fmt: skip

    def events(self, name: str | None = None, *, limit: int | None = None) -> tuple[Event, ...]:
        """What was done to an adapter, under whatever name, or to anything; newest first."""
        names: tuple[str, ...] = ()
        if name is not None:
            refs.check_name(name)
            with suppress(NotFound):  # all its versions may be in the trash
                name = self.version(name).name
            names = (name, *self.registry.former_names(name))
        return tuple(self.registry.events(limit=limit, names=names))

    def lineage(self, ref: str) -> Lineage:
        """Everything a version comes from, across merges, back to the training data where that is known."""
        return self.registry.lineage(self.version(ref).digest)

    def lineages(self, name: str) -> Logged:
        """The log of a name with where each of its versions comes from, for a graph."""
        logged = self.log(name)
        return replace(logged, lineages={v.digest: self.registry.lineage(v.digest) for v in logged.versions})

    def path(self, ref: str) -> Path:
        """A verified PEFT directory of a version, for `from_pretrained`, vLLM or diffusers. Only read from it."""
        return self._tree(self.version(ref).digest)

    def load(self, ref: str, model: Any, **how: Any) -> Any:
        """The version loaded by PEFT onto `model`."""
        try:
            from peft import PeftModel
        except ImportError as error:
            raise MissingExtra(f"cannot load '{ref}' onto a model", "train") from error
        return PeftModel.from_pretrained(model, self.path(ref), **how)

    def verify(self, ref: str | None = None) -> Verified:
        """Hash one version's files again, or those of every artifact in the store and the registry.

        What this store never had, but a placement holds, is no damage.
        """
        digests = [self.version(ref).digest] if ref else sorted(
            {v.digest for v in self.registry.versions()} | set(self.store.digests()))  # fmt: skip
        sound, damaged, elsewhere = [], [], []
        here = set(self.store.digests())
        with self._watch("verifying", len(digests)) as step:
            for digest in digests:
                try:
                    self.store.verify(digest)
                    sound.append(digest)
                except StoreError as error:
                    if digest not in here and self.registry.placements(digest):
                        elsewhere.append(digest)
                    else:
                        damaged.append(str(error))
                step(1)
        return Verified(tuple(sound), tuple(damaged), tuple(elsewhere))

    # ------------------------------------------------------------ for the other verbs

    def _named(self, ref: refs.NameRef) -> Version:
        kind, selector = (ref.selector.kind, ref.selector) if ref.selector else ("", None)
        with _hint_path(ref.name):
            if selector is None:
                return self.registry.version(ref.name)
            if kind == "number":
                return self.registry.version(ref.name, number=selector.number)
            if kind == "digest":
                return self.registry.version(ref.name, digest=selector.value)
            return self.registry.version(ref.name, alias=selector.value)

    def _manifest(self, version: Version) -> Manifest:
        """The manifest with the base as the registry knows it now: `base verify` may have mended it."""
        return replace(self.registry.manifest(version.digest), base=version.base)

    def _review_move(self, name: str, alias: str, number: int | None, *, confirmed: bool = False) -> None:
        """Ask whether an alias may move; `number` is the version about to be made where it is no other."""
        refs.check_alias(alias)
        try:
            old = self.registry.aliases(name).get(alias)
        except NotFound:
            old = None
        self._review(MoveAlias(name, alias, old, number, alias in self.config.protected, confirmed))

    def _register(self, intake: Intake, name: str, *, message: str = "", alias: str | None = None,
                  new_version: bool = False, origin: str, number: int | None = None) -> Added:  # fmt: skip
        """Blobs, manifest, then the row; whatever happens in between, the old state or the new one stands."""
        if (why := self.plugins.disabled) and "plugins_off" not in intake.manifest.facts:
            facts = dict(intake.manifest.facts) | {"plugins_off": sorted(why)}
            intake = replace(intake, manifest=replace(intake.manifest, facts=facts))
        if alias is not None:
            self._review_move(name, alias, self.registry.next_number(name))
        pairs = dict(self._pairs)
        with self.store.working():  # until the row is there, only the lease keeps a gc away
            manifest = self.store.add(intake.manifest, intake.sources)
            version, created = self.registry.add_version(
                name, manifest, message=message, author=self.config.author, origin=origin, alias=alias, number=number,
                admit=None if new_version else lambda latest: admit_next(name, latest, manifest, pairs),
            )  # fmt: skip
        self._learn(manifest.base)
        if created:
            self._emit(origin, version.ref, version.digest)
        return Added(version, created, intake.skipped)


_FITTING = (Sameness.SAME, Sameness.PROBABLY_SAME)


@contextmanager
def _hint_path(name: str) -> Iterator[None]:
    """An unknown name that is a folder here was probably meant as a path."""
    try:
        yield
    except NotFound as error:
        with suppress(OSError):
            if Path(name).is_dir():
                raise NotFound("adapter", name, (), fix=f"there is a folder of that name: ./{name}") from error
        raise
