"""`make bench`: adaptkit's reading of safetensors files beside the library's, in our access pattern, as ratios.

One tensor at a time, in numpy, bf16 through ml_dtypes. Each pair does the same work on the same file, in turn in one
run; the ratio is library / ours, so above 1.2 ours is kept (docs/design.md). The strict check of the header is ours in
both: the library accepts files that adaptkit refuses.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).parent))
from timing import faster

from adaptkit.io.safetensors.reader import LARGEST_HEADER, TensorFile, read_header
from adaptkit.io.safetensors.writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 15
BLOCK = 256  # rows of a weight that a bake works on at a time
DTYPES = {"F32": np.float32, "BF16": ml_dtypes.bfloat16}


def main() -> None:
    """Write the files, time each pattern, print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="adaptkit-safetensors-") as folder:
        adapter, base = Path(folder) / "adapter.safetensors", Path(folder) / "base.safetensors"
        write(
            adapter,
            {f"layers.{i:03}.{side}": ("BF16", (16, 2048)) for i in range(224) for side in "AB"},
        )
        write(base, {f"layers.{i:02}.weight": ("BF16", (2048, 2048)) for i in range(24)})
        for path in (adapter, base):
            assert sums(ours_read(path)) == sums(library_read(path)), (
                "the two read different values"
            )
        rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
            (
                "adapter of 448 tensors, each copied",
                lambda: ours_read(adapter),
                lambda: library_read(adapter),
            ),
            (
                "base of 201 MB, each tensor in float64",
                lambda: ours_in_float64(base),
                lambda: library_in_float64(base),
            ),
            (
                "base of 201 MB, blocks of 256 rows in float32",
                lambda: ours_blocks(base),
                lambda: library_blocks(base),
            ),
            (
                "base of 201 MB, bytes of each tensor compared",
                lambda: ours_equal(base),
                lambda: library_equal(base),
            ),
            ("one tensor of the base", lambda: ours_one(base), lambda: library_one(base)),
        ]
        print(f"{'reading':48} {'ours':>9} {'library':>9}  library / ours (median, range)")
        ratios = []
        for work, ours, library in rows:
            row = faster(work, "safetensors", ours, library, -math.inf, RUNS)  # type: ignore[arg-type]
            ratios.append(row.ratio)
            print(
                f"{work:48} {row.ours_s:8.4f}s {row.peer_s:8.4f}s  {row.ratio:.2f}× "
                f"({row.low:.2f}–{row.high:.2f})"
            )
        print(f"geometric mean: {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}×")


def write(path: Path, plan: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """A file of random numbers."""
    rng = np.random.default_rng(0)
    with TensorWriter(path, plan) as writer:
        for name, (dtype, shape) in plan.items():
            writer.write(name, rng.standard_normal(shape, np.float32).astype(DTYPES[dtype]))
        writer.commit()


def sums(tensors: list[Any]) -> list[float]:
    """One number for each tensor."""
    return [float(tensor.astype(np.float64).sum()) for tensor in tensors]


def opened(path: Path) -> Any:
    """A file opened by the library, after our strict check of its header."""
    read_header(path, LARGEST_HEADER)
    return safe_open(path, framework="numpy")


def ours_read(path: Path) -> list[Any]:
    """Every tensor, copied."""
    with TensorFile(path, LARGEST_HEADER) as file:
        return [file.read(name) for name in file.header.tensors]


def library_read(path: Path) -> list[Any]:
    """Every tensor, copied."""
    with opened(path) as file:
        return [file.get_tensor(name) for name in sorted(file.keys())]


def ours_in_float64(path: Path) -> None:
    """What a merge does with the weights of a base: one tensor at a time, in float64."""
    with TensorFile(path, LARGEST_HEADER) as file:
        for name in file.header.tensors:
            file.view(name).astype(np.float64)


def library_in_float64(path: Path) -> None:
    """What a merge does with the weights of a base: one tensor at a time, in float64."""
    with opened(path) as file:
        for name in sorted(file.keys()):
            file.get_tensor(name).astype(np.float64)


def ours_blocks(path: Path) -> None:
    """What a bake does: some rows of a weight at a time."""
    with TensorFile(path, LARGEST_HEADER) as file:
        for name in file.header.tensors:
            tensor = file.view(name)
            for start in range(0, tensor.shape[0], BLOCK):
                tensor[start : start + BLOCK].astype(np.float32)


def library_blocks(path: Path) -> None:
    """What a bake does: some rows of a weight at a time."""
    with opened(path) as file:
        for name in sorted(file.keys()):
            tensor = file.get_slice(name)
            for start in range(0, tensor.get_shape()[0], BLOCK):
                tensor[start : start + BLOCK].astype(np.float32)


def ours_equal(path: Path) -> None:
    """What a bake's check and `extract` do: whether two tensors have the same bytes."""
    with TensorFile(path, LARGEST_HEADER) as one, TensorFile(path, LARGEST_HEADER) as other:
        assert all(
            np.array_equal(one.view(name).view(np.uint8), other.view(name).view(np.uint8))
            for name in one.header.tensors
        )


def library_equal(path: Path) -> None:
    """What a bake's check and `extract` do: whether two tensors have the same bytes."""
    with opened(path) as one, opened(path) as other:
        assert all(
            np.array_equal(
                one.get_tensor(name).view(np.uint8), other.get_tensor(name).view(np.uint8)
            )
            for name in one.keys()  # noqa: SIM118  (it is no mapping)
        )


def ours_one(path: Path) -> None:
    """Open a file for one of its tensors."""
    with TensorFile(path, LARGEST_HEADER) as file:
        file.read("layers.11.weight")


def library_one(path: Path) -> None:
    """Open a file for one of its tensors."""
    with opened(path) as file:
        file.get_tensor("layers.11.weight")


if __name__ == "__main__":
    main()
