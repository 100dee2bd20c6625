"""Upkeep: fsck, gc, info, and moving a registry to another database."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import Corrupt, RegistryError, StoreError
from adaptkit.files import atomic_write, explained, user_path
from adaptkit.quotas import parse_size
from adaptkit.results import Info
from adaptkit.types import Event
from adaptkit.verbs.shelf import Shelf

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from adaptkit.checking import Checked
    from adaptkit.sweeping import Swept
    from adaptkit.types import Manifest, Placement


class Keeping(Shelf):
    """Keeps a workspace whole."""

    def fsck(self, *, repair: bool = False, places: bool = True) -> Checked:
        """The database against the store against the placements; `repair` mends what can be mended."""
        from adaptkit import checking

        registry = self.registry
        findings = [checking.Finding("contradiction", text) for text in registry.problems()]
        manifests = list(registry.manifests())
        placements = registry.all_placements()
        placed = {placement.digest for placement in placements}
        with self._watch("checking artifacts", len(manifests)) as step:
            findings += checking.check_artifacts(manifests, self.store, self._label, placed,
                                                 self._repair if repair else None, step)  # fmt: skip
        if places:
            with self._watch("checking placements", len(placements)) as step:
                findings += checking.check_placements(placements, self.places, self._drop if repair else None, step)
        digests, blobs = self._kept()
        findings += checking.check_orphans(self.store, digests, blobs)
        return checking.Checked(len(manifests), len(placements), tuple(findings))

    def gc(self, *, grace: float | None = None, trash: float | None = None, dry_run: bool = False) -> Swept:
        """Take what no version needs out of the store, and forget what was in the trash for longer than `trash` seconds.

        What is younger than `grace` seconds stays. Versions in the trash count as needed until they are forgotten.
        """
        from adaptkit import sweeping

        grace = sweeping.GRACE if grace is None else grace
        trash = sweeping.TRASH if trash is None else trash
        now = self._clock()
        before = (now - timedelta(seconds=trash)).isoformat(timespec="microseconds")
        gone = self.registry.purgeable(before) if dry_run else self.registry.purge(before, author=self.config.author)
        done = sweeping.sweep(self.store, self._needed, grace=grace, trash=trash, dry_run=dry_run, now=now.timestamp,
                              work=[self._tmp])  # fmt: skip
        done = replace(done, purged=tuple(version.ref for version in gone))
        if not dry_run:
            for version in gone:
                self._emit("purged", version.ref, version.digest)
            if done.swept or done.freed:
                told = {"swept": len(done.swept), "bytes": done.swept_bytes, "freed": done.freed_bytes}
                self.registry.record(Event("swept", "store", "", told, author=self.config.author))
        return done

    def info(self) -> Info:
        """How much there is: counts, bytes, and quotas where the configuration sets them."""
        from adaptkit.sweeping import trash_size

        sizes = dict(self.registry.sizes())
        root = self.store.root
        here = {name: sum(path.lstat().st_size for path in (root / name).rglob("*") if path.is_file())
                for name in ("objects", "quarantine", "tmp")}  # fmt: skip
        here["trash"] = trash_size(self.store)
        used = {"store": sum(here.values())} | {team: size for team, size in sizes.items() if team}
        quotas = {name: (used.get(name, 0), parse_size(limit, name)) for name, limit in self.config.quotas.items()}
        return Info(str(self.home.path), self.registry.shown, self.registry.counts(), here, sizes, quotas)

    def export_registry(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole registry to a file of JSON lines, whole or not at all."""
        target = user_path(path).absolute()
        data = "".join(f"{line}\n" for line in self.registry.export_lines()).encode()
        with explained("write", target):
            target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, data)
        return target

    def import_registry(self, path: str | os.PathLike[str]) -> dict[str, int]:
        """Take in what `export_registry` wrote: how many rows of each kind were new. All of it, or nothing."""
        source = user_path(path)
        with explained("read", source):
            data = source.read_bytes()
        try:
            lines = data.decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise RegistryError(
                f"cannot import {source}", why="it is no text", fix="adaptkit registry export FILE writes one"
            ) from error
        new = self.registry.import_lines(lines, author=self.config.author, source=source.name,
                                        check_name=refs.check_name)  # fmt: skip
        if new:
            self._emit("imported", source.name, detail=new)
        return new

    # ------------------------------------------------------------ how

    def _kept(self) -> tuple[set[str], set[str]]:
        """What this registry needs, and the workspace's own database too, should a team's be in force now."""
        digests, blobs = self.registry.kept()
        if self.config.registry_url and self.home.database.exists():
            from adaptkit_registry import Registry

            with Registry.open(self.home.database) as own:
                more = own.kept()
            digests, blobs = digests | more[0], blobs | more[1]
        return digests, blobs

    def _needed(self) -> set[str]:
        digests, blobs = self._kept()
        return {digest.partition(":")[2] for digest in digests} | blobs

    def _label(self, digest: str) -> str:
        found = self.registry.versions(digest=digest)
        return found[-1].ref if found else "in the trash"

    def _repair(self, manifest: Manifest) -> str:
        """Bring an artifact back: from what lies in the store and its trash, else from a placement."""
        try:
            self.store.add(manifest, {})
            self.store.verify(manifest.digest)
            how = "from what was in the store"
        except StoreError as error:
            placements = self.registry.placements(manifest.digest)
            if not placements:
                why = error.what if isinstance(error, Corrupt) else error.why or error.what
                raise StoreError("it cannot be repaired", why=f"{why}, and it was never pushed anywhere") from error
            from adaptkit.returning import bring_back

            used = bring_back(manifest.digest, placements, self.places, self.store)
            how = f"from {used.place}@{used.number}"
        self.registry.record(Event("repaired", self._label(manifest.digest), manifest.digest, {"how": how},
                                   author=self.config.author))  # fmt: skip
        return how

    def _drop(self, placement: Placement) -> None:
        self.registry.drop_placement(placement, author=self.config.author)
        self._emit("repaired", placement.place, placement.digest, asdict(placement))
