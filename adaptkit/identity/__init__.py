"""Base-model identity (DESIGN section 5): what a base is made of, and whether two bases are one.

A name proves nothing. `as1` says which tensors there are, `fs1` which files, `tm1` which bytes. The names below
load their modules when first used: most commands never hash anything.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptkit.identity.claims import claimed_by_cache
    from adaptkit.identity.comparison import Purpose, Ruling, admits, compare
    from adaptkit.identity.layout import weight_files
    from adaptkit.identity.levels import LEVELS, base_shapes, claimed, measure, tensor_hashes

__all__ = [
    "LEVELS",
    "Purpose",
    "Ruling",
    "admits",
    "base_shapes",
    "claimed",
    "claimed_by_cache",
    "compare",
    "measure",
    "tensor_hashes",
    "weight_files",
]

_HOMES = {
    **dict.fromkeys(("Purpose", "Ruling", "admits", "compare"), "comparison"),
    **dict.fromkeys(("LEVELS", "base_shapes", "claimed", "measure", "tensor_hashes"), "levels"),
    "claimed_by_cache": "claims",
    "weight_files": "layout",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"adaptkit.identity.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'adaptkit.identity' has no attribute {name!r}")
