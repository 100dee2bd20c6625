"""Manifests and tags of a repository, and what refers to a manifest (signatures)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from adaptkit.errors import Corrupt, StorageError
from adaptkit.types import canonical_json
from adaptkit_plugins.storage.oci import images

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit_plugins.storage.oci.blobs import Blobs
    from adaptkit_plugins.storage.oci.requests import Requests

LARGEST = 4 << 20  # bytes, as registries have it
_MOST_PAGES = 1000
_TRIES = 8


class MissingBlob(Exception):
    """A manifest was refused because the registry does not hold a blob that it names, whatever it said before."""


class Manifests:
    """The manifests of one repository, by tag or digest."""

    def __init__(self, requests: Requests, blobs: Blobs) -> None:
        self._requests, self._blobs = requests, blobs

    def get(self, reference: str) -> bytes | None:
        """A manifest's bytes, verified against the digest that was asked for or is stated; None when there is none."""
        answer = self._requests.send(
            "GET",
            self._requests.url(f"manifests/{reference}"),
            doing="read",
            accept=(200, 404),
            headers={"Accept": f"{images.IMAGE}, {images.INDEX}"},
        )
        if answer.status_code == 404:
            return None
        data, label = answer.content, f"{self._requests.address.url} ({reference[:19]})"
        if len(data) > LARGEST:
            raise Corrupt(
                f"the image manifest of {label} is too large", why=f"more than {LARGEST:,} bytes"
            )
        stated = reference if ":" in reference else answer.headers.get("Docker-Content-Digest", "")
        if stated.startswith("sha256:") and stated != images.digest_of(data):
            raise Corrupt(
                f"the image manifest of {label} is corrupt",
                why="its bytes are not what its digest says",
                fix="ask who pushed it to push it again as a new version",
            )
        return data

    def digest(self, reference: str) -> str | None:
        """The digest that a tag points at; None when there is no such tag."""
        data = self.get(reference)
        return None if data is None else images.digest_of(data)

    def put(self, reference: str, data: bytes, kind: str = images.IMAGE) -> bool:
        """Put a manifest; whether the registry keeps by itself what refers to another manifest."""
        answer = self._requests.send(
            "PUT",
            self._requests.url(f"manifests/{reference}"),
            doing="write",
            scope=self._requests.writing,
            accept=(200, 201, 202, 400, 404),
            content=data,
            headers={"Content-Type": kind},
        )
        if answer.status_code in {400, 404}:
            codes = self._requests.codes(answer)
            if {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"} & set(codes):
                raise MissingBlob
            raise self._requests.refusal("write", answer)
        return "OCI-Subject" in answer.headers

    def tags(self) -> tuple[str, ...]:
        """Every tag of the repository; none when it does not exist."""
        return self._pages(self._requests.url("tags/list?n=1000"), "tags")

    def repositories(self) -> tuple[str, ...]:
        """Every repository of the registry, where it tells."""
        return self._pages(
            f"{self._requests.address.origin}/v2/_catalog?n=1000",
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
                f"cannot attach to {subject[:19]}… in {self._requests.address.url}",
                why="it is not there",
                fix="push the version first",
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
        answer = self._requests.send(
            "GET",
            self._requests.url(f"referrers/{digest}"),
            doing="read",
            accept=(200, 404, 400, 405),
        )
        listed = list(self._descriptors(answer.content if answer.status_code == 200 else None))
        listed += [
            one for one in self._descriptors(self.get(_fallback(digest))) if one not in listed
        ]
        found: dict[str, Mapping[str, bytes]] = {}
        for descriptor in listed:
            data = (
                self.get(str(descriptor["digest"]))
                if descriptor.get("artifactType") in {kind, None, ""}
                else None
            )
            body = images.parse(data, self._requests.address.url) if data is not None else {}
            if (
                body.get("artifactType") == kind
                and (body.get("subject") or {}).get("digest") == digest
            ):
                found[str(descriptor["digest"])] = {
                    str((layer.get("annotations") or {}).get(images.TITLE, "")): self._blobs.small(
                        str(layer["digest"]), LARGEST
                    )
                    for layer in body.get("layers") or ()
                }
        return tuple(found.values())

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
            self._requests.pause(0.02 * (attempt + 1))
            if descriptor in self._descriptors(self.get(_fallback(subject))):
                return
        raise StorageError(
            f"cannot write {self._requests.address.url}",
            why="others keep changing its list of signatures",
            fix="try again",
        )

    def _descriptors(self, data: bytes | None) -> list[Mapping[str, Any]]:
        return (
            []
            if data is None
            else list(images.parse(data, self._requests.address.url).get("manifests") or ())
        )

    def _pages(self, url: str, key: str, scope: str = "") -> tuple[str, ...]:
        found: list[str] = []
        for _ in range(_MOST_PAGES):
            answer = self._requests.send("GET", url, doing="read", scope=scope, accept=(200, 404))
            if answer.status_code == 404:
                break
            try:
                found += [str(one) for one in answer.json().get(key) or ()]
            except (ValueError, AttributeError, TypeError, RecursionError):
                raise StorageError(
                    f"cannot read {self._requests.address.url}",
                    why=f"its list of {key} is none",
                    fix="check that this is a registry",
                ) from None
            following = answer.links.get("next", {}).get("url")
            if not following:
                break
            url = urljoin(url, following)
        return tuple(dict.fromkeys(found))


def _fallback(digest: str) -> str:
    return digest.replace(":", "-", 1)
