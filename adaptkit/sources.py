"""Adapters from wherever they are: opened, recognised by a method, and described as the artifact they are or become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from adaptkit import publish, refs
from adaptkit.adapter import Adapter
from adaptkit.dialects import foreign_file, from_dialect
from adaptkit.errors import BadAdapter
from adaptkit.extend import no_progress
from adaptkit.intake import prepare
from adaptkit.outcome import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    from adaptkit.bases import Bases
    from adaptkit.extend import Progress, StorageBackend
    from adaptkit.intake import Base, Intake
    from adaptkit.manager import Plugins
    from adaptkit.places import Places
    from adaptkit.store import Store
    from adaptkit.types import BaseIdentity, PlacedVersion, Quantisation, Version
    from adaptkit.weights import BaseWeights


@dataclass(frozen=True, slots=True)
class Sources:
    """Opens adapters.

    `notify` hears what was noticed in one, `now` is the time of what becomes of it,
    `tree` answers a registered artifact as a verified folder, `admit` refuses what the policy does not let in.
    """

    plugins: Plugins
    bases: Bases
    places: Places
    store: Store
    notify: Callable[[str], None]
    now: Callable[[], str]
    tree: Callable[[str], Path]
    admit: Callable[[StorageBackend, PlacedVersion, str | None], object]

    def folder(self, folder: Path, base: str | None, work: Path, *, label: str = "",
               allow_pickle: bool = False, dialect: str | None = None, quantised: Quantisation | None = None, **how: Any) -> Intake:  # fmt: skip
        """A folder as the artifact it becomes, its base settled by `Bases.of`; in a dialect, the folder it stands for.

        Errors call it by its label.
        """
        shapes = None if base is None else self.bases.find(base).shapes
        readable, facts = self._in_peft(folder, work, dialect, shapes)
        with Adapter.open(readable, label or str(folder), allow_pickle=allow_pickle) as adapter:
            found = self.bases.of(adapter, base)
            known = (
                found if quantised is None else replace(found, identity=replace(found.identity, quantised=quantised))
            )
            intake = self._prepare(adapter, known, work, **how)
        return replace(intake, manifest=replace(intake.manifest, facts={**intake.manifest.facts, **facts}))

    def made(self, folder: Path, base: Base, work: Path, **how: Any) -> Intake:
        """A folder whose base is known, such as the result of a merge."""
        with Adapter.open(folder) as adapter:
            return self._prepare(adapter, base, work, **how)

    def pulled(self, place: StorageBackend, placed: PlacedVersion, work: Path, *, allow_pickle: bool = False,
               progress: Progress = no_progress) -> Intake:  # fmt: skip
        """What adaptkit did not make, brought from a place and read as the folder that it is; where from is recorded."""
        folder = Path(mkdtemp(dir=work))
        publish.download(place, placed, self.store, folder, progress)
        try:
            intake = self.folder(folder, None, work, label=place.url, allow_pickle=allow_pickle)
        except BadAdapter as error:  # it may name the folder, which nobody will find any more
            what, why, fix = (text.replace(str(folder), place.url) for text in (error.what, error.why, error.fix))
            raise type(error)(what, why=why, fix=fix) from error
        facts = dict(placed.manifest.facts) | dict(intake.manifest.facts)
        return replace(intake, manifest=replace(intake.manifest, facts=facts))

    def for_merge(
        self, text: str, work: Path, stack: ExitStack, version: Callable[[str], Version], *,
        allow_pickle: bool = False, weights: BaseWeights | None = None,
    ) -> tuple[Source, BaseIdentity]:  # fmt: skip
        """One source of a merge: a registered version, a folder, or a place (fetched, then pinned by digest).

        `weights` are those of the base, for methods whose update needs them.
        """
        parsed = refs.parse(text)
        if isinstance(parsed, refs.PathRef):
            inner = Path(mkdtemp(dir=work))
            readable, _ = self._in_peft(parsed.path, inner, None, weights.shapes if weights else None)
            adapter = stack.enter_context(Adapter.open(readable, text, allow_pickle=allow_pickle))
            intake = self._prepare(adapter, self.bases.of(adapter, None), inner)
            if weights:
                adapter.rest_on(weights)
            return Source(adapter, intake.method, intake.manifest.digest, weights), intake.manifest.base
        if isinstance(parsed, (refs.UrlRef, refs.RemoteRef)):
            place, selector = self.places.to_pull(text)
            placed = publish.choose(place, selector)
            self.admit(place, placed, parsed.name if isinstance(parsed, refs.RemoteRef) else None)
            if placed.described:
                manifest = publish.fetch(place, placed, self.store)
            else:
                intake = self.pulled(place, placed, work, allow_pickle=allow_pickle)
                manifest = self.store.add(intake.manifest, intake.sources)
            digest, base = manifest.digest, manifest.base
        else:
            found = version(text)
            digest, base = found.digest, found.base
        adapter = stack.enter_context(Adapter.open(self.tree(digest), text))
        if weights:
            adapter.rest_on(weights)
        method = self.plugins.method_for(adapter)
        method.check(adapter)
        return Source(adapter, method, digest, weights), base

    def _in_peft(self, path: Path, work: Path, dialect: str | None,
                 shapes: Mapping[str, tuple[int, ...]] | None) -> tuple[Path, dict[str, Any]]:  # fmt: skip
        """The PEFT directory that a path is, or is turned into; with the facts to record of that."""
        if dialect is None and foreign_file(path) is None:
            return path, {}
        out = Path(mkdtemp(dir=work))
        try:
            return out, from_dialect(path, self.plugins.methods(), out, dialect=dialect, base_shapes=shapes)
        except BadAdapter:
            if dialect is None and path.is_dir():
                return path, {}  # what is wrong with it is said where it is opened
            raise

    def _prepare(self, adapter: Adapter, base: Base, work: Path, *, method: str = "", **how: Any) -> Intake:
        adapter.base_shapes = base.shapes
        reader = self.plugins.method(method) if method else self.plugins.method_for(adapter)
        intake = prepare(adapter, reader, base, created=self.now(), staging=work, **how)
        for text in intake.warnings:
            self.notify(f"{adapter.label}: {text}")
        return intake
