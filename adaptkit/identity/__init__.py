"""Base-model identity (DESIGN section 5): what a base is made of, and whether two bases are one.

A name proves nothing. `as1` says which tensors there are, `fs1` which files, `tm1` which bytes.
"""

from __future__ import annotations

from adaptkit.identity.comparison import Purpose, Ruling, admits, compare
from adaptkit.identity.layout import weight_files
from adaptkit.identity.levels import LEVELS, base_shapes, measure, tensor_hashes

__all__ = [
    "LEVELS",
    "Purpose",
    "Ruling",
    "admits",
    "base_shapes",
    "compare",
    "measure",
    "tensor_hashes",
    "weight_files",
]
