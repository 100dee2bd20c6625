"""Manifests and tags of a repository, and what refers to a manifest (signatures)."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from adaptkit.errors import Corrupt, StorageError
from adaptkit.extend import attachments
from adaptkit.io.http.addresses import joined
from adaptkit.types import canonical_json
from adaptkit_plugins.storage.oci import errors, images

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit_plugins.storage.oci.blobs import Blobs
    from adaptkit_plugins.storage.oci.client import Client

LARGEST = 4 << 20  # bytes, as registries have it
_MOST_PAGES = 1000
_MOST_NAMES = 100_000
_LONGEST_LIST = 15.0  # seconds
_MOST_REFERRERS = 64  # as many signatures of one version are read
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_TRIES = 8


class Manifests:
    """The manifests of one repository, by tag or digest."""

    def __init__(self, client: Client, blobs: Blobs) -> None:
        self._client, self._blobs = client, blobs

    def get(self, reference: str) -> bytes | None:
        """A manifest's bytes, verified against the digest that was asked for or is stated; None when there is none."""
        self._check(reference)
        label = f"{self._client.address.url} ({reference[:19]})"
        try:
            response = self._client.send(
                "GET",
                self._client.url(f"manifests/{reference}"),
                doing="read",
                accept=(200, 404),
                headers={"Accept": f"{images.IMAGE}, {images.INDEX}"},
            )
        except errors.TooMuch as error:
            # one version that cannot be trusted; others beside it may be
            raise Corrupt(
                f"the image manifest of {label} is too large", why=error.why, fix=error.fix
            ) from None
        if response.status_code == 404:
            return None
        data = response.content
        stated = (
            reference if ":" in reference else response.headers.get("Docker-Content-Digest", "")
        )
        if stated.startswith("sha256:") and stated != images.digest_of(data):
            raise Corrupt(
                f"the image manifest of {label} is corrupt",
                why="its bytes do not match its digest",
                fix="ask who pushed it to push it again as a new version",
            )
        return data

    def digest(self, reference: str) -> str | None:
        """The digest that a tag points at; None when there is no such tag."""
        data = self.get(reference)
        return None if data is None else images.digest_of(data)

    def put(self, reference: str, data: bytes, kind: str = images.IMAGE) -> bool:
        """Put a manifest; whether the registry itself lists what refers to another manifest."""
        self._check(reference)
        response = self._client.send(
            "PUT",
            self._client.url(f"manifests/{reference}"),
            doing="write",
            scope=self._client.writing,
            accept=(200, 201, 202, 400, 404),
            content=data,
            headers={"Content-Type": kind},
        )
        if response.status_code in {400, 404}:
            codes = errors.codes(response)
            if {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"} & set(codes):
                raise errors.MissingBlob
            raise errors.refused("write", self._client.address, response)
        return "OCI-Subject" in response.headers

    def tags(self) -> tuple[str, ...]:
        """Every tag of the repository; none when it does not exist."""
        return self._pages(self._client.url("tags/list?n=1000"), "tags")

    def repositories(self) -> tuple[str, ...]:
        """Every repository of the registry, where it lists them."""
        return self._pages(
            f"{self._client.address.origin}/v2/_catalog?n=1000",
            "repositories",
            "registry:catalog:*",
        )

    # ------------------------------------------------------------ what refers to a manifest

    def attach(self, subject: str, kind: str, files: Mapping[str, bytes]) -> str:
        """Put files as an artifact of type `kind` that refers to the manifest `subject`; the new manifest's digest.

        Where the registry keeps no referrers, the tag `sha256-…` lists them, as the distribution spec says.
        """
        about = self.get(subject)
        if about is None:
            raise StorageError(
                f"cannot attach to {subject[:19]}… in {self._client.address.url}",
                why="that version is missing",
                fix="push it first",
            )
        layers = []
        for name, data in files.items():
            digest = images.digest_of(data)
            self._blobs.put(digest, data, len(data), lambda _: None)
            layers.append(
                {
                    "mediaType": "application/octet-stream",
                    "digest": digest,
                    "size": len(data),
                    "annotations": {images.TITLE: name},
                }
            )
        empty = b"{}"
        self._blobs.put(images.digest_of(empty), empty, len(empty), lambda _: None)
        body = canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": images.IMAGE,
                "artifactType": kind,
                "config": {
                    "mediaType": images.EMPTY,
                    "digest": images.digest_of(empty),
                    "size": len(empty),
                },
                "layers": layers,
                "subject": {
                    "mediaType": images.IMAGE,
                    "digest": images.digest_of(about),
                    "size": len(about),
                },
            }
        ).encode()
        digest = images.digest_of(body)
        if not self.put(digest, body):
            self._list_in_tag(
                images.digest_of(about),
                {
                    "mediaType": images.IMAGE,
                    "digest": digest,
                    "size": len(body),
                    "artifactType": kind,
                },
            )
        return digest

    def referrers(self, subject: str, kind: str) -> tuple[Mapping[str, bytes], ...]:
        """The files of every artifact of type `kind` that refers to the manifest `subject`, verified."""
        digest = subject if ":" in subject else self.digest(subject)
        if digest is None:
            return ()
        response = self._client.send(
            "GET",
            self._client.url(f"referrers/{digest}"),
            doing="read",
            accept=(200, 404, 400, 405),
        )
        listed = list(self._descriptors(response.content if response.status_code == 200 else None))
        listed += [
            one for one in self._descriptors(self.get(_fallback(digest))) if one not in listed
        ]
        found: dict[str, Mapping[str, bytes]] = {}
        reading = attachments.Reading(f"{self._client.address.url} ({subject[:19]})")
        for descriptor in listed[:_MOST_REFERRERS]:
            data = (
                self.get(str(descriptor["digest"]))
                if descriptor.get("artifactType") in {kind, None, ""}
                else None
            )
            body = images.parse(data, self._client.address.url) if data is not None else {}
            if (
                body.get("artifactType") == kind
                and (body.get("subject") or {}).get("digest") == digest
            ):
                found[str(descriptor["digest"])] = {
                    str((layer.get("annotations") or {}).get(images.TITLE, "")): reading.counted(
                        self._blobs.small(str(layer["digest"]), LARGEST)
                    )
                    for layer in (body.get("layers") or ())[:_MOST_REFERRERS]
                }
        return tuple(found.values())

    def _check(self, reference: str) -> None:
        """Refuse a tag or digest that would lead a URL elsewhere."""
        if ":" in reference:
            images.checked(reference, self._client.address.url)
        elif not _TAG.fullmatch(reference):
            raise StorageError(
                f"cannot use a tag of {self._client.address.url}",
                why=f"{reference[:80]!a} is no tag",
                fix="tags are letters, digits, '_', '.' and '-', at most 128",
            )

    def _list_in_tag(self, subject: str, descriptor: Mapping[str, Any]) -> None:
        """Add to the tag that lists referrers; nothing locks it, so read back and do it again if another was faster."""
        for attempt in range(_TRIES):
            listed = [
                one for one in self._descriptors(self.get(_fallback(subject))) if one != descriptor
            ]
            index = {
                "schemaVersion": 2,
                "mediaType": images.INDEX,
                "manifests": [*listed, descriptor],
            }
            self.put(_fallback(subject), canonical_json(index).encode(), images.INDEX)
            self._client.settle(0.02 * (attempt + 1))
            if descriptor in self._descriptors(self.get(_fallback(subject))):
                return
        raise StorageError(
            f"cannot write {self._client.address.url}",
            why="others keep changing its list of signatures",
            fix="try again",
        )

    def _descriptors(self, data: bytes | None) -> list[Mapping[str, Any]]:
        return (
            []
            if data is None
            else list(images.parse(data, self._client.address.url).get("manifests") or ())
        )

    def _pages(self, url: str, key: str, scope: str = "") -> tuple[str, ...]:
        found: list[str] = []
        begun = time.monotonic()
        for _ in range(_MOST_PAGES):
            response = self._client.send("GET", url, doing="read", scope=scope, accept=(200, 404))
            if response.status_code == 404:
                return tuple(dict.fromkeys(found))
            try:
                found += [str(one) for one in response.json().get(key) or ()]
            except (ValueError, AttributeError, TypeError, RecursionError):
                raise StorageError(
                    f"cannot read {self._client.address.url}",
                    why=f"its list of {key} cannot be read",
                    fix="check that this is a registry",
                ) from None
            following = response.links.get("next", {}).get("url")
            if not following:
                return tuple(dict.fromkeys(found))
            if len(found) > _MOST_NAMES or time.monotonic() - begun > _LONGEST_LIST:
                break
            url = joined(url, following)
        raise StorageError(
            f"cannot read {self._client.address.url}",
            why=f"its list of {key} does not end: it goes on after {len(found):,} names",
            fix="do not trust this registry, or give the adapter a repository of its own",
        )


def _fallback(digest: str) -> str:
    return digest.replace(":", "-", 1)
