"""`Workspace`: the object users hold. It joins catalogue, store, registry and configuration.

Its verbs are a few lines each; the work stands in the module of the same name. It alone opens the
registry, and only when a verb needs it: a merge of two folders into a third touches no database.
"""

from __future__ import annotations

import shutil
import warnings
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Self

from adaptkit import identity, refs
from adaptkit.adapter import MANIFEST, Adapter
from adaptkit.admission import admit_next, admit_together, best_known
from adaptkit.errors import BadReference, BaseMismatch, MissingExtra, NotFound, Refused, StoreError
from adaptkit.extend import Bundle, no_progress
from adaptkit.files import atomic_write, explained
from adaptkit.folders import empty_target, pretty_json, rename_into, staging
from adaptkit.home import FOLDER, Home
from adaptkit.intake import Base, declared_base, prepare
from adaptkit.manager import Plugins
from adaptkit.places import Places
from adaptkit.results import Added, Logged, Merged, Pushed, Shown, Verified
from adaptkit.store import Store
from adaptkit.types import (
    BaseIdentity,
    Delete,
    Event,
    Merge,
    MoveAlias,
    Parent,
    PlacedVersion,
    Placement,
    Publish,
    Sameness,
    Severity,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from adaptkit.extend import Progress, StorageBackend
    from adaptkit.home import Config
    from adaptkit.intake import Intake
    from adaptkit.merge import Source
    from adaptkit.types import Action, AliasMove, Manifest, Verdict, Version
    from adaptkit_registry import Registry

    Watch = Callable[[str, int | None], AbstractContextManager[Progress]]


def nobody_watches(_what: str, _total: int | None) -> AbstractContextManager[Progress]:
    """Progress for callers that show none."""
    return nullcontext(no_progress)


def warn_in_python(text: str) -> None:
    """What adaptkit noticed, as a Python warning."""
    warnings.warn(text, stacklevel=4)


class Workspace:
    """A home with its adapters. Open one with `Workspace.open()`; use it in a `with`, or close it."""

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
        path = Path(folder).expanduser().absolute()
        if path.exists() and not path.is_dir():
            raise StoreError(f"cannot make a workspace in {folder}", why="it is a file", fix="give a folder")
        workspace = cls.open(path / FOLDER, **how)
        workspace.home.create()
        workspace.registry  # noqa: B018  (makes the database, so that a home that exists is whole)
        return workspace

    @cached_property
    def config(self) -> Config:
        """What `config.toml` says, read once."""
        return self.home.read_config()

    @property
    def places(self) -> Places:
        """Opens URLs and remotes."""
        return Places(self.plugins, self.config)

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

    # ------------------------------------------------------------ adding and looking

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
    ) -> Added:
        """Take in an adapter folder as the next version of `name`; `created` is False when it already is the latest."""
        refs.check_name(name)
        if alias is not None:
            refs.check_alias(alias)
        folder = Path(path).expanduser()
        with staging(self._tmp) as work:
            intake = self._intake(folder, base, work, include=include, allow_pickle=allow_pickle, force=force)
            return self._register(intake, name, message=message, alias=alias, new_version=new_version, origin="added")

    def list(self, *, base: str | None = None, method: str | None = None, every: bool = False) -> tuple[Version, ...]:
        """The latest version of each name (or `every` version), filtered by base and method."""
        find = self.registry.versions if every else self.registry.latest_versions
        found = tuple(find(method=method))
        if base is None:
            return found
        wanted = self.base(base).identity
        return tuple(v for v in found if identity.compare(v.base, wanted).sameness in _FITTING
                     or (not wanted.levels and v.base.name == wanted.name))  # fmt: skip

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
        refs.check_name(name)
        return Logged(tuple(reversed(self.registry.versions(name=self.version(name).name))),
                      tuple(self.registry.alias_history(name)))  # fmt: skip

    def path(self, ref: str) -> Path:
        """A verified PEFT directory of a version, for `from_pretrained`, vLLM or diffusers. Only read from it."""
        return self.store.tree(self.version(ref).digest)

    def load(self, ref: str, model: Any, **how: Any) -> Any:
        """The version loaded by PEFT onto `model`."""
        try:
            from peft import PeftModel
        except ImportError as error:
            raise MissingExtra(f"cannot load '{ref}' onto a model", "train") from error
        return PeftModel.from_pretrained(model, self.path(ref), **how)

    def verify(self, ref: str | None = None) -> Verified:
        """Hash one version's files again, or those of every artifact in the store and the registry."""
        digests = [self.version(ref).digest] if ref else sorted(
            {v.digest for v in self.registry.versions()} | set(self.store.digests()))  # fmt: skip
        sound, damaged = [], []
        with self._watch("verifying", len(digests)) as step:
            for digest in digests:
                try:
                    self.store.verify(digest)
                    sound.append(digest)
                except StoreError as error:
                    damaged.append(str(error))
                step(1)
        return Verified(tuple(sound), tuple(damaged))

    # ------------------------------------------------------------ naming

    def note(self, ref: str, *, message: str | None = None, tags: Sequence[str] = (),
             metrics: Mapping[str, float] | None = None) -> Version:  # fmt: skip
        """Write down what was learned of a version later: a message, tags, metrics."""
        version = self.version(ref)
        noted = self.registry.annotate(version.name, version.number, message=message, tags=tuple(tags),
                                       metrics=metrics or {}, author=self.config.author)  # fmt: skip
        self._emit("noted", noted.ref, noted.digest)
        return noted

    def alias(self, name: str, alias: str, number: int | None, *, expect: int | None = -1) -> AliasMove:
        """Point an alias at a version (None drops it); `expect` (a number, or None for "not there") makes it a swap."""
        refs.check_name(name)
        refs.check_alias(alias)
        old = self.registry.aliases(name).get(alias)
        self._review(MoveAlias(name, alias, old, number))
        compare = {} if expect == -1 else {"expect": expect}
        move = self.registry.move_alias(name, alias, number, author=self.config.author, **compare)
        self._emit("alias-moved", f"{name}@{alias}", detail={"old": move.old, "new": move.new})
        return move

    def rollback(self, name: str, alias: str) -> AliasMove:
        """Point an alias at where it pointed before its last move."""
        moves = [m for m in self.registry.alias_history(refs.check_name(name), alias) if m.alias == alias]
        if not moves:
            raise NotFound(f"alias of {name}", alias, self.registry.aliases(name))
        if moves[-1].old is None:
            raise Refused(f"cannot roll back {name}@{alias}", why="it has pointed nowhere before",
                          fix=f"adaptkit alias {name} {alias} VERSION")  # fmt: skip
        return self.alias(name, alias, moves[-1].old, expect=moves[-1].new)

    def remove(self, ref: str) -> Version:
        """Move a version to the trash; refused while an alias or a descendant points at it."""
        version = self.version(ref)
        self._review(Delete((version,)))
        self.registry.delete(version.name, version.number, author=self.config.author)
        self._emit("deleted", version.ref, version.digest)
        return version

    def restore(self, ref: str) -> Version:
        """Take a version out of the trash, under the number it had."""
        parsed = refs.parse(ref)
        if not isinstance(parsed, refs.NameRef) or not parsed.selector or parsed.selector.kind != "number":
            raise BadReference(f"cannot restore '{ref}'", why="a version in the trash is named by its number",
                               fix="for example: adaptkit restore naval@3")  # fmt: skip
        version = self.registry.restore(parsed.name, parsed.selector.number, author=self.config.author)
        self._emit("restored", version.ref, version.digest)
        return version

    def trash(self) -> tuple[Version, ...]:
        """The versions that `restore` can bring back."""
        return tuple(self.registry.trash())

    # ------------------------------------------------------------ merging

    def merge(
        self,
        sources: Sequence[str],
        *,
        name: str | None = None,
        out: str | os.PathLike[str] | None = None,
        strategy: str = "linear",
        message: str = "",
        alias: str | None = None,
        force: bool = False,
        new_version: bool = False,
        allow_pickle: bool = False,
        workers: int | None = None,
        **choices: Any,
    ) -> Merged:
        """Merge `REF[=W]…` into the next version of `name`, or into the folder `out` without registering.

        `choices` are those of `recipe.resolve`: space, params, rank, seed, dtype, extras, missing, normalize.
        """
        from adaptkit import merge, recipe

        if (name is None) == (out is None):
            raise BadReference("a merge goes to one place", why="give either a name or a folder",
                               fix="--name NAME registers it, --out DIR writes a folder")  # fmt: skip
        if name is not None:
            refs.check_name(name)
        target = None if out is None else empty_target(Path(out))
        plan = self.plugins.strategy(strategy)
        weighted = [refs.split_weight(text) for text in sources]
        with ExitStack() as stack, staging(self._tmp if target is None else target.parent) as work:
            opened = [self._source(text, work, stack, allow_pickle=allow_pickle) for text, _ in weighted]
            parents = [Parent(source.digest, weight, "merged", text)
                       for (source, _), (text, weight) in zip(opened, weighted, strict=True)]  # fmt: skip
            made = recipe.resolve(plan, parents, **choices)
            facts = admit_together([(p.label, base) for p, (_, base) in zip(parents, opened, strict=True)], force=force)
            for text in (*facts.get("forced", ()), *facts.get("warnings", ())):
                self.notify(text)
            self._review(Merge(made.sources, tuple(base for _, base in opened), made.canonical(), name))
            folder = work / "merged"
            folder.mkdir()
            with self._watch("merging", None) as step:
                report = merge.run(made, plan, [source for source, _ in opened], folder, workers=workers,
                                   done=lambda *_: step(1))  # fmt: skip
            facts["loss"] = {"error": report.error.total, "from_sum": report.from_sum, "dropped": list(report.dropped)}
            facts["made_with"] = merge.machine()
            base = Base(best_known([base for _, base in opened]))
            intake = self._describe(folder, base, work, method=opened[0][0].method.name)
            manifest = replace(intake.manifest, parents=made.sources, recipe=made.canonical(), facts=facts)
            intake = replace(intake, manifest=manifest)
            if target is not None:
                atomic_write(folder / MANIFEST, pretty_json(manifest.to_json()))
                rename_into(folder, target)
                return Merged(report, made, manifest, out=target)
            assert name is not None
            added = self._register(intake, name, message=message, alias=alias, new_version=new_version, origin="merged")
            return Merged(report, made, manifest, added.version, added.created)

    # ------------------------------------------------------------ sharing

    def export(self, ref: str, out: str | os.PathLike[str]) -> Path:
        """Copy a version into a folder of its own, with its README and `adaptkit.json`."""
        target = empty_target(Path(out))
        version = self.version(ref)
        tree, manifest = self.store.tree(version.digest), self._manifest(version)
        with staging(self._tmp if target is None else target.parent) as work:
            folder = work / "copy"
            with explained("write", folder):
                shutil.copytree(tree, folder, copy_function=shutil.copyfile)
            atomic_write(folder / MANIFEST, pretty_json(manifest.to_json()))
            rename_into(folder, target)
        return target

    def push(self, ref: str, to: str) -> Pushed:
        """Publish a version at a URL or in a named remote; a digest that is there already sends nothing."""
        from adaptkit import publish

        parsed = refs.parse(ref)
        version = self.version(ref)
        place = self.places.to_push(to, version.name)
        self.store.verify(version.digest)
        manifest = self._manifest(version)
        self._review(Publish(version, manifest, place.url))
        paths = {entry.path: self.store.blob(entry.sha256) for entry in manifest.files + manifest.extras}
        placed = PlacedVersion(version.number, manifest, version.name, version.message, version.author)
        alias = parsed.selector.value if isinstance(parsed, refs.NameRef) and parsed.selector \
            and parsed.selector.kind == "alias" else None  # fmt: skip
        size = sum(entry.size for entry in manifest.files)
        with self._watch(f"pushing {version.ref}", size) as progress:
            receipt = publish.push(place, Bundle(placed, paths), progress, alias=alias)
        self.registry.record_placement(Placement(place.url, receipt.number, receipt.digest, self._now()),
                                       author=self.config.author, detail=asdict(receipt))  # fmt: skip
        self._emit("published", version.ref, version.digest, asdict(receipt))
        return Pushed(version, receipt)

    def pull(self, source: str, *, name: str | None = None, alias: str | None = None,
             new_version: bool = False) -> Added:  # fmt: skip
        """Fetch a version from a URL or `REMOTE:NAME`, verify every byte, and register it."""
        from adaptkit import publish

        place, selector = self.places.to_pull(source)
        placed = publish.choose(place, selector)
        name = refs.check_name(name or placed.name or place.url.rstrip("/").rpartition("/")[2])
        return self._take(place, placed, name, origin="pulled", alias=alias, new_version=new_version)

    def rebuild(self, source: str) -> tuple[Added, ...]:
        """Register every version of a place, or of every adapter in a remote, under the number it has there."""
        from adaptkit import publish

        root = self.places.root(source)
        places = [self.places.open(f"{root.url}/{name}") for name in root.names()] or [root]
        return tuple(
            self._take(place, placed, placed.name or place.url.rpartition("/")[2], origin="rebuilt", new_version=True)
            for place in places
            for placed in publish.placed_versions(place)
        )

    # ------------------------------------------------------------ bases

    def base(self, ref: str) -> Base:
        """A base by path, name or level (`tm1:…`); measured when it is a folder, with its tensors' shapes."""
        folder = Path(ref).expanduser()
        if folder.is_dir():
            return self._measured(folder)
        if "/" in ref and ref.startswith((".", "/", "~")):
            raise NotFound("base folder", ref, (), fix="check the path for a typo")
        known = [known for known, _ in self.registry.bases()]
        found = [b for b in known if ref in {b.name, *(level.value for level in b.levels)}]
        if not found:
            raise NotFound("base", ref, [b.name for b in known if b.name], fix="give the model's folder: --base DIR")
        return Base(best_known(found))

    def bases(self) -> tuple[tuple[BaseIdentity, int], ...]:
        """Every base known, with the number of versions made for it."""
        return tuple(self.registry.bases())

    def compare_bases(self, one: str, other: str) -> Verdict:
        """Whether two bases are one, and why; with both folders at hand, which tensors differ."""
        first, second = self.base(one).identity, self.base(other).identity
        folders = [Path(ref).expanduser() for ref in (one, other)]
        if not all(folder.is_dir() for folder in folders):
            return identity.compare(first, second)
        hashes = [identity.tensor_hashes(folder, self.home.cache) for folder in folders]
        return identity.compare(first, second, tensors=(hashes[0], hashes[1]))

    def verify_base(self, ref: str, base: str, *, force: bool = False) -> Version:
        """Measure the base of a version that was unverified, check that the modules fit it, and record it."""
        version = self.version(ref)
        found = self._measured(Path(base).expanduser())
        verdict = identity.compare(version.base, found.identity)
        if verdict.sameness is Sameness.DIFFERENT and not force:
            raise BaseMismatch(f"{version.ref} is for another base than {base}", why=verdict.reason)
        with staging(self._tmp) as work:
            self._describe(self.path(ref), found, work, force=force)
        known = replace(found.identity, name=version.base.name or found.identity.name)
        self.registry.attach_base(version.digest, known, author=self.config.author)
        self._emit("base-added", version.ref, version.digest)
        return self.version(ref)

    # ------------------------------------------------------------ how

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="microseconds")

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

    def _measured(self, folder: Path) -> Base:
        with self._watch(f"hashing {folder.name}", None) as progress:
            found = identity.measure(folder, cache=self.home.cache, progress=progress)
        return Base(found, identity.base_shapes(folder))

    def _base_of(self, adapter: Adapter, given: str | None) -> Base:
        """The base in hand: the one given, else the local path the adapter names, else its name alone."""
        said, local = declared_base(adapter.config, adapter.path)
        hub_name = said if local is None else None
        if given is None and local is not None and local.is_dir():
            given = str(local)
        if given is None:
            return Base(BaseIdentity(hub_name or (Path(said).name if said else None)))
        base = self.base(given)
        return replace(base, identity=replace(base.identity, name=hub_name or base.identity.name))

    def _intake(self, folder: Path, base: str | None, work: Path, *, include: Sequence[str] = (),
                allow_pickle: bool = False, force: bool = False) -> Intake:  # fmt: skip
        with Adapter.open(folder, allow_pickle=allow_pickle) as adapter:
            return self._prepare(adapter, self._base_of(adapter, base), work, include=include, force=force)

    def _describe(self, folder: Path, base: Base, work: Path, *, force: bool = False, method: str = "") -> Intake:
        with Adapter.open(folder) as adapter:
            return self._prepare(adapter, base, work, force=force, method=method)

    def _prepare(self, adapter: Adapter, base: Base, work: Path, *, include: Sequence[str] = (),
                 force: bool = False, method: str = "") -> Intake:  # fmt: skip
        adapter.base_shapes = base.shapes
        reader = self.plugins.method(method) if method else self.plugins.method_for(adapter)
        intake = prepare(adapter, reader, base, created=self._now(), staging=work, include=include, force=force)
        for text in intake.warnings:
            self.notify(f"{adapter.label}: {text}")
        return intake

    def _register(self, intake: Intake, name: str, *, message: str = "", alias: str | None = None,
                  new_version: bool = False, origin: str, number: int | None = None) -> Added:  # fmt: skip
        """Blobs, manifest, then the row; whatever happens in between, the old state or the new one stands."""
        if (why := self.plugins.disabled) and "plugins_off" not in intake.manifest.facts:
            facts = dict(intake.manifest.facts) | {"plugins_off": sorted(why)}
            intake = replace(intake, manifest=replace(intake.manifest, facts=facts))
        manifest = self.store.add(intake.manifest, intake.sources)
        version, created = self.registry.add_version(
            name, manifest, message=message, author=self.config.author, origin=origin, alias=alias, number=number,
            admit=None if new_version else lambda latest: admit_next(name, latest, manifest),
        )  # fmt: skip
        if created:
            self._emit(origin, version.ref, version.digest)
        return Added(version, created, intake.skipped)

    def _source(self, text: str, work: Path, stack: ExitStack, *, allow_pickle: bool) -> tuple[Source, BaseIdentity]:
        """Open one source of a merge: a registered version, a folder, or a place (fetched, then pinned by digest)."""
        from adaptkit import publish
        from adaptkit.merge import Source

        parsed = refs.parse(text)
        if isinstance(parsed, refs.PathRef):
            inner = Path(mkdtemp(dir=work))
            adapter = stack.enter_context(Adapter.open(parsed.path, text, allow_pickle=allow_pickle))
            intake = self._prepare(adapter, self._base_of(adapter, None), inner)
            return Source(adapter, intake.method, intake.manifest.digest), intake.manifest.base
        if isinstance(parsed, (refs.UrlRef, refs.RemoteRef)):
            place, selector = self.places.to_pull(text)
            manifest = publish.fetch(place, publish.choose(place, selector), self.store)
            tree, base = self.store.tree(manifest.digest), manifest.base
        else:
            version = self.version(text)
            tree, base = self.store.tree(version.digest), version.base
        adapter = stack.enter_context(Adapter.open(tree, text))
        method = self.plugins.method_for(adapter)
        method.check(adapter)
        return Source(adapter, method, f"sha256:{tree.name}"), base

    def _take(self, place: StorageBackend, placed: PlacedVersion, name: str, *, origin: str, alias: str | None = None,
              new_version: bool = False) -> Added:  # fmt: skip
        from adaptkit import publish

        size = sum(entry.size for entry in placed.manifest.files)
        with self._watch(f"pulling {name}", size) as progress:
            manifest = publish.fetch(place, placed, self.store, progress)
        version, created = self.registry.add_version(
            name, manifest, message=placed.message, author=placed.author, origin=origin, alias=alias,
            number=placed.number,
            admit=None if new_version else lambda latest: admit_next(name, latest, manifest),
        )  # fmt: skip
        self.registry.record_placement(Placement(place.url, placed.number, manifest.digest, self._now()),
                                       author=self.config.author)  # fmt: skip
        if created:
            self._emit(origin, version.ref, version.digest, {"place": place.url, "number": placed.number})
        return Added(version, created)

    def _review(self, action: Action) -> None:
        """Ask every plugin; all objections are shown, and one that refuses stops the action."""
        objections = self.plugins.review(action)
        for plugin, objection in objections:
            if objection.severity is Severity.WARN:
                self.notify(f"{plugin}: {objection.text}")
        refusals = [f"{plugin}: {o.text}" for plugin, o in objections if o.severity is Severity.REFUSE]
        if refusals:
            raise Refused(f"{type(action).__name__} was refused by a plugin", why="; ".join(refusals))

    def _emit(self, verb: str, subject: str, digest: str = "", detail: Mapping[str, Any] | None = None) -> None:
        facts = dict(detail or {})
        if self.plugins.disabled:
            facts["plugins_off"] = sorted(self.plugins.disabled)
        for text in self.plugins.emit(Event(verb, subject, digest, facts, self._now(), self.config.author)):
            self.notify(text)


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
