"""The levels of a base's identity: `as1` from headers, `fs1` from files, `tm1` from tensors.

The infos are fixed for ever, golden values are tested:
- as1: sha256 of the canonical JSON [[name, dtype, shape], …], sorted by name
- fs1: sha256 of the canonical JSON list of the files' sha256, sorted
- tm1: BLAKE3 Merkle root, split as in RFC 6962 (2.1), over the leaves sorted by name; a leaf is
  BLAKE3(0x00 ‖ canonical JSON [name, dtype, shape, BLAKE3 of the bytes]), a node BLAKE3(0x01 ‖ left ‖ right)
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from adaptkit.bases.classes.tied_weights import candidates
from adaptkit.bases.files.checkpoint import (
    declared_name,
    declared_origin,
    declared_quantisation,
    read_layout,
)
from adaptkit.bases.files.hashing import hash_all
from adaptkit.bases.pipeline import prefixed
from adaptkit.errors import BadBase, NotFound
from adaptkit.io.progress.progress import no_progress
from adaptkit.types import BaseIdentity, Level, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from adaptkit.bases.files.checkpoint import Layout, TensorLocation
    from adaptkit.io.progress.progress import Progress
    from adaptkit.types import TensorInfo

LEVELS = ("as1", "fs1", "tm1")


def measure(
    directory: Path,
    levels: Iterable[str] = LEVELS,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> BaseIdentity:
    """The identity of a base model's folder, read here; of a `.bin` set only `fs1` can be had.

    `cache` is a folder for what was hashed before; `progress` counts the bytes that are really read.
    """
    wanted = tuple(levels)
    for level in wanted:
        if level not in LEVELS:
            raise NotFound("identity level", level, LEVELS)
    layout = read_layout(directory)
    files = layout.files if "fs1" in wanted else ()
    shas, hashes, left_out = _hash(layout, files, "tm1" in wanted, cache, progress or no_progress)
    found: list[Level] = []
    kept = {name: place for name, place in (layout.tensors or {}).items() if name not in left_out}
    if kept and "as1" in wanted:
        found.append(Level(as1({name: place.info for name, place in kept.items()}), measured=True))
    if files:
        found.append(Level(fs1(shas.values()), measured=True))
    if kept and "tm1" in wanted:
        found.append(Level(tm1(_leaves(kept, hashes)), measured=True))
    return BaseIdentity(
        declared_name(layout),
        tuple(found),
        declared_quantisation(layout.config),
        declared_origin(layout),
    )


def claimed(outline: Path, shas: Mapping[str, str], name: str) -> BaseIdentity:
    """The identity of a base of which only config, index and headers are here, by what its place says of its files.

    `shas` are sha256 by file name. `as1` is left out where only the bytes tell whether a tensor is tied.
    """
    layout = read_layout(outline)
    claims = [shas.get(file.relative_to(outline).as_posix(), "") for file in layout.files]
    found: list[Level] = []
    infos = {tensor: place.info for tensor, place in (layout.tensors or {}).items()}
    if infos and not _perhaps_tied(layout):
        found.append(Level(as1(infos), measured=False))
    if all(claims):
        found.append(Level(fs1(claims), measured=False))
    return BaseIdentity(
        name, tuple(found), declared_quantisation(layout.config), declared_origin(layout)
    )


def tensor_hashes(
    directory: Path, cache: Path | None = None, progress: Progress | None = None
) -> dict[str, str]:
    """The leaves of `tm1` (hex) by tensor name: two of these tell which tensors differ."""
    layout = read_layout(directory)
    if layout.tensors is None:
        raise BadBase(
            f"the tensors of {directory} cannot be hashed",
            why="a pickle has no header to find them by",
            fix="convert the model to safetensors",
        )
    _, hashes, left_out = _hash(layout, (), True, cache, progress or no_progress)
    kept = {name: place for name, place in layout.tensors.items() if name not in left_out}
    return {name: leaf.hex() for name, leaf in _leaves(kept, hashes).items()}


def base_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape by name, from headers only; tied tensors that are in the files included."""
    layout = read_layout(directory)
    if layout.tensors is None:
        raise BadBase(
            f"the shapes of {directory} are not known",
            why="a pickle has no header to read them from",
            fix="convert the model to safetensors",
        )
    return {name: place.entry.shape for name, place in sorted(layout.tensors.items())}


def as1(tensors: Mapping[str, TensorInfo]) -> str:
    """The architecture level."""
    rows = [[name, info.dtype, list(info.shape)] for name, info in sorted(tensors.items())]
    return "as1:" + sha256(canonical_json(rows).encode()).hexdigest()


def fs1(shas: Iterable[str]) -> str:
    """The file level."""
    return "fs1:" + sha256(canonical_json(sorted(shas)).encode()).hexdigest()


def tm1(leaves: Mapping[str, bytes]) -> str:
    """The tensor level."""
    return "tm1:" + _root([leaf for _, leaf in sorted(leaves.items())]).hex()


def _hash(
    layout: Layout, files: Sequence[Path], every: bool, cache: Path | None, progress: Progress
) -> tuple[dict[Path, str], dict[str, str], set[str]]:
    """Hash what is needed: whole files, every tensor or only those that may be tied; and what is left out as tied."""
    tensors = layout.tensors or {}
    pairs = _perhaps_tied(layout)
    needed = tensors if every else {name: tensors[name] for pair in pairs for name in pair}
    shas, hashes = hash_all(files, needed, cache, progress)
    return shas, hashes, {tied for tied, partner in pairs if hashes[tied] == hashes[partner]}


def _perhaps_tied(layout: Layout) -> list[tuple[str, str]]:
    """Pairs of tensors that a configuration declares tied, of a pipeline within each component."""
    return [
        (prefixed(part, tied), prefixed(part, partner))
        for part, found in (layout.components or {"": layout}).items()
        for tied, partner in candidates(
            {name: place.info for name, place in (found.tensors or {}).items()}, found.config
        )
    ]


def _leaves(tensors: Mapping[str, TensorLocation], hashes: Mapping[str, str]) -> dict[str, bytes]:
    from blake3 import blake3

    leaves: dict[str, bytes] = {}
    for name, place in tensors.items():
        row = canonical_json([name, place.entry.dtype, list(place.entry.shape), hashes[name]])
        leaves[name] = blake3(b"\x00" + row.encode()).digest()
    return leaves


def _root(leaves: Sequence[bytes]) -> bytes:
    from blake3 import blake3

    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (
        (len(leaves) - 1).bit_length() - 1
    )  # the largest power of two below the number of leaves
    return blake3(b"\x01" + _root(leaves[:split]) + _root(leaves[split:])).digest()
