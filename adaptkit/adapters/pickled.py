"""The tensors of a `.bin` pickle, read with torch's weights_only loader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadWeights, requires_extra
from adaptkit.extend.artifact_files import PICKLE
from adaptkit.types import TensorInfo

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.extend import Array

_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


class PickledTensors:
    """Its tensors by key, as `adaptkit.adapters.adapter.Adapter` reads them."""

    def __init__(self, path: Path, label: str) -> None:
        with requires_extra("torch", f"cannot read the pickle {PICKLE}"):
            import torch
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            first = str(error).splitlines()[0]
            raise BadWeights(
                f"{label}: cannot read {PICKLE} safely", why=first, fix="save as safetensors"
            ) from error
        if not isinstance(loaded, dict) or not all(
            isinstance(v, torch.Tensor) for v in loaded.values()
        ):
            raise BadWeights(
                f"{label}: {PICKLE} is not a table of tensors", fix="save as safetensors"
            )
        self._arrays: dict[str, Array] = {str(k): _from_torch(v) for k, v in loaded.items()}
        self.infos = {
            k: TensorInfo(_DTYPES[v.dtype.name], tuple(v.shape), v.nbytes)
            for k, v in self._arrays.items()
        }

    def read(self, key: str) -> Array:
        return self._arrays[key]

    def close(self) -> None:
        return


def _from_torch(tensor: Any) -> Array:
    import ml_dtypes
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:  # numpy has no bfloat16 of its own
        bits: Array = tensor.view(torch.uint16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    array: Array = tensor.numpy()
    return array
