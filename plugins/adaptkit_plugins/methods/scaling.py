"""Methods that hold vectors, and stay themselves when merged: IA3 and LN tuning."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaptkit.errors import BadWeights, BaseMismatch, Unmergeable
from adaptkit.extend import AdapterMethod, Module
from adaptkit.extend.layers import linear_kind, stored_shape
from adaptkit.extend.module_names import PREFIX, base_name, may_never_end
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.extend import AdapterView, Applier, Array

_LISTS = ("target_modules", "feedforward_modules", "modules_to_save")


class _Vectors(AdapterMethod):
    closed: ClassVar[bool] = True
    peft_type: ClassVar[str]

    def recognises(self, view: AdapterView) -> bool:
        return view.config.get("peft_type") == self.peft_type

    def unmergeable(self, view: AdapterView) -> str:
        return ""

    def needs(self, view: AdapterView) -> Literal["nothing", "shapes", "weights"]:
        return "weights"

    def combined_config(
        self, views: Sequence[AdapterView], weights: Sequence[float]
    ) -> dict[str, Any]:
        """The first one's, with the modules of all."""
        config = dict(views[0].config) | {"inference_mode": True}
        for field in _LISTS:
            values = [view.config.get(field) for view in views]
            lists = [value for value in values if isinstance(value, list)]
            if not any(isinstance(value, str) for value in values):  # an empty list stays one
                named = sorted({name for one in lists for name in one})
                config[field] = named if lists else None
            elif any(value != values[0] for value in values):
                raise Unmergeable(
                    "cannot merge these adapters",
                    why=f"their {field} differ and are patterns",
                    fix="train them with lists of module names",
                )
        return config


class Ia3(_Vectors):
    """Rescaled activations (Liu et al. 2022, https://arxiv.org/abs/2205.05638)."""

    name: ClassVar[str] = "ia3"
    summary: ClassVar[str] = "IA3; stays IA3 as 1 + Σ wᵢ(lᵢ − 1), or is baked"
    peft_type: ClassVar[str] = "IA3"
    _KEY: ClassVar[re.Pattern[str]] = re.compile(r"(?P<module>.+)\.ia3_l")

    def modules(self, view: AdapterView) -> tuple[Module, ...]:
        """All of them when the base's shapes are known.

        A vector shows only one side of its matrix.
        """
        names = [
            m["module"].removeprefix(PREFIX)
            for key in view.header
            if (m := self._KEY.fullmatch(key))
        ]
        if not names:
            raise BadWeights(
                f"{view.label} changes no module",
                why="its file holds no ia3_l",
                fix="save the adapter again with model.save_pretrained(DIR)",
            )
        if view.base_shapes is None:
            return ()
        return tuple(self._module(view, name) for name in sorted(names))

    def _module(self, view: AdapterView, name: str) -> Module:
        stored = stored_shape(view, name)
        if stored is None or len(stored) < 2:
            raise BaseMismatch(
                f"{view.label} does not fit the base",
                why=f"the base has no single layer '{name}'",
                fix="give the base it was trained on: --base DIR",
            )
        if len(stored) > 2:
            shape = (stored[0], math.prod(stored[1:]))
            return Module(name, "convolution", shape, min(shape), stored)
        shape = (stored[0], stored[1])
        if linear_kind(view, name, *shape) == "conv1d":
            return Module(name, "conv1d", (shape[1], shape[0]), min(shape), stored)
        return Module(name, "linear", shape, min(shape), stored)

    def _feeds_forward(self, view: AdapterView, module: Module) -> bool:
        """Whether the vector rescales what comes in, not what goes out."""
        vector = view.header[f"{PREFIX}{module.name}.ia3_l"].shape
        if module.kind != "convolution":
            return vector[0] == 1 and math.prod(vector) == module.shape[1]
        named = view.config.get("feedforward_modules") or ()
        if isinstance(named, str):
            return not may_never_end(named) and re.fullmatch(named, module.name) is not None
        return any(f".{module.name}".endswith(f".{one}") for one in named)

    def applier(self, view: AdapterView, module: Module) -> Applier:
        vector = view.read(f"{PREFIX}{module.name}.ia3_l").reshape(-1)
        if not self._feeds_forward(view, module):
            return lambda weight, rows: weight * vector[rows, None].astype(weight.dtype)
        columns = self._columns(view, module, vector)
        if columns.ndim == 1:
            return lambda weight, _rows: weight * columns.astype(weight.dtype)
        return lambda weight, rows: weight * columns[rows].astype(weight.dtype)

    def _columns(self, view: AdapterView, module: Module, vector: Array) -> Array:
        """By what each column of the matrix is multiplied; row by row for a grouped convolution."""
        import numpy as np

        if module.kind != "convolution":
            return vector
        kernel = math.prod(module.stored[2:])
        groups = vector.size // module.stored[1]
        if groups == 1:
            return np.repeat(vector, kernel)
        own = np.repeat(vector.reshape(groups, -1), kernel, axis=1)
        return np.repeat(own, module.shape[0] // groups, axis=0)

    def bias_applier(self, view: AdapterView, module: Module) -> Callable[[Array], Array] | None:
        if self._feeds_forward(view, module):
            return None
        vector = view.read(f"{PREFIX}{module.name}.ia3_l")
        return lambda bias: bias * vector.reshape(-1).astype(bias.dtype)

    def extras(self, view: AdapterView) -> tuple[str, ...]:
        return tuple(key for key in view.header if not self._KEY.fullmatch(key))

    def replacements(self, view: AdapterView) -> Mapping[str, str]:
        return {base_name(key): key for key in self.extras(view)}

    def combine(self, key: str, tensors: Sequence[Array], weights: Sequence[float]) -> Array:
        return 1.0 + sum(
            (w * (t.astype("float64") - 1.0) for w, t in zip(weights, tensors, strict=True)),
            start=0.0 * tensors[0].astype("float64"),
        )


class LnTuning(_Vectors):
    """Trained norms (Zhao et al. 2023, https://arxiv.org/abs/2312.11420).

    Whole vectors that replace the base's.
    """

    name: ClassVar[str] = "ln_tuning"
    summary: ClassVar[str] = "LN tuning; stays itself with weights that add up to 1, or is baked"
    peft_type: ClassVar[str] = "LN_TUNING"

    def replacements(self, view: AdapterView) -> Mapping[str, str]:
        return {
            key.removeprefix(PREFIX).replace(".ln_tuning_layers.", "."): key for key in view.header
        }

    def combine(self, key: str, tensors: Sequence[Array], weights: Sequence[float]) -> Array:
        return sum(
            (w * t.astype("float64") for w, t in zip(weights, tensors, strict=True)),
            start=0.0 * tensors[0].astype("float64"),
        )

    def combined_config(
        self, views: Sequence[AdapterView], weights: Sequence[float]
    ) -> dict[str, Any]:
        if abs(sum(weights) - 1.0) > 1e-9:
            raise Unmergeable(
                "cannot merge LN tuning at these weights",
                why="its vectors replace the base's own, so "
                f"weights must add up to 1, and these add up to {sum(weights):g}",
                fix="--normalize",
            )
        return super().combined_config(views, weights)


@hookimpl
def register_adapter_methods(register: Callable[[AdapterMethod], None]) -> None:
    for method in (Ia3(), LnTuning()):
        register(method)
