"""Writing an adapter directory."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadWeights
from adaptkit.extend.artifact_files import CONFIG, README, WEIGHTS
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.safetensors.reader import TensorFile, numpy_dtype
from adaptkit.io.safetensors.writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.extend import Array


def write_companions(out: Path, config: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write the files beside the weights of a merged adapter."""
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out / name, content)
    atomic_write(out / CONFIG, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


_SETS = ("exclude_modules", "feedforward_modules", "modules_to_save", "target_modules")


def sort_sets(folder: Path) -> None:
    """Sort the lists of `adapter_config.json` that are sets to PEFT.

    PEFT writes them in an order that changes from process to process, so the same training would get
    another digest each time.
    """
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    for name in _SETS:
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    atomic_write(folder / CONFIG, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


def rewrite_weights(folder: Path, out: Path, tensors: Mapping[str, Array], label: str) -> None:
    """The adapter in `folder` with other numbers: the same files, keys, shapes and dtypes, in the new folder `out`.

    `BadWeights` when the tensors are not those of the adapter, or do not fit its dtype.
    """
    import numpy as np

    with os_errors("write", out):
        shutil.copytree(folder, out, ignore=shutil.ignore_patterns(WEIGHTS, README))
        out.chmod(0o755)
    with TensorFile(folder / WEIGHTS) as old:
        layout = {key: (entry.dtype, entry.shape) for key, entry in old.header.tensors.items()}
        if (apart := sorted(layout.keys() ^ tensors.keys())) != []:
            raise BadWeights(
                f"cannot write {label} with new numbers",
                why=f"it holds other tensors than were trained: {', '.join(apart[:5])}",
            )
        with TensorWriter(out / WEIGHTS, layout, old.header.metadata) as writer:
            for key, (dtype, _) in layout.items():
                with np.errstate(over="ignore"):
                    stored = np.ascontiguousarray(tensors[key].astype(numpy_dtype(dtype)))
                if not np.isfinite(stored.astype(np.float32)).all():
                    raise BadWeights(
                        f"the tensor '{key}' of {label} came out as NaN or Inf",
                        why=f"its values do not fit {dtype}, or training diverged",
                        fix="a smaller --rate",
                    )
                writer.write(key, stored)
            writer.commit()
