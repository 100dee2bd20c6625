"""One adapter directory, read lazily: configuration, header, then one tensor at a time.

Keys are normalised on the way in (`keys.py`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

from adaptkit.adapters.config_types import check_types
from adaptkit.adapters.keys import normalised
from adaptkit.adapters.pickled import PickledTensors
from adaptkit.errors import BadAdapter, BadConfig, BadWeights
from adaptkit.extend.artifact_files import (
    BASE_WEIGHTS,
    CONFIG,
    MANIFEST,
    PICKLE,
    README,
    WEIGHTS,
    belongs,
)
from adaptkit.io.closing import Closing
from adaptkit.io.safetensors.reader import TensorFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import Array, Model
    from adaptkit.types import TensorInfo

LARGEST_CONFIG = 4 << 20
"""Bytes; PEFT writes a few kilobytes, a rank_pattern for 1,000 modules about 100."""

_LARGEST_INT = 2**63
_LARGEST_FLOAT = 1e30  # as in an adaptkit.json; the norm of an update is its fourth power
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_NEVER = frozenset(
    {
        "optimizer.pt",
        "optimizer.bin",
        "scheduler.pt",
        "scaler.pt",
        "rng_state.pth",
        "training_args.bin",
    }
)


class _Tensors(Protocol):
    """Where tensors come from: a safetensors file, or a pickle that was asked for."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]: ...
    def read(self, key: str) -> Array: ...
    def close(self) -> None: ...


class Adapter(Closing):
    """An adapter directory as an `AdapterView`. Close it, or use it in a `with`."""

    def __init__(
        self,
        path: Path,
        label: str,
        config: Mapping[str, Any],
        tensors: _Tensors,
        base_shapes: Mapping[str, tuple[int, ...]] | None = None,
        *,
        pickled: bool = False,
    ) -> None:
        self.path, self.label, self.config = path, label, config
        self.base_shapes = base_shapes
        self.model: Callable[[], Model | None] = lambda: None
        self.pickled = pickled
        self._tensors = tensors
        self._keys, self.header = normalised(tensors.infos, label)

    @classmethod
    def open(
        cls,
        path: Path,
        label: str = "",
        *,
        allow_pickle: bool = False,
        base_shapes: Mapping[str, tuple[int, ...]] | None = None,
        views: bool = False,
    ) -> Self:
        """Read configuration and header; raises `BadAdapter`, `BadConfig` or `BadWeights`.

        With `views` tensors are read only and not copied out of the mapped file: for who copies all of them anyway.
        """
        label = label or str(path)
        if not path.exists():
            raise BadAdapter(
                f"no adapter at {label}",
                why="the path does not exist",
                fix="check the path for a typo",
            )
        if not path.is_dir():
            beside = (path.parent / CONFIG).is_file()
            fix = f"give the folder: {path.parent}" if beside else ""
            if path.suffix in _PICKLES:
                fix = (
                    fix or "a pickle of another tool: write it as .safetensors there, and add that"
                )
            raise BadAdapter(
                f"{label} is a file",
                why=f"an adapter is a folder that holds {CONFIG}, or a .safetensors file of another tool",
                fix=fix,
            )
        config = read_config(path, label)
        weights, pickle = path / WEIGHTS, path / PICKLE
        if weights.exists():
            return cls(path, label, config, _Safetensors(weights, views=views), base_shapes)
        if not pickle.exists():
            raise _no_weights(path, label)
        if not allow_pickle:
            raise BadWeights(
                f"{label} holds a pickle, {PICKLE}",
                why="unpickling can run code that the file brings",
                fix="if you trust where it comes from: --allow-pickle",
            )
        return cls(path, label, config, PickledTensors(pickle, label), base_shapes, pickled=True)

    @property
    def strays(self) -> tuple[str, ...]:
        """File keys that had to be normalised.

        PEFT would not find them under the name they have.
        """
        return tuple(sorted(raw for key, raw in self._keys.items() if key != raw))

    def attach_base(self, base: BaseWeights) -> None:
        """Give it its base, for what its update needs of it."""
        self.base_shapes, self.model = base.shapes, base.model

    def read(self, key: str) -> Array:
        """One tensor, by its normalised key."""
        return self._tensors.read(self._keys[key])

    def check_tensors(self) -> None:
        """Read every tensor once.

        `BadWeights` for NaN, Inf, or what an un-gathered save leaves behind.
        """
        import numpy as np

        for key, info in self.header.items():
            if 0 in info.shape:
                raise BadWeights(
                    f"{self.label}: the tensor '{key}' is empty, shape {list(info.shape)}",
                    why="it was saved under ZeRO-3 or FSDP before the shards were gathered",
                    fix="gather the parameters, then save again",
                )
            values = self.read(key)
            if values.dtype.kind not in "iub" and not np.isfinite(values).all():
                raise BadWeights(
                    f"{self.label}: the tensor '{key}' holds NaN or Inf",
                    why="training diverged",
                    fix="use an earlier checkpoint",
                )

    def close(self) -> None:
        self._tensors.close()


def _no_weights(folder: Path, label: str) -> BadWeights:
    if any(folder.glob("adapter_model-*-of-*.safetensors")):
        return BadWeights(
            f"{label} has its weights in several files",
            why=f"PEFT loads one, {WEIGHTS}",
            fix='save it again in one: model.save_pretrained(DIR, max_shard_size="100GB")',
        )
    return BadWeights(
        f"{label} has no weights",
        why=f"neither {WEIGHTS} nor {PICKLE} is there",
        fix="save the adapter again with model.save_pretrained(DIR)",
    )


def _not_an_adapter(folder: Path, label: str) -> BadConfig:
    what = f"{label} has no {CONFIG}"
    if any((folder / name).is_file() for names in BASE_WEIGHTS for name in names):
        return BadConfig(
            what,
            why="it holds a base model, not an adapter",
            fix=f"adaptkit base add {label} --name NAME; an adapter of it: adaptkit add DIR --base {label}",
        )
    if (inner := next(folder.glob(f"*/{CONFIG}"), None)) is not None:
        return BadConfig(
            what,
            why=f"its folder {inner.parent.name} has one",
            fix=f"give that, or all of them: adaptkit add {label} --recursive --name-from '{{dir}}'",
        )
    return BadConfig(
        what,
        why="it is not a saved adapter",
        fix="save it with model.save_pretrained(DIR), or give the folder that holds the file",
    )


def read_config(folder: Path, label: str) -> dict[str, Any]:
    """The parsed adapter_config.json; strict JSON, an object, of a sane size."""
    path = folder / CONFIG
    if not path.is_file():
        raise _not_an_adapter(folder, label)
    if (size := path.stat().st_size) > LARGEST_CONFIG:
        raise BadConfig(
            f"{label}: {CONFIG} has {size:,} bytes",
            why=f"more than {LARGEST_CONFIG:,} is no configuration",
        )
    try:
        text = path.read_text("utf-8")
        config = json.loads(
            text, parse_constant=_no_constant, parse_int=_whole, parse_float=_finite
        )
        if "\\u" in text:
            json.dumps(config, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        why = "it is empty" if not path.stat().st_size else str(error)
        raise BadConfig(
            f"{label}: cannot read {CONFIG}", why=why, fix="save the adapter again"
        ) from error
    if not isinstance(config, dict):
        raise BadConfig(
            f"{label}: {CONFIG} holds a {type(config).__name__}",
            why="it must hold an object",
            fix="save the adapter again",
        )
    check_types(config, label)
    return config


def artifact_paths(folder: Path, include: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """The relative paths that belong to the artifact, and those that are skipped, each sorted.

    Optimizer states and training_args.bin never belong, whatever `include` says.
    """
    from fnmatch import fnmatch

    kept, skipped = [], []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.name not in _NEVER and (
            belongs(name) or any(fnmatch(name, glob) for glob in include)
        ):
            kept.append(name)
        elif name not in {README, MANIFEST}:
            skipped.append(name)
    return kept, skipped


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a value JSON knows")


def _whole(text: str) -> int:
    if not -_LARGEST_INT <= (value := int(text)) < _LARGEST_INT:
        raise ValueError(f"the number {text[:24]} is out of range")
    return value


def _finite(text: str) -> float:
    if not abs(value := float(text)) <= _LARGEST_FLOAT:
        raise ValueError(f"the number {text[:24]} is out of range")
    return value


class _Safetensors:
    """The tensors of a safetensors file."""

    def __init__(self, path: Path, *, views: bool) -> None:
        self._file = TensorFile(path)
        self.infos = self._file.header.infos
        self.read = self._file.view if views else self._file.read

    def close(self) -> None:
        self._file.close()
