"""Sending adapters elsewhere and fetching them back."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.actions import Publish
from adaptkit.adapter import Adapter
from adaptkit.admission import admit_next
from adaptkit.contents import MANIFEST, README
from adaptkit.dialects import to_dialect
from adaptkit.errors import AdaptkitError, BadReference, StorageError
from adaptkit.extend import Bundle, PushOptions
from adaptkit.files import atomic_write, explained
from adaptkit.folders import empty_target, pretty_json, rename_into, staging
from adaptkit.results import Added, Pushed
from adaptkit.types import FileEntry, PlacedVersion, Placement
from adaptkit.verbs.shelf import Shelf

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from adaptkit.card import Ancestor
    from adaptkit.extend import StorageBackend
    from adaptkit.types import Parent, Quantisation, Version


class Sharing(Shelf):
    """Shares adapters."""

    def export(self, ref: str, out: str | os.PathLike[str], *, dialect: str | None = None) -> Path:
        """Copy a version into a folder of its own, with its README and `adaptkit.json`; in a `dialect`, its one file."""
        target = empty_target(Path(out))
        version = self.version(ref)
        tree, manifest = self._tree(version.digest), self._manifest(version)
        with staging(self._tmp if target is None else target.parent) as work:
            folder = work / "copy"
            if dialect is not None:
                folder.mkdir()
                with Adapter.open(tree, ref) as adapter:
                    file = to_dialect(adapter, self.plugins.method_for(adapter), dialect, folder)
                rename_into(folder, target)
                return target / file.name
            with explained("write", folder):
                shutil.copytree(tree, folder, copy_function=shutil.copyfile)
            atomic_write(folder / MANIFEST, pretty_json(manifest.to_json()))
            rename_into(folder, target)
        return target

    def push(self, ref: str, to: str, *, options: PushOptions | None = None) -> Pushed:
        """Publish a version at a URL or in a named remote; a digest that is there already sends nothing.

        Where people look at a version's README.md, it gets a model card.
        """
        from adaptkit import publish

        parsed = refs.parse(ref)
        version = self.version(ref)
        place = self.places.to_push(to, version.name).asked(options or PushOptions())
        self._present(version.digest)
        manifest = self._manifest(version)
        paths = {entry.path: self.store.blob(entry.sha256) for entry in manifest.files + manifest.extras}
        self._check_reviews()
        self._review(Publish(version, manifest, place.url, MappingProxyType(paths), self.config.reviews))
        placed = PlacedVersion(version.number, manifest, version.name, version.message, version.author)
        alias = parsed.selector.value if isinstance(parsed, refs.NameRef) and parsed.selector \
            and parsed.selector.kind == "alias" else None  # fmt: skip
        size = sum(entry.size for entry in manifest.files)
        with staging(self._tmp) as work, self._watch(f"pushing {version.ref}", size) as progress:
            receipt = publish.push(
                place, Bundle(placed, paths), progress, alias=alias,
                dress=lambda bundle, standing: self._dressed(bundle, version, place.url, standing, work),
            )  # fmt: skip
        if receipt.number:
            self.registry.record_placement(Placement(place.url, receipt.number, receipt.digest, self._now()),
                                           author=self.config.author, detail=asdict(receipt))  # fmt: skip
        self._emit(receipt.state, version.ref, version.digest, asdict(receipt))
        if receipt.note:
            self.notify(f"{place.url}: {receipt.note}")
        if receipt.number:
            self._send_signatures(placed, place, receipt.number)
        return Pushed(version, receipt)

    def push_to_all(self, ref: str, to: Sequence[str], *, options: PushOptions | None = None) -> tuple[Pushed, ...]:
        """Publish a version in several places; all are known before anything is sent, and one that fails stops no other."""
        version = self.version(ref)
        for place in to:
            self.places.to_push(place, version.name).asked(options or PushOptions())
        done, failures = list[Pushed](), list[str]()
        for place in to:
            try:
                done.append(self.push(ref, place, options=options))
            except AdaptkitError as error:
                failures.append(error.what + (f" ({error.why})" if error.why else ""))
        if failures:
            there = ", ".join(f"{one.receipt.place}@{one.receipt.number}" for one in done) or "nowhere"
            raise StorageError(f"{version.ref} could not be pushed to {len(failures)} of {len(to)} places", why="; ".join(failures),
                               fix=f"it is in {there}; the same command sends only what is missing")  # fmt: skip
        return tuple(done)

    def add(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
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
        """Take in an adapter folder (see `Shelf.add`); a URL or `REMOTE:NAME` is pulled, under the name it has there.

        What is pulled says itself what it is: only `alias`, `new_version` and `allow_pickle` mean something then.
        """
        how = {"base": base, "message": message, "include": include, "force": force, "dialect": dialect,
               "quantised": quantised}  # fmt: skip
        if not _is_elsewhere(path):
            if name is None:
                raise BadReference(f"cannot add {path}", why="a folder does not say what it is called",
                                   fix=f"adaptkit add {path} --name NAME")  # fmt: skip
            return super().add(path, name, base=base, message=message, alias=alias, include=include, force=force,
                               allow_pickle=allow_pickle, new_version=new_version, dialect=dialect,
                               quantised=quantised)  # fmt: skip
        if unfit := next((key for key, value in how.items() if value), ""):
            raise BadReference(f"cannot add {path} with another {unfit.replace('_', ' ')}",
                               why="what is pulled says itself what it is", fix=f"adaptkit add {path}")  # fmt: skip
        return self.pull(str(path), name=name, alias=alias, new_version=new_version, allow_pickle=allow_pickle)

    def _dressed(self, bundle: Bundle, version: Version, url: str, standing: str, work: Path) -> Bundle:
        """A bundle whose README.md is its model card, around what people wrote there."""
        from adaptkit import card
        from adaptkit.adapter import read_config

        readme = bundle.paths.get(README)
        own = readme.read_text("utf-8", errors="replace") if readme else ""
        config = read_config(self.store.tree(version.digest), version.ref)
        parents = [self._ancestor(parent) for parent in bundle.manifest.parents]
        subject = card.Subject(version.name, url, bundle.manifest, config, version.metrics, version.message, parents)
        data = card.render(subject, standing or own).encode()
        path = work / README
        atomic_write(path, data)
        entry = FileEntry(README, len(data), sha256(data).hexdigest())
        extras = (*(extra for extra in bundle.manifest.extras if extra.path != README), entry)
        placed = replace(bundle.placed, manifest=replace(bundle.manifest, extras=extras))
        return replace(bundle, placed=placed, paths={**bundle.paths, README: path})

    def _ancestor(self, parent: Parent) -> Ancestor:
        """What a card says of a parent: what its own card says, as far as it is here, and where it lies."""
        from adaptkit import card

        text = ""
        with suppress(AdaptkitError):
            extras = {entry.path: entry for entry in self.store.manifest(parent.digest).extras}
            if README in extras:
                text = self.store.blob(extras[README].sha256).read_text("utf-8", errors="replace")
        return card.Ancestor(parent, text, tuple(p.place for p in self.registry.placements(parent.digest)))

    def pull(self, source: str, *, name: str | None = None, alias: str | None = None,
             new_version: bool = False, allow_pickle: bool = False) -> Added:  # fmt: skip
        """Fetch a version from a URL or `REMOTE:NAME`, verify every byte, and register it.

        What adaptkit did not make is looked at as `add` looks at a folder.
        """
        from adaptkit import publish

        place, selector = self.places.to_pull(source)
        placed = publish.choose(place, selector)
        name = refs.check_name(name or placed.name or place.url.rstrip("/").rpartition("/")[2])
        parsed = refs.parse(source)
        return self._take(place, placed, name, origin="pulled", alias=alias, new_version=new_version,
                          allow_pickle=allow_pickle, asked=parsed.name if isinstance(parsed, refs.RemoteRef) else None)  # fmt: skip

    def rebuild(self, source: str) -> tuple[Added, ...]:
        """Register every version of a place, or of every adapter in a remote, under the number it has there.

        Aliases that lie there come too, where the registry has none of that name.
        """
        from adaptkit import publish

        root = self.places.root(source)
        taken: list[Added] = []
        for place in [self.places.open(f"{root.url}/{name}") for name in root.names()] or [root]:
            found = {
                placed.number: self._take(place, placed, placed.name or place.url.rpartition("/")[2], origin="rebuilt",
                                          new_version=True)
                for placed in publish.placed_versions(place)
            }  # fmt: skip
            for alias, number in sorted(place.aliases().items()):
                version = found[number].version if number in found else None
                if version is not None and alias not in self.registry.aliases(version.name):
                    self.registry.move_alias(
                        version.name, alias, version.number, expect=None, author=self.config.author
                    )
            taken += found.values()
        return tuple(taken)

    def _take(self, place: StorageBackend, placed: PlacedVersion, name: str, *, origin: str, alias: str | None = None,
              new_version: bool = False, allow_pickle: bool = False, asked: str | None = None) -> Added:  # fmt: skip
        """Fetch and register a version that the policy lets in; `asked` is the name it was asked for by."""
        from adaptkit import publish

        signatures = self._admit(place, placed, asked)
        if alias is not None:
            self._review_move(name, alias, self.registry.next_number(name))
        size, pairs = sum(entry.size for entry in placed.manifest.files), dict(self._pairs)
        if not placed.described:
            with staging(self._tmp) as work, self._watch(f"pulling {name}", size) as progress:
                intake = self._sources.pulled(place, placed, work, allow_pickle=allow_pickle, progress=progress)
                return self._register(intake, name, alias=alias, new_version=new_version, origin=origin)
        with self.store.working(), self._watch(f"pulling {name}", size) as progress:
            manifest = publish.fetch(place, placed, self.store, progress)
            version, created = self.registry.add_version(
                name, manifest, message=placed.message, author=placed.author, origin=origin, alias=alias,
                number=placed.number or None,
                admit=None if new_version else lambda latest: admit_next(name, latest, manifest, pairs),
            )  # fmt: skip
        for signature in signatures:
            if signature.statement.manifest.digest == manifest.digest:
                self._signatures.keep(signature)
        if placed.number:
            self.registry.record_placement(Placement(place.url, placed.number, manifest.digest, self._now()),
                                           author=self.config.author)  # fmt: skip
        self._learn(manifest.base, placed.author)
        if created:
            told = {"place": place.url, "number": placed.number, "revision": placed.revision}
            self._emit(origin, version.ref, version.digest, told)
        return Added(version, created)

    def _send_signatures(self, placed: PlacedVersion, place: StorageBackend, number: int) -> None:
        """Attach what was signed of a version to its copy in a place; what is there already is not sent again."""
        from adaptkit.signing.signatures import KIND, Signature
        from adaptkit.signing.statement import Statement

        stated = Statement.of(placed)
        kept = [
            signature
            for signature in self._signatures.of(placed.manifest.digest)
            if signature.statement.name == placed.name
        ]
        fitting = [signature for signature in kept if signature.statement.data == stated.data]
        if kept and not fitting:
            why = "; ".join(stated.differences(kept[-1].statement))
            self.notify(f"{placed.name}@{placed.number} goes without its signature, which no longer fits: {why}. "
                        f"Sign it again: adaptkit sign {placed.name}@{placed.number} --key PRIVATE")  # fmt: skip
        if not fitting:
            return
        there = {one.bundle for files in place.attached(number, KIND) if (one := Signature.parse(files))}
        for signature in fitting:
            if signature.bundle not in there:
                try:
                    place.attach(number, KIND, signature.files)
                except StorageError as error:
                    self.notify(f"{placed.name}@{placed.number} lies at {place.url}@{number} without its signature: {error.what}"
                                + (f": {error.why}" if error.why else ""))  # fmt: skip
                    return


def _is_elsewhere(path: str | os.PathLike[str]) -> bool:
    """Whether a URL or `REMOTE:NAME` is meant, and no file of that name is there."""
    if not isinstance(path, str) or Path(path).exists():
        return False
    if "://" in path:
        return True
    try:
        return isinstance(refs.parse(path), refs.RemoteRef)
    except BadReference:
        return False
