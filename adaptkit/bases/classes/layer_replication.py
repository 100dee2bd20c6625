"""Layers that an adapter repeats (PEFT's `layer_replication`): which layer of the result is which of the base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BaseMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")
_STACKS = ("layers", "layer", "h")


@dataclass(frozen=True, slots=True)
class Layers:
    """`order[i]` is the base's layer that becomes layer i; empty when all stay as they are."""

    order: tuple[int, ...] = ()

    @classmethod
    def of(cls, declared: Any, config: Mapping[str, Any], label: str) -> Layers:
        """From what an adapter's configuration says; `BaseMismatch` when it names layers the base has not."""
        if not declared:
            return cls()
        count = next((config[name] for name in _COUNTS if isinstance(config.get(name), int)), 0)
        try:
            spans = [range(first, end) for first, end in declared]
            sound = 0 < sum(map(len, spans)) <= 100 * count and all(
                s.start >= 0 and s.stop <= count for s in spans
            )
        except (TypeError, ValueError, OverflowError):
            spans, sound = [], False
        if not sound:
            raise BaseMismatch(
                f"{label} does not fit its base",
                why=f"its layer_replication is {declared!r}, and the base has {count} layers",
                fix="give the base it was trained on",
            )
        return cls(tuple(layer for span in spans for layer in span))

    @property
    def remarks(self) -> list[str]:
        """What the user is shown of it."""
        return (
            [f"the model has {len(self.order)} layers now: {', '.join(map(str, self.order))}"]
            if self.order
            else []
        )

    def copies(self, name: str) -> list[str]:
        """The names that a tensor of the base has in the result."""
        found = _layer(name)
        if not self.order or found is None:
            return [name]
        return [_with_layer(name, new) for new, old in enumerate(self.order) if old == found[1]]

    def old_name(self, name: str) -> str:
        """The base's name for what an adapter calls so."""
        found = _layer(name)
        if not self.order or found is None or found[1] >= len(self.order):
            return name
        return _with_layer(name, self.order[found[1]])

    def new_name(self, name: str, wanted: str) -> str:
        """The result's name for a tensor of the base that was found for a wanted name."""
        found = _layer(wanted)
        return (
            _with_layer(name, found[1])
            if self.order and found is not None and _layer(name)
            else name
        )

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What changes in config.json: the count, and every list that has an entry for each layer."""
        if not self.order:
            return {}
        count = next(name for name in _COUNTS if isinstance(config.get(name), int))
        lists = {
            name: [value[old] for old in self.order]
            for name, value in config.items()
            if isinstance(value, list) and len(value) == config[count]
        }
        return lists | {count: len(self.order)}


def _layer(name: str) -> tuple[int, int] | None:
    """Where a name says its layer: the position in its parts, and the number."""
    parts = name.split(".")
    return next(
        (
            (at, int(part))
            for at, part in enumerate(parts)
            if at and part.isdigit() and parts[at - 1] in _STACKS
        ),
        None,
    )


def _with_layer(name: str, number: int) -> str:
    found = _layer(name)
    assert found is not None
    parts = name.split(".")
    parts[found[0]] = str(number)
    return ".".join(parts)
