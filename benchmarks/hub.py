"""200 MB to a Hub on loopback and back, against the bare huggingface_hub in the same run."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from timing import Row, faster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptkit.extend import Bundle

SIZE = 200_000_000  # bytes
WEIGHTS = "adapter_model.safetensors"


def throughput(folder: Path) -> list[Row]:
    """A push and a pull; ours puts the version's manifest and tag beside the bytes, and syncs what it pulls."""
    source = folder / "upload"
    source.mkdir()
    data = os.urandom(SIZE)
    (source / WEIGHTS).write_bytes(data)
    with _hub() as hub:
        from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download

        from adaptkit.remotes import transfer
        from adaptkit_plugins.storage.hub import HubBackend

        packed = _bundle(source, data)

        def fresh() -> None:
            hub.large.clear()
            hub.create("fleet/naval")

        def push() -> None:
            fresh()
            transfer.push(HubBackend.open("hf://fleet/naval"), packed)

        def push_bare() -> None:
            fresh()
            HfApi(endpoint=hub.url).create_commit(
                "fleet/naval",
                [CommitOperationAdd(WEIGHTS, str(source / WEIGHTS))],
                commit_message="bare",
            )

        uploads = faster(
            "push of 200 MB to hf://", "`HfApi.create_commit`", push, push_bare, 0.8, 5
        )
        push()
        out = folder / "download"

        def pull() -> None:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            place = HubBackend.open("hf://fleet/naval")
            found = place.version()
            place.pull(found, found.manifest.files, out)

        def pull_bare() -> None:
            shutil.rmtree(out, ignore_errors=True)
            hf_hub_download("fleet/naval", WEIGHTS, endpoint=hub.url, local_dir=out, cache_dir=out)

        downloads = faster(
            "pull of 200 MB from hf://", "`hf_hub_download`", pull, pull_bare, 0.8, 5
        )
    return [uploads, downloads]


def _bundle(source: Path, data: bytes) -> Bundle:
    from adaptkit.extend import Bundle
    from adaptkit.types import FileEntry, Manifest, PlacedVersion, artifact_digest

    files = (FileEntry(WEIGHTS, len(data), sha256(data).hexdigest()),)
    return Bundle(
        PlacedVersion(1, Manifest(artifact_digest(files), files, "lora"), "naval"),
        {WEIGHTS: source / WEIGHTS},
    )


@contextmanager
def _hub() -> Iterator:
    """A loopback Hub, and huggingface_hub set to use it by plain HTTP."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "shared"))
    from loopback_hub import LoopbackHub

    disable_progress_bars()
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
    with LoopbackHub() as hub:
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_write"}
        yield hub
