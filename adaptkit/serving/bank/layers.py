"""The live layers that adapters change, found by the names that adapters use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BaseMismatch
from adaptkit.extend.module_names import same_name

if TYPE_CHECKING:
    from adaptkit.serving.bank.factors import Factors


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer of the live model, under its own name there."""

    name: str
    module: Any
    outputs: int
    inputs: int


def find_layer(model: Any, name: str, label: str) -> Layer:
    """The live layer an adapter means; names may differ in leading parts."""
    layers = dict(model.named_modules())
    found = [name] if name in layers else [known for known in layers if same_name(known, name)]
    layer = layers[found[0]] if len(found) == 1 else None
    if layer is not None and hasattr(layer, "in_features"):
        return Layer(found[0], layer, int(layer.out_features), int(layer.in_features))
    if layer is not None and hasattr(layer, "nf"):  # transformers' Conv1D stores inputs × outputs
        return Layer(found[0], layer, int(layer.nf), int(layer.weight.shape[0]))
    raise BaseMismatch(
        f"cannot serve {label}",
        why=f"the base has no linear layer '{name}'",
        fix="serve it on the base it was trained on",
    )


def check_size(label: str, layer: Layer, factors: Factors) -> None:
    """Refuse factors of another size; `BaseMismatch` names the module."""
    size = (factors.B.shape[1], factors.A.shape[1])
    if size != (layer.outputs, layer.inputs):
        raise BaseMismatch(
            f"cannot serve {label}",
            why=f"its update of '{layer.name}' is {size[0]}×{size[1]}, "
            f"the layer is {layer.outputs}×{layer.inputs}",
            fix="serve it on the base it was trained on",
        )
