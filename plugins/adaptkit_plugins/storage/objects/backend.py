"""One adapter's folder in a bucket: `v1/`, `v2/`, …, each a plain PEFT directory."""

from __future__ import annotations

import os
import random
import re
import time
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import Conflict, Corrupt, StorageError
from adaptkit.extend import attachments, no_progress
from adaptkit.extend.versioned_storage import (
    ALIASES,
    LARGEST_MANIFEST,
    MANIFEST,
    VersionedStorage,
    alias_table,
    alias_table_bytes,
    damaged,
    manifest_bytes,
)
from adaptkit.io.machine.parallel import run_transfers
from adaptkit.io.progress.progress import thread_safe
from adaptkit.io.safe_paths import check_relative
from adaptkit_plugins.storage.objects import claims, probe
from adaptkit_plugins.storage.objects.address import Address
from adaptkit_plugins.storage.objects.bucket import Bucket, Taken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from obstore import ObjectMeta, PutMode

    from adaptkit.extend import Bundle, Progress, Promise
    from adaptkit.types import FileEntry, PlacedVersion
    from adaptkit_plugins.storage.objects.claims import Claim

_INSIDE = re.compile(r"v([1-9][0-9]{0,8})/(.+)")
_COMMITTED = re.compile(rf"(?:(.+)/)?v[1-9][0-9]{{0,8}}/{re.escape(MANIFEST)}")
_PUSH = "adaptkitpush"  # a name that every store accepts for an attribute
_AT_ONCE = 4
_SWAPS = 64


class ObjectBackend(VersionedStorage):
    """One adapter's folder in a bucket."""

    schemes: ClassVar[tuple[str, ...]] = ("s3", "gs", "az")
    readers: ClassVar[int] = 8

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.address = Address.parse(url)
        self._manifests: dict[str, tuple[str, bytes]] = {}  # by path: ETag and bytes
        self._seen: Mapping[str, ObjectMeta] = {}

    @cached_property
    def bucket(self) -> Bucket:
        """The bucket; opened when first asked for."""
        return Bucket(self.address)

    # ------------------------------------------------------------ reading

    def numbers(self) -> tuple[int, ...]:
        self._seen = self.bucket.entries()
        return _committed(self._seen)

    def taken(self) -> int:
        return max(
            (int(found[1]) for path in self.bucket.entries() if (found := _INSIDE.fullmatch(path))),
            default=0,
        )

    def manifest_of(self, number: int) -> bytes:
        path = f"v{number}/{MANIFEST}"
        tag = self._seen[path]["e_tag"] if path in self._seen else None
        if tag and self._manifests.get(path, ("", b""))[0] == tag:
            return self._manifests[path][1]
        try:
            data, _ = self.bucket.get(path, LARGEST_MANIFEST)
        except FileNotFoundError:
            raise StorageError(
                f"cannot read {self.url}@{number}",
                why="its manifest is gone",
                fix="list what is there again",
            ) from None
        if tag:
            self._manifests[path] = (tag, data)
        return data

    def pull(
        self,
        version: PlacedVersion,
        files: Sequence[FileEntry],
        into: Path,
        progress: Progress = no_progress,
    ) -> None:
        def fetch(entry: FileEntry) -> None:
            target = into / check_relative(entry.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.bucket.download(f"v{version.number}/{entry.path}", entry.size, target, report)
            except FileNotFoundError:
                raise StorageError(
                    f"'{entry.path}' of {self.url}@{version.number} is missing",
                    why="somebody deleted it",
                    fix="pull another version, or ask for a new push",
                ) from None

        report = thread_safe(progress)
        run_transfers(fetch, files, workers=_AT_ONCE)

    def damage(self, version: PlacedVersion) -> Mapping[str, str]:
        folder = f"v{version.number}"
        sizes = {
            path.removeprefix(f"{folder}/"): meta["size"]
            for path, meta in self.bucket.entries(folder).items()
        }
        return damaged(version.manifest.files + version.manifest.extras, sizes)

    def repair(
        self,
        version: PlacedVersion,
        files: Sequence[FileEntry],
        paths: Mapping[str, Path],
        progress: Progress = no_progress,
    ) -> int:
        def bring(entry: FileEntry) -> int:
            target = f"v{version.number}/{check_relative(entry.path)}"
            self.bucket.upload(target, entry, paths[entry.path], report)
            return entry.size

        report = thread_safe(progress)
        return sum(run_transfers(bring, files, workers=_AT_ONCE))

    def names(self) -> tuple[str, ...]:
        found = {
            match[1] for path in self.bucket.entries() if (match := _COMMITTED.fullmatch(path))
        }
        return tuple(sorted(name for name in found if name and name.count("/") < 2))

    # ------------------------------------------------------------ writing

    def begun(self, bundle: Bundle) -> int | None:
        entries = self.bucket.entries()
        highest = max(_committed(entries), default=0)
        numbers = [
            n for n in claims.begun(self.bucket, entries, claims.content_of(bundle)) if n > highest
        ]
        return next((n for n in numbers if n not in self._given_up), None)

    def publish(
        self, placed: PlacedVersion, bundle: Bundle, held: Mapping[str, str], progress: Progress
    ) -> int | None:
        creates = probe.promise(self.bucket).create_only
        claim = claims.take(
            self.bucket, placed.number, claims.content_of(bundle), create_only=creates
        )
        if claim is None:
            self._given_up.add(placed.number)
            return None
        try:
            sent = self._fill(placed.number, claim, bundle, held, progress)
            committed = self._commit(placed, creates=creates)
        except BaseException:
            claims.release(self.bucket, claim, create_only=creates)
            raise
        self.bucket.delete([claim.path])
        return sent if committed else None

    def caution(self) -> str:
        promise = probe.known(self.bucket)
        return (
            ""
            if promise is None or (promise.create_only and promise.compare_and_swap)
            else promise.note
        )

    def probe(self) -> Promise:
        return probe.probe(self.bucket)

    def aliases(self) -> Mapping[str, int]:
        return self._aliases()[0]

    def set_alias(self, alias: str, number: int) -> None:
        swaps = probe.promise(self.bucket).compare_and_swap
        for attempt in range(_SWAPS):
            table, mode = self._aliases()
            data = alias_table_bytes(dict(table) | {alias: number})
            try:
                self.bucket.put(ALIASES, data, mode if swaps else "overwrite")
            except Taken:
                time.sleep(random.uniform(0.0, 0.05) * min(attempt + 1, 10))  # noqa: S311
                continue
            return
        raise Conflict(
            f"could not move the alias '{alias}' in {self.url}",
            why=f"{_SWAPS} other moves came first",
            fix="try again when fewer people move aliases",
        )

    def attach(self, number: int, kind: str, files: Mapping[str, bytes]) -> str:
        attachments.check(self.url, files)
        if f"v{number}/{MANIFEST}" not in self.bucket.entries(f"v{number}"):
            raise attachments.absent(self.url, number)
        name = attachments.identity(files)
        try:
            for path, data in files.items():  # named by their content: to overwrite changes nothing
                self.bucket.put(f"{attachments.folder(number, kind)}/{name}/{path}", data)
        except Taken as error:
            raise Conflict(
                f"cannot attach to v{number} in {self.url}",
                why=f"the bucket refuses {error}: another was faster",
                fix="try again",
            ) from error
        return name

    def attached(self, number: int, kind: str) -> tuple[Mapping[str, bytes], ...]:
        return attachments.read(
            self.bucket.entries(attachments.folder(number, kind)),
            number,
            kind,
            lambda path: self.bucket.get(path, attachments.LARGEST)[0],
        )

    def _aliases(self) -> tuple[Mapping[str, int], PutMode]:
        """The table, and what a conditional write that replaces it must name."""
        try:
            data, tag = self.bucket.get(ALIASES, LARGEST_MANIFEST)
        except FileNotFoundError:
            return {}, "create"
        return alias_table(self.url, data), tag

    @cached_property
    def _given_up(self) -> set[int]:
        """Numbers that another writer holds, for which this push no longer waits."""
        return set()

    def _fill(
        self, number: int, claim: Claim, bundle: Bundle, held: Mapping[str, str], progress: Progress
    ) -> int:
        """Bring every file below `vN/`, and check that all are stored there and that the claim is still held."""
        entries, report = self.bucket.entries(), thread_safe(progress)
        self._sweep(entries, claim)
        stored = {path: meta["size"] for path, meta in entries.items()}

        def bring(entry: FileEntry) -> int:
            target, source = f"v{number}/{check_relative(entry.path)}", held.get(entry.sha256)
            resumed = stored.get(target) == entry.size
            if resumed or (
                source and stored.get(source) == entry.size and self.bucket.copy(source, target)
            ):
                report(entry.size)
                return 0
            try:
                self.bucket.upload(target, entry, bundle.paths[entry.path], report)
            except FileNotFoundError:
                raise Corrupt(
                    f"the file '{entry.path}' went away while it was pushed", fix="push it again"
                ) from None
            return entry.size

        sent = sum(run_transfers(bring, bundle.files, workers=_AT_ONCE))
        now = self.bucket.entries(f"v{number}")
        short = [
            entry.path
            for entry in bundle.files
            if (meta := now.get(f"v{number}/{entry.path}")) is None or meta["size"] != entry.size
        ]
        if (short or claim.path not in now) and f"v{number}/{MANIFEST}" not in now:
            raise StorageError(
                f"cannot finish {self.url}@{number}",
                why="somebody changed or deleted what was being pushed"
                + (f" ({short[0]})" if short else ""),
                fix="push it again",
            )
        return sent

    def _commit(self, placed: PlacedVersion, *, creates: bool) -> bool:
        """Write `adaptkit.json`; whether the one there is ours."""
        path, data, nonce = (
            f"v{placed.number}/{MANIFEST}",
            manifest_bytes(placed),
            os.urandom(8).hex(),
        )
        try:
            self.bucket.put(path, data, "create" if creates else "overwrite", {_PUSH: nonce})
        except Taken:  # by another, or by this very push whose response was lost
            return self.bucket.attributes(path).get(_PUSH) == nonce
        return creates or self.bucket.get(path, LARGEST_MANIFEST)[0] == data

    def _sweep(self, entries: Mapping[str, ObjectMeta], claim: Claim) -> None:
        """Delete what was abandoned long ago, by the store's own clock: that of the claim just put."""
        now = entries[claim.path]["last_modified"].timestamp() if claim.path in entries else 0.0
        left = claims.stale(entries, now)
        left += [
            path
            for path, meta in entries.items()
            if path.startswith(probe.PROBE)
            and now - meta["last_modified"].timestamp() > claims.STALE
        ]
        self.bucket.delete(left)


def _committed(entries: Mapping[str, ObjectMeta]) -> tuple[int, ...]:
    found = (_INSIDE.fullmatch(path) for path in entries)
    return tuple(sorted(int(match[1]) for match in found if match and match[2] == MANIFEST))
