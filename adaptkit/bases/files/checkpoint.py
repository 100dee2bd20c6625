"""How a base model is stored in its folder: which files hold the weights, where each tensor is, what it is called.

A diffusers pipeline is a base, and so is each of its components (`unet/`, `transformer/`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit.bases.known import is_hub_id, snapshot_of
from adaptkit.bases.pipeline import (
    COMPONENTS,
    component_configs,
    components_of,
    configuration,
    is_pipeline,
    prefixed,
    split,
)
from adaptkit.errors import BadBase, BadWeights, StoreError
from adaptkit.extend.artifact_files import BASE_WEIGHTS, PIPELINE, BaseFiles, base_files
from adaptkit.io.files import open_plain
from adaptkit.io.safe_paths import check_relative
from adaptkit.io.safetensors.reader import LARGEST_HEADER, LFS_POINTER, read_header
from adaptkit.types import Quantisation, TensorInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.io.safetensors.reader import Entry

_INDEX, _SINGLE = BASE_WEIGHTS[0]
_PICKLE = BASE_WEIGHTS[-1][1]
_AGAIN = "download the model again, or give another folder"
_LARGEST_JSON = 100_000_000  # bytes; the index of a model with 100,000 tensors has about 10 MB
# https://huggingface.co/docs/huggingface_hub/guides/manage-cache: models--OWNER--NAME/snapshots/REVISION
_LARGEST_CARD = 1 << 20
_BASE_MODEL = re.compile(r"^base_model:[ \t]*(?:\n\s*-\s*)?([^\s#]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TensorLocation:
    """Where one tensor of a base is stored: the file, and the bytes in it."""

    file: Path
    entry: Entry

    @property
    def info(self) -> TensorInfo:
        return TensorInfo(self.entry.dtype, self.entry.shape, self.entry.nbytes)


@dataclass(frozen=True, slots=True)
class Layout:
    """A base model's folder: its config.json, its weight files, and its tensors (none known of a pickle)."""

    directory: Path
    config: Mapping[str, Any]
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorLocation] | None
    components: Mapping[str, Layout] = field(default_factory=dict)
    """Of a pipeline: the folder of each component that adapters change."""
    index: Path | None = None
    """The file that names the file of each tensor; None where one file holds them all."""
    variant: str = ""
    """Which variant (`fp16`) the files are; empty for the plain ones."""
    passed_over: tuple[str, ...] = ()
    """Variants that are in the folder as well, and were not read."""

    def remarks(self) -> list[str]:
        """What to know about the variants of its files, in sentences."""
        said = [
            f"{part}: {line}" for part, own in self.components.items() for line in own.remarks()
        ]
        if self.variant:
            said.append(
                f"its weights are the variant {self.variant}, since the plain files are not there: "
                f"load it with variant='{self.variant}'"
            )
        if self.passed_over:
            said.append(f"{', '.join(self.passed_over)} was not read: the plain files count")
        return said

    def stored(self, tensor: str) -> str:
        """What a tensor is called in its file, which knows nothing of the pipeline that it is in."""
        return split(tensor, self.components)[1]

    def inside(self, file: Path) -> str:
        """Where a file is in the folder: of a pipeline in that of a component."""
        return file.relative_to(self.directory).as_posix()


def read_layout(directory: Path) -> Layout:
    """Read config, index and headers; `BadBase` says what is missing or broken."""
    if is_pipeline(directory):
        return _read_pipeline(directory)
    return _read_model(directory)


def _read_model(directory: Path) -> Layout:
    found = _find(directory)
    config_path = directory / "config.json"
    config = _read_json(config_path) if config_path.is_file() else {}
    config.pop(COMPONENTS, None)  # only `configuration` writes that key
    pickled = any(path.suffix != ".safetensors" for path in found.files)
    return Layout(
        directory,
        config,
        found.files,
        None if pickled else _read_tensors(directory, found.files, found.weight_map),
        index=found.index,
        variant=found.variant,
        passed_over=found.passed_over,
    )


def _read_pipeline(directory: Path) -> Layout:
    """The components that adapters change, as one base."""
    index = _read_json(directory / PIPELINE)
    classes = components_of(directory, index)
    parts = {name: _read_model(directory / name) for name in classes}
    config = configuration(index, {name: (classes[name], parts[name].config) for name in parts})
    tensors = {
        prefixed(part, name): location
        for part, layout in parts.items()
        for name, location in (layout.tensors or {}).items()
    }
    pickled = any(layout.tensors is None for layout in parts.values())
    files = tuple(file for layout in parts.values() for file in layout.files)
    return Layout(directory, config, files, None if pickled else tensors, parts)


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The files that hold the weights: those `fs1` is made of. Their sizes tell how long hashing takes."""
    if is_pipeline(directory):
        parts = components_of(directory, _read_json(directory / PIPELINE))
        return tuple(file for part in parts for file in _find(directory / part).files)
    return _find(directory).files


@dataclass(frozen=True, slots=True)
class _Found:
    """The weight files of a folder, and what their index says of tensors (nothing when there is none)."""

    files: tuple[Path, ...]
    weight_map: Mapping[str, str]
    index: Path | None
    variant: str
    passed_over: tuple[str, ...]


def _find(directory: Path) -> _Found:
    if not directory.exists():
        raise BadBase(
            f"no base model at {directory}",
            why="the path does not exist",
            fix="check the path for a typo",
        )
    if not directory.is_dir():
        raise BadBase(
            f"{directory} is a file", why="a base model is a folder", fix=f"give {directory.parent}"
        )
    names = base_files(_names(directory))
    if names.index:
        index = directory / names.index
        weight_map = _read_index(index)
        files = tuple(directory / name for name in sorted(set(weight_map.values())))
        return _Found(files, weight_map, index, names.variant, names.others)
    if names.single:
        _check_whole(directory / names.single)
        return _Found((directory / names.single,), {}, None, names.variant, names.others)
    if names.others:
        raise BadBase(
            f"{directory} holds several variants of a model",
            why=", ".join(names.others),
            fix="save the one that you use: save_pretrained(DIR)",
        )
    if part := _module_with_weights(directory):
        raise BadBase(
            f"{directory} is a sentence-transformers model",
            why=f"its weights are in {part}",
            fix=f"give {directory / part}, and put what is made of it in its place",
        )
    raise BadBase(
        f"{directory} holds no base model",
        why=f"neither {_INDEX}, {_SINGLE} nor {_PICKLE} is there",
        fix=_AGAIN,
    )


def module_folders(directory: Path) -> tuple[str, ...]:
    """The folders that a sentence-transformers model has for its modules (`1_Pooling`), by its modules.json."""
    file = directory / "modules.json"
    if not file.is_file():
        return ()
    try:
        listed = json.loads(file.read_text("utf-8")) if file.stat().st_size < _LARGEST_CARD else []
        paths = [str(entry["path"]) for entry in listed if entry["path"]]
        for path in paths:
            check_relative(path)
    except (ValueError, TypeError, KeyError, OSError, RecursionError, StoreError) as error:
        raise BadBase(f"cannot read {file}", why=str(error), fix=_AGAIN) from error
    return tuple(path for path in paths if (directory / path).is_dir())


def _module_with_weights(directory: Path) -> str:
    """The module of a sentence-transformers model that has a transformer's configuration and weights."""
    return next(
        (
            part
            for part in module_folders(directory)
            if base_files(_names(directory / part)) != BaseFiles()
        ),
        "",
    )


def _names(directory: Path) -> list[str]:
    """The files in a folder."""
    try:
        return [path.name for path in directory.iterdir() if path.is_file()]
    except OSError as error:
        raise BadBase(f"cannot read {directory}", why=error.strerror or str(error)) from error


def _read_index(path: Path) -> dict[str, str]:
    weight_map = _read_json(path).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(v, str) for v in weight_map.values())
    ):
        raise BadBase(
            f"{path} is broken", why="its weight_map is not a table of file names", fix=_AGAIN
        )
    for name in sorted(set(weight_map.values())):
        try:
            check_relative(name)
        except StoreError as error:
            raise BadBase(
                f"{path} names the file {name!r}", why=error.why, fix="do not trust this model"
            ) from error
        if not (path.parent / name).is_file():
            raise BadBase(
                f"the base {path.parent} is incomplete",
                why=f"{path.name} names {name}, which is missing",
                fix=_AGAIN,
            )
        _check_whole(path.parent / name)
    return weight_map


def _check_whole(path: Path) -> None:
    try:
        with open_plain(path) as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise BadBase(f"cannot read {path}", why=error.strerror or str(error)) from error
    if start == LFS_POINTER:
        raise BadBase(
            f"{path} is a Git LFS pointer",
            why="the weights themselves were not downloaded",
            fix=f"run git lfs pull in {path.parent}",
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > _LARGEST_JSON:
            raise ValueError(f"it has {size:,} bytes")  # noqa: TRY301
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadBase(f"cannot read {path}", why=str(error), fix=_AGAIN) from error
    if not isinstance(table, dict):
        raise BadBase(
            f"{path} holds a {type(table).__name__}", why="it must hold an object", fix=_AGAIN
        )
    return table


def _read_tensors(
    directory: Path, files: tuple[Path, ...], index: Mapping[str, str]
) -> dict[str, TensorLocation]:
    tensors: dict[str, TensorLocation] = {}
    for file in files:
        try:
            header = read_header(file, LARGEST_HEADER)
        except BadWeights as error:
            raise BadBase(error.what, why=error.why, fix=error.fix) from error
        for name, entry in header.tensors.items():
            if name in tensors:
                raise BadBase(
                    f"the base {directory} is broken",
                    fix=_AGAIN,
                    why=f"'{name}' is stored both in {tensors[name].file.name} and in {file.name}",
                )
            tensors[name] = TensorLocation(file, entry)
    for name, promised in sorted(index.items()):
        if name not in tensors or tensors[name].file != directory / promised:
            raise BadBase(
                f"the base {directory} is broken",
                fix=_AGAIN,
                why=f"its index puts '{name}' into {promised}, where it is not",
            )
    if not tensors:
        raise BadBase(
            f"the base {directory} is empty", why="its weights hold no tensor", fix=_AGAIN
        )
    return tensors


def declared_name(layout: Layout) -> str:
    """What the base calls itself: the Hub cache's folder, a hub id in config.json, else the folder's own name."""
    directory = layout.directory.resolve()
    if found := snapshot_of(directory):
        return found
    name = layout.config.get("_name_or_path")
    if isinstance(name, str) and "/" in name and is_hub_id(name) and not Path(name).exists():
        return name
    return directory.name


def declared_origin(layout: Layout) -> str | None:
    """The repository that a quantised copy says it was made from, in the front matter of its README."""
    readme = layout.directory / "README.md"
    if declared_quantisation(layout.config) is None or not readme.is_file():
        return None
    with readme.open(encoding="utf-8", errors="replace") as file:
        return origin_in_card(file.read(_LARGEST_CARD))


def origin_in_card(text: str) -> str | None:
    """The first `base_model` in a model card's front matter, as `hf://owner/name`. Nothing of the card is evaluated."""
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = _BASE_MODEL.search(front[1]) if front else None
    name = found[1].strip("'\"") if found else ""
    return f"hf://{name}" if "/" in name and is_hub_id(name) else None


def declared_quantisation(config: Mapping[str, Any]) -> Quantisation | None:
    """How the files themselves are quantised, as config.json's quantization_config says."""
    for part in component_configs(config).values():
        if (found := declared_quantisation(part)) is not None:
            return found
    declared = config.get("quantization_config")
    if not isinstance(declared, dict):
        return None
    method = str(declared.get("quant_method") or "unknown")
    if declared.get("load_in_4bit") or method in {"mxfp4", "nvfp4"}:
        bits = 4
    elif declared.get("load_in_8bit") or "fp8" in method or method == "fbgemm_fp8":
        bits = 8
    else:
        bits = next(
            (declared[key] for key in ("bits", "w_bit", "nbits") if type(declared.get(key)) is int),
            0,
        )
    dtype = (
        declared.get("bnb_4bit_quant_type") if declared.get("load_in_4bit") else declared.get("fmt")
    )
    return Quantisation(method, bits, str(dtype or ""))


# the names that GPTQ, AWQ, bitsandbytes, HQQ, EETQ, compressed-tensors, fp8, MXFP4, NVFP4, quanto, torchao, AQLM, QuIP#
# and VPTQ give to what they keep beside or instead of a weight
_SCALES = re.compile(
    r"(_scale_inv|\.weight_(?:scales?|scale_2|global_scale|zero_point|packed|format)|\.q_?weight|\.qzeros|\.absmax"
    r"|\.quant_map|\.SCB|_blocks|\.W_q|\._data|_weight_qdata|\.codebooks|\.Qidxs|\.centroids|\.quant_state\..+)$"
)
_NARROW = ("F8_", "F4", "F6_")
_WHOLE = ("I", "U")  # numbers that are whole: no layer computes with such a weight as it is


def scaled_tensor(layout: Layout) -> str | None:
    """A tensor that shows that weights are stored divided by scales or packed, whatever config.json says."""
    for name, location in sorted((layout.tensors or {}).items()):
        dtype = location.entry.dtype
        packed = name.endswith(".weight") and dtype.startswith(_WHOLE)
        if _SCALES.search(name) or dtype.startswith(_NARROW) or packed:
            return name
    return None
