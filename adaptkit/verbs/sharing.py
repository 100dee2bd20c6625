"""Sending adapters elsewhere and fetching them back."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.adapter import MANIFEST, Adapter
from adaptkit.admission import admit_next
from adaptkit.dialects import to_dialect
from adaptkit.errors import NotFound, StorageError
from adaptkit.extend import Bundle
from adaptkit.files import atomic_write, explained
from adaptkit.folders import empty_target, pretty_json, rename_into, staging
from adaptkit.results import Added, Pushed
from adaptkit.types import PlacedVersion, Placement, Publish
from adaptkit.verbs.shelf import Shelf

if TYPE_CHECKING:
    import os

    from adaptkit.extend import StorageBackend


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

    def push(self, ref: str, to: str) -> Pushed:
        """Publish a version at a URL or in a named remote; a digest that is there already sends nothing."""
        from adaptkit import publish

        parsed = refs.parse(ref)
        version = self.version(ref)
        place = self.places.to_push(to, version.name)
        self._present(version.digest)
        manifest = self._manifest(version)
        paths = {entry.path: self.store.blob(entry.sha256) for entry in manifest.files + manifest.extras}
        self._check_reviews()
        self._review(Publish(version, manifest, place.url, MappingProxyType(paths), self.config.reviews))
        placed = PlacedVersion(version.number, manifest, version.name, version.message, version.author)
        alias = parsed.selector.value if isinstance(parsed, refs.NameRef) and parsed.selector \
            and parsed.selector.kind == "alias" else None  # fmt: skip
        size = sum(entry.size for entry in manifest.files)
        with self._watch(f"pushing {version.ref}", size) as progress:
            receipt = publish.push(place, Bundle(placed, paths), progress, alias=alias)
        self.registry.record_placement(Placement(place.url, receipt.number, receipt.digest, self._now()),
                                       author=self.config.author, detail=asdict(receipt))  # fmt: skip
        self._emit("published", version.ref, version.digest, asdict(receipt))
        if receipt.note:
            self.notify(f"{place.url}: {receipt.note}")
        self._send_signatures(placed, place, receipt.number)
        return Pushed(version, receipt)

    def pull(self, source: str, *, name: str | None = None, alias: str | None = None,
             new_version: bool = False) -> Added:  # fmt: skip
        """Fetch a version from a URL or `REMOTE:NAME`, verify every byte, and register it."""
        from adaptkit import publish

        place, selector = self.places.to_pull(source)
        placed = publish.choose(place, selector)
        name = refs.check_name(name or placed.name or place.url.rstrip("/").rpartition("/")[2])
        parsed = refs.parse(source)
        return self._take(place, placed, name, origin="pulled", alias=alias, new_version=new_version,
                          asked=parsed.name if isinstance(parsed, refs.RemoteRef) else None)  # fmt: skip

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

    def _take(self, place: StorageBackend, placed: PlacedVersion, name: str, *, origin: str, alias: str | None = None,
              new_version: bool = False, asked: str | None = None) -> Added:  # fmt: skip
        """Fetch and register a version that the policy lets in; `asked` is the name it was asked for by."""
        from adaptkit import publish

        signatures = self._admit(place, placed, asked)
        if alias is not None:
            self._review_move(name, alias, self.registry.next_number(name))
        size = sum(entry.size for entry in placed.manifest.files)
        with self.store.working(), self._watch(f"pulling {name}", size) as progress:
            manifest = publish.fetch(place, placed, self.store, progress)
            version, created = self.registry.add_version(
                name, manifest, message=placed.message, author=placed.author, origin=origin, alias=alias,
                number=placed.number,
                admit=None if new_version else lambda latest: admit_next(name, latest, manifest),
            )  # fmt: skip
        for signature in signatures:
            if signature.statement.manifest.digest == manifest.digest:
                self._signatures.keep(signature)
        self.registry.record_placement(Placement(place.url, placed.number, manifest.digest, self._now()),
                                       author=self.config.author)  # fmt: skip
        if created:
            self._emit(origin, version.ref, version.digest, {"place": place.url, "number": placed.number})
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

    def _check_reviews(self) -> None:
        """A review that config.toml names must be there: one that is not made for a slip of the pen protects nobody."""
        there = [record.plugin for record in self.plugins.records() if "review" in record.registered.get("hooks", ())]
        known = {name.rpartition(":")[2].removeprefix("builtin-") for name in there} | set(there)
        for name in (*self.config.reviews.enable, *self.config.reviews.disable):
            if name not in known:
                raise NotFound("review in [review] of config.toml", name, known, fix=f"mend {self.home.config_file}")
