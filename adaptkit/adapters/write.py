"""Writing an adapter directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adaptkit.extend.artifact_files import CONFIG
from adaptkit.io.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_companions(out: Path, config: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write the files beside the weights of a merged adapter."""
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out / name, content)
    atomic_write(out / CONFIG, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
