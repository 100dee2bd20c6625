"""An adapter as an OCI image manifest: the media types of CNCF ModelPack, one layer for each file.

https://github.com/modelpack/model-spec, https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from adaptkit.errors import Corrupt
from adaptkit.extend.versioned_storage import MANIFEST, manifest_bytes
from adaptkit.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.types import PlacedVersion

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHTS = "application/vnd.cncf.model.weight.v1.raw"
SETTINGS = "application/vnd.cncf.model.weight.config.v1.raw"
DOCUMENT = "application/vnd.cncf.model.doc.v1.raw"
EMPTY = "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"
FILEPATH = "org.cncf.model.filepath"
PREFIX = "io.adaptkit."
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TENSORS = (".safetensors", ".bin", ".pt", ".gguf")


@dataclass(frozen=True, slots=True)
class Image:
    """An image manifest, ready to be put, with the two small blobs that it names beside the files."""

    data: bytes
    blobs: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        return digest_of(self.data)


def digest_of(data: bytes) -> str:
    """`sha256:…` of bytes."""
    return f"sha256:{sha256(data).hexdigest()}"


def image(placed: PlacedVersion, nonce: str) -> Image:
    """The image of a version. `nonce` distinguishes two pushes of the same version, so that a lost race shows."""
    manifest, own = placed.manifest, manifest_bytes(placed)
    layers = [
        _layer(entry.path, f"sha256:{entry.sha256}", entry.size)
        for entry in (*manifest.files, *manifest.extras)
    ]
    layers.append(_layer(MANIFEST, digest_of(own), len(own)))
    config = canonical_json(
        {
            "descriptor": {
                "name": placed.name,
                "version": str(placed.number),
                **({"createdAt": manifest.created} if manifest.created else {}),
            },
            "config": {"format": "safetensors", "precision": "", "architecture": manifest.method},
            "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
        }
    ).encode()
    body = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": ARTIFACT,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": layers,
        "annotations": _annotations(placed) | {f"{PREFIX}push": nonce},
    }
    return Image(canonical_json(body).encode(), {digest_of(own): own, digest_of(config): config})


def parse(data: bytes, label: str) -> Mapping[str, Any]:
    """An image manifest or index that came from elsewhere, with what we read of it checked; `Corrupt` says why not."""
    try:
        body = json.loads(data)
        descriptors = (*(body.get("layers") or ()), *(body.get("manifests") or ()))
        for table in (
            body.get("subject"),
            *(one.get("annotations") for one in (body, *descriptors)),
        ):
            if not isinstance(table, dict | None):
                raise TypeError("its annotations or its subject are no tables")  # noqa: TRY301
        for descriptor in descriptors:
            if (
                not _DIGEST.fullmatch(str(descriptor["digest"]))
                or type(descriptor["size"]) is not int
                or descriptor["size"] < 0
            ):
                raise ValueError("a layer has no sha256 or size")  # noqa: TRY301
        return dict(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(
            f"the image manifest of {label} cannot be trusted",
            why=str(error) or type(error).__name__,
            fix="ask who pushed it to push it again as a new version",
        ) from error


def checked(digest: str, label: str) -> str:
    """A digest that is about to become part of a URL; `Corrupt` unless it is `sha256:` and 64 digits."""
    if not _DIGEST.fullmatch(digest):
        raise Corrupt(
            f"a digest in {label} cannot be trusted",
            why=f"{digest[:80]!a} is not sha256: and 64 hexadecimal digits",
            fix="do not trust who can write there",
        )
    return digest


def manifest_layer(body: Mapping[str, Any], label: str) -> str:
    """The digest of the layer that holds `adaptkit.json`."""
    for layer in body.get("layers") or ():
        if (layer.get("annotations") or {}).get(TITLE) == MANIFEST:
            return str(layer["digest"])
    raise Corrupt(
        f"{label} is not an adapter that adaptkit pushed",
        why=f"no layer is called {MANIFEST}",
        fix="fetch it with: oras pull, then adaptkit add",
    )


def _layer(path: str, digest: str, size: int) -> dict[str, Any]:
    kind = DOCUMENT if path.endswith(".md") else WEIGHTS if path.endswith(_TENSORS) else SETTINGS
    return {
        "mediaType": kind,
        "digest": digest,
        "size": size,
        "annotations": {TITLE: path, FILEPATH: path},
    }


def _annotations(placed: PlacedVersion) -> dict[str, str]:
    """What a registry's page shows without fetching a layer: author, base, lineage."""
    manifest = placed.manifest
    annotations = {
        "org.opencontainers.image.title": placed.name,
        "org.opencontainers.image.version": str(placed.number),
        "org.opencontainers.image.description": placed.message,
        "org.opencontainers.image.authors": placed.author,
        "org.opencontainers.image.created": manifest.created,
        "org.opencontainers.image.base.name": manifest.base.name or "",
        f"{PREFIX}digest": manifest.digest,
        f"{PREFIX}method": manifest.method,
        f"{PREFIX}rank": str(manifest.rank or ""),
        f"{PREFIX}base.status": manifest.base.status,
        **{f"{PREFIX}base.{level.kind}": level.value for level in manifest.base.levels},
        f"{PREFIX}lineage": canonical_json(
            [{"digest": p.digest, "weight": p.weight, "role": p.role} for p in manifest.parents]
        )
        if manifest.parents
        else "",
    }
    return {name: value for name, value in annotations.items() if value}
