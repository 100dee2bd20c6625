"""A diffusers pipeline as one architecture, from those of its components."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptkit.bases.architecture import Architecture, unknown
from adaptkit.bases.pipeline import prefixed

if TYPE_CHECKING:
    from collections.abc import Mapping


def joined(
    name: str, parts: Mapping[str, Architecture], tensors: Mapping[str, tuple[int, ...]]
) -> Architecture:
    """What the classes of the components say, each name under that of its component."""
    reasons = [f"{part}: {found.unknown}" for part, found in parts.items() if not found.known]
    if reasons:
        return unknown(tensors, "; ".join(reasons), name)

    def together(table: str) -> dict[str, Any]:
        return {
            prefixed(part, key): value
            for part, found in parts.items()
            for key, value in getattr(found, table).items()
        }

    return Architecture(
        name,
        "",
        together("parameters"),
        together("layers"),
        together("groups"),
        frozenset(prefixed(part, key) for part, found in parts.items() for key in found.transposed),
        {
            prefixed(part, key): prefixed(part, source)
            for part, found in parts.items()
            for key, source in found.ties.items()
        },
        pieces={
            prefixed(part, key): tuple(replace(p, tensor=prefixed(part, p.tensor)) for p in pieces)
            for part, found in parts.items()
            for key, pieces in found.pieces.items()
        },
        altered=together("altered"),
        buffers=together("buffers"),
        unused=tuple(prefixed(part, key) for part, found in parts.items() for key in found.unused),
        parts={part: found.name for part, found in parts.items()},
    )


def tensors_of(tensors: Mapping[str, tuple[int, ...]], part: str) -> dict[str, tuple[int, ...]]:
    """The tensors of one component, as they are called in it."""
    start = f"{part}."
    return {
        name.removeprefix(start): shape for name, shape in tensors.items() if name.startswith(start)
    }
