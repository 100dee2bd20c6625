"""What the base's class says of one module, for methods: its kind of layer and the shape of its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from adaptkit.errors import BadBase, MissingExtra
from adaptkit.extend.module_names import Names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend.method import AdapterView, Model


def model_of(view: AdapterView) -> Model | None:
    """The base's model; None when no base is at hand, or no library here knows its class."""
    try:
        return view.model()
    except (BadBase, MissingExtra):
        return None


def linear_kind(
    view: AdapterView, name: str, rows: int, columns: int
) -> Literal["linear", "conv1d"]:
    """How the base stores the weight of a linear layer with m×n updates: as m×n, or as n×m (transformers' Conv1D).

    The model's class decides, else the shape that the base stores; the adapter's flag counts where neither tells.
    """
    model = model_of(view)
    found = model.layer(name) if model is not None else ""
    if found in {"linear", "conv1d"}:
        return "conv1d" if found == "conv1d" else "linear"
    stored = stored_shape(view, name) if model is not None or view.base_shapes else None
    if stored in {(rows, columns), (columns, rows)} and rows != columns:
        return "linear" if stored == (rows, columns) else "conv1d"
    return "conv1d" if view.config.get("fan_in_fan_out") else "linear"


def stored_shape(view: AdapterView, name: str) -> tuple[int, ...] | None:
    """The shape of a module's weight in the base: in the model where its class is known, else in the checkpoint."""
    model = model_of(view)
    if model is not None and (shape := model.shape(f"{name}.weight")) is not None:
        return shape
    known = view.base_shapes or {}
    found = _names(known).called(f"{name}.weight") if known else []
    return known[found[0]] if len(found) == 1 else None


_RECENT: list[tuple[Mapping[str, tuple[int, ...]], Names]] = []


def _names(known: Mapping[str, tuple[int, ...]]) -> Names:
    """The look-up of a base's names, made once for all modules of an adapter."""
    for mapping, names in _RECENT:
        if mapping is known:
            return names
    made = Names(known)
    _RECENT.insert(0, (known, made))
    del _RECENT[4:]
    return made
