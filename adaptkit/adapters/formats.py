"""Adapters as other tools write them, into PEFT directories and back. The tools are known to method plugins alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import Adapter, artifact_paths, read_config
from adaptkit.errors import BadAdapter, MergeError, NotFound
from adaptkit.extend.artifact_files import CONFIG, README, WEIGHTS
from adaptkit.io.files import atomic_write, os_errors, read_plain, sha256_file
from adaptkit.io.safetensors.reader import TensorFile
from adaptkit.io.safetensors.writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from adaptkit.extend import AdapterMethod, Array, Model, Translated
    from adaptkit.types import Facts, TensorInfo
    from adaptkit.types.facts import ConvertedFacts


_MOST_NOTES = 8
_KEPT = ("ss_", "modelspec.", "sshs_")
_LONGEST = 2_000  # characters of one value; kohya's tag frequencies have megabytes


class Foreign:
    """A file of weights as an `AdapterView`; its configuration is what the file's metadata says."""

    def __init__(
        self,
        file: Path,
        config: Mapping[str, Any] | None = None,
        base_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.file, self.label = file, str(file)
        self._tensors = TensorFile(file)
        self.config: Mapping[str, Any] = (
            dict(self._tensors.header.metadata) if config is None else config
        )
        self.header: Mapping[str, TensorInfo] = {
            key: self._tensors.info(key) for key in sorted(self._tensors.header.tensors)
        }
        self.base_shapes = base_shapes
        self.model: Callable[[], Model | None] = lambda: None

    def read(self, key: str) -> Array:
        return self._tensors.read(key)

    def close(self) -> None:
        self._tensors.close()


def foreign_file(path: Path) -> Path | None:
    """The weights of an adapter that is no PEFT directory: the file given, or the only one of a folder without a config."""
    if path.is_file() and path.suffix == ".safetensors":
        return (
            path.parent / WEIGHTS
            if path.name == WEIGHTS and (path.parent / CONFIG).is_file()
            else path
        )
    if path.is_dir() and not (path / CONFIG).exists():
        found = sorted(path.glob("*.safetensors"))
        return found[0] if len(found) == 1 else None
    return None


def from_dialect(
    path: Path,
    methods: Iterable[AdapterMethod],
    out: Path,
    *,
    dialect: str | None,
    base_shapes: Mapping[str, tuple[int, ...]] | None,
) -> Facts:
    """Write what another tool wrote as a PEFT directory into `out`; returns the facts to record."""
    known = list(methods)
    names = sorted({name for method in known for name in method.dialects})
    if dialect is not None and dialect not in names:
        raise NotFound("tool", dialect, names)
    file = foreign_file(path)
    source = (
        Foreign(path / WEIGHTS, read_config(path, str(path)), base_shapes)
        if file is None
        else Foreign(file, None, base_shapes)
    )
    try:
        for method in known:
            found = (
                dialect
                if dialect in method.dialects
                else method.dialect_of(source)
                if dialect is None
                else ""
            )
            if found:
                made = method.read_dialect(found, source)
                _write(made, out / WEIGHTS)
                atomic_write(
                    out / CONFIG,
                    (json.dumps(dict(made.config), indent=2, sort_keys=True) + "\n").encode(),
                )
                if file is None:
                    _copy_companions(path, out)
                origin: ConvertedFacts = {
                    "dialect": found,
                    "path": source.file.name,
                    "sha256": sha256_file(source.file),
                }
                if made.notes:
                    origin["notes"] = list(made.notes[:_MOST_NOTES])
                if metadata := kept_metadata(source.config):
                    origin["metadata"] = metadata
                return {"converted_from": origin}
    finally:
        source.close()
    raise BadAdapter(
        f"nothing knows what {path} is",
        why=f"it is not a PEFT directory, and none of {', '.join(names)} wrote it",
        fix="save it with model.save_pretrained(DIR), or say who wrote it: --from NAME",
    )


def kept_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What kohya's scripts and the model spec say of a file: training, base model, authors."""
    return {
        key: value
        for key, value in sorted(metadata.items())
        if key.startswith(_KEPT) and isinstance(value, str) and len(value) <= _LONGEST
    }


def to_dialect(
    adapter: Adapter,
    method: AdapterMethod,
    dialect: str,
    out: Path,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write an adapter as another tool reads it, into the folder `out`; returns the file, opened again as that tool would."""
    if dialect not in method.dialects:
        raise NotFound("tool", dialect, method.dialects)
    made = method.write_dialect(dialect, adapter)
    made = replace(made, metadata={**(metadata or {}), **made.metadata})
    file = out / made.file
    _write(made, file)
    written = Foreign(file)
    try:
        wrong = method.unread(written, adapter)
    finally:
        written.close()
    if wrong:
        file.unlink()
        raise MergeError(
            f"what was written of {adapter.label} for {dialect} could not be read there",
            why="; ".join(wrong[:3]),
            fix="keep it as a PEFT directory, and please report this with the names of its modules",
        )
    return file


def _write(made: Translated, path: Path) -> None:
    layout = {key: (info.dtype, info.shape) for key, info in made.layout.items()}
    with TensorWriter(path, layout, dict(made.metadata) or None) as writer:
        for key in layout:
            writer.write(key, made.read(key))
        writer.commit()


def _copy_companions(folder: Path, out: Path) -> None:
    names = [name for name in artifact_paths(folder)[0] if name not in {CONFIG, WEIGHTS}]
    for name in names + ([README] if (folder / README).is_file() else []):
        with os_errors("write", out / name):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(read_plain(folder / name))
