"""One adapter's repository: tags `v1`, `v2`, …, each an image whose layers are the files."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import NotFound, StorageError
from adaptkit.extend import Promise, no_progress
from adaptkit.extend.versioned_storage import LARGEST_MANIFEST, VersionedStorage, damaged
from adaptkit.io.machine.parallel import run_transfers
from adaptkit.io.progress.progress import thread_safe
from adaptkit.io.safe_paths import check_relative
from adaptkit_plugins.storage.oci import images
from adaptkit_plugins.storage.oci.address import Address
from adaptkit_plugins.storage.oci.blobs import Blobs
from adaptkit_plugins.storage.oci.client import Client
from adaptkit_plugins.storage.oci.errors import MissingBlob
from adaptkit_plugins.storage.oci.manifests import Manifests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from adaptkit.extend import Bundle, Progress
    from adaptkit.types import FileEntry, PlacedVersion

_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_AT_ONCE = 4
_LOOKS = 8
_SETTLE = 0.1  # seconds, at least, after which the tag is read back once more
NOTE = (
    "a registry moves tags without conditions: two pushes at the same moment are detected by reading back, "
    "and a tag can be overwritten later; pin digests where that matters"
)
UNDELETED = "; it deletes no blobs: the 32 bytes of the probe stay until its garbage collection"


class OciBackend(VersionedStorage):
    """One adapter's repository in an OCI registry."""

    schemes: ClassVar[tuple[str, ...]] = ("oci",)
    readers: ClassVar[int] = 8

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.address = Address.parse(url)

    @cached_property
    def client(self) -> Client:
        """Requests to the registry."""
        return Client(self.address)

    @cached_property
    def blobs(self) -> Blobs:
        """The repository's blobs."""
        return Blobs(self.client)

    @cached_property
    def manifests(self) -> Manifests:
        """The repository's manifests, tags and what refers to them."""
        return Manifests(self.client, self.blobs)

    # ------------------------------------------------------------ reading

    def numbers(self) -> tuple[int, ...]:
        self._needs_repository()
        if self.address.tag:
            number = self._tagged()
            return () if number is None else (number,)
        return tuple(
            sorted(
                int(match[1]) for tag in self.manifests.tags() if (match := _VERSION.fullmatch(tag))
            )
        )

    def taken(self) -> int:
        return max(self.numbers(), default=0)

    def manifest_of(self, number: int) -> bytes:
        label, reference, data = f"{self.url}@{number}", self.address.tag or f"v{number}", None
        for attempt in range(_LOOKS):  # docker-registry lists a tag a moment before it returns it
            data = self.manifests.get(reference)
            if data is not None:
                break
            self.client.settle(0.05 * attempt)
        if data is None:
            raise StorageError(
                f"cannot read {label}", why="its tag is gone", fix="list what is there again"
            )
        return self.blobs.small(
            images.manifest_layer(images.parse(data, label), label), LARGEST_MANIFEST
        )

    def pull(
        self,
        version: PlacedVersion,
        files: Sequence[FileEntry],
        into: Path,
        progress: Progress = no_progress,
    ) -> None:
        report = thread_safe(progress)

        def fetch(entry: FileEntry) -> None:
            target = into / check_relative(entry.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.blobs.fetch(f"sha256:{entry.sha256}", entry.size, target, report)

        run_transfers(fetch, files, workers=_AT_ONCE)

    def aliases(self) -> Mapping[str, int]:
        self._needs_repository()
        tags = [tag for tag in self.manifests.tags() if _ALIAS.fullmatch(tag)]
        found = run_transfers(self.manifests.digest, tags, workers=self.readers)
        digests = dict(zip(tags, found, strict=True))
        versions = {
            digest: int(match[1])
            for tag, digest in digests.items()
            if (match := _VERSION.fullmatch(tag))
        }
        return {
            tag: versions[digest]
            for tag, digest in digests.items()
            if digest in versions and not _VERSION.fullmatch(tag)
        }

    def find(self, digest: str) -> PlacedVersion | None:
        """The version whose image has this digest, whatever its tag points at now."""
        if not _DIGEST.fullmatch(digest):
            return None
        pinned = OciBackend(self.url)
        pinned.address = replace(self.address, tag=digest)
        return pinned.version() if pinned.numbers() else None

    def damage(self, version: PlacedVersion) -> Mapping[str, str]:
        entries = version.manifest.files + version.manifest.extras

        def size(entry: FileEntry) -> int | None:
            return self.blobs.size(f"sha256:{entry.sha256}")

        sizes = run_transfers(size, entries, workers=self.readers)
        return damaged(
            entries, {entry.path: size for entry, size in zip(entries, sizes, strict=True)}
        )

    def repair(
        self,
        version: PlacedVersion,
        files: Sequence[FileEntry],
        paths: Mapping[str, Path],
        progress: Progress = no_progress,
    ) -> int:
        report = thread_safe(progress)

        def put(entry: FileEntry) -> int:
            return self.blobs.put(
                f"sha256:{entry.sha256}", paths[entry.path], entry.size, report, anew=True
            )

        return sum(run_transfers(put, files, workers=_AT_ONCE))

    def names(self) -> tuple[str, ...]:
        root = f"{self.address.repository}/" if self.address.repository else ""
        found = [
            name.removeprefix(root)
            for name in self.manifests.repositories()
            if name.startswith(root)
        ]
        return tuple(sorted(name for name in found if name.count("/") < 2))

    # ------------------------------------------------------------ writing

    def publish(
        self, placed: PlacedVersion, bundle: Bundle, held: Mapping[str, str], progress: Progress
    ) -> int | None:
        self._needs_repository()
        if self.address.tag:
            raise StorageError(
                f"cannot push to {self.url}",
                why="the place assigns the number; the tag cannot be chosen",
                fix=f"push to {self.url.removesuffix(':' + self.address.tag)}",
            )
        report = thread_safe(progress)
        image = images.image(placed, os.urandom(8).hex())
        sent = self._send(bundle, image, report)
        try:
            return sent if self._tag(placed.number, image) else None
        except MissingBlob:  # it had reported that it has them: send them all
            sent = self._send(bundle, image, no_progress, anew=True)
        try:
            return sent if self._tag(placed.number, image) else None
        except MissingBlob:
            raise StorageError(
                f"cannot write {self.url}",
                why="the registry loses what it was sent (MANIFEST_BLOB_UNKNOWN)",
                fix=f"ask who runs {self.address.host} to check its storage",
            ) from None

    def set_alias(self, alias: str, number: int) -> None:
        if _VERSION.fullmatch(alias) or not _ALIAS.fullmatch(alias):
            raise StorageError(
                f"cannot call a version {alias[:80]!a} in {self.url}",
                why="tags of this form are version numbers"
                if _VERSION.fullmatch(alias)
                else "an alias is letters, digits, '.', '_' and '-', and begins with a letter",
                fix="choose another alias",
            )
        data = self.manifests.get(f"v{number}")
        if data is None:
            raise NotFound(f"version in {self.url}", str(number), map(str, self.numbers()))
        self.manifests.put(alias, data)

    def probe(self) -> Promise:
        self._needs_repository()
        self.manifests.tags()
        left = "" if self.blobs.trial() else UNDELETED
        return Promise(create_only=False, compare_and_swap=False, note=NOTE + left)

    # ------------------------------------------------------------ signatures

    def attach(self, number: int, kind: str, files: Mapping[str, bytes]) -> str:
        """Put files, such as a signature, as an artifact of type `kind` that refers to a version; its digest."""
        return self.manifests.attach(f"v{number}", kind, files)

    def attached(self, number: int, kind: str) -> tuple[Mapping[str, bytes], ...]:
        """The files of every artifact of type `kind` that refers to a version."""
        return self.manifests.referrers(f"v{number}", kind)

    # ------------------------------------------------------------ how

    def _send(
        self, bundle: Bundle, image: images.Image, progress: Progress, *, anew: bool = False
    ) -> int:
        unique = {entry.sha256: entry for entry in bundle.files}
        for entry in bundle.files:
            if unique[entry.sha256] is not entry:
                progress(entry.size)

        def put(entry: FileEntry) -> int:
            return self.blobs.put(
                f"sha256:{entry.sha256}", bundle.paths[entry.path], entry.size, progress, anew=anew
            )

        sent = sum(run_transfers(put, unique.values(), workers=_AT_ONCE))
        for digest, data in image.blobs.items():
            self.blobs.put(digest, data, len(data), no_progress, anew=anew)
        return sent

    def _tag(self, number: int, image: images.Image) -> bool:
        """Point `vN` at the image, if it is free; whether it is ours after another has had time to overwrite it.

        A writer looks, then puts; ours was there to be seen by all who look later, so what is waited for is only the
        time between looking and putting of one who looked before.
        """
        tag, began = f"v{number}", time.monotonic()
        if self.manifests.digest(tag) is not None:
            return False
        self.manifests.put(tag, image.data)
        took = time.monotonic() - began
        if self.manifests.digest(tag) != image.digest:
            return False
        self.client.settle(max(_SETTLE, 5 * took))
        return self.manifests.digest(tag) == image.digest

    def _tagged(self) -> int | None:
        """The number of the version that the URL's own tag points at."""
        data = self.manifests.get(self.address.tag)
        if data is None:
            return None
        version = (images.parse(data, self.url).get("annotations") or {}).get(
            "org.opencontainers.image.version", ""
        )
        return int(version) if re.fullmatch(r"[1-9][0-9]{0,8}", str(version)) else None

    def _needs_repository(self) -> None:
        if not self.address.repository:
            raise StorageError(
                f"cannot open {self.url}",
                why="it names a registry, not a repository in it",
                fix=f"for example {self.url.rstrip('/')}/fleet/naval",
            )
