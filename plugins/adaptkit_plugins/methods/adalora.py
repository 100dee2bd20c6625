"""AdaLoRA: a trained singular value decomposition P·Λ·Q with a rank for each module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import BadConfig, BadWeights
from adaptkit.extend import AdapterMethod, LowRank, Module
from adaptkit.extend.layers import linear_kind
from adaptkit.extend.module_names import PREFIX, base_name
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit.extend import AdapterView, Delta

_PART = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ABE])")


class AdaLora(AdapterMethod):
    """Adaptive budget allocation (Zhang et al. 2023, https://arxiv.org/abs/2303.10512)."""

    name: ClassVar[str] = "adalora"
    summary: ClassVar[str] = "AdaLoRA; merges into LoRA"

    def recognises(self, view: AdapterView) -> bool:
        return view.config.get("peft_type") == "ADALORA"

    def unmergeable(self, view: AdapterView) -> str:
        return ""

    def check(self, view: AdapterView) -> None:
        alpha = view.config.get("lora_alpha")
        if (
            isinstance(alpha, bool)
            or not isinstance(alpha, (int, float))
            or not abs(alpha) < float("inf")
        ):
            raise BadConfig(
                f"{view.label}: lora_alpha is {alpha!r}",
                why="it must be a number",
                fix="correct adapter_config.json, or train again",
            )
        self.modules(view)

    def rank(self, view: AdapterView) -> int | None:
        return max(module.rank for module in self.modules(view))

    def modules(self, view: AdapterView) -> tuple[Module, ...]:
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for key, info in view.header.items():
            if match := _PART.fullmatch(key):
                found.setdefault(match["module"], {})[match["side"]] = info.shape
        modules = []
        for name, parts in sorted(found.items()):
            if missing := set("ABE") - parts.keys():
                raise BadWeights(
                    f"{view.label}: '{name}' has no lora_{min(missing)}",
                    why="its product is incomplete",
                    fix="save the adapter again",
                )
            shape, rank = (parts["B"][0], parts["A"][1]), parts["A"][0]
            if parts["B"][1] != rank or parts["E"] != (rank, 1):
                raise BadWeights(
                    f"{view.label}: the factors of '{name}' do not fit",
                    why=str(parts),
                    fix="save the adapter again",
                )
            bare = name.removeprefix(PREFIX)
            kind = linear_kind(view, bare, *shape)
            stored = shape if kind == "linear" else (shape[1], shape[0])
            modules.append(Module(bare, kind, shape, rank, stored))
        if not modules:
            raise BadWeights(
                f"{view.label} changes no module",
                why="its file holds no lora_A, lora_B and lora_E",
                fix="save the adapter again with model.save_pretrained(DIR)",
            )
        return tuple(modules)

    def delta(self, view: AdapterView, module: Module) -> Delta:
        A, B, E = (view.read(f"{PREFIX}{module.name}.lora_{side}") for side in "ABE")
        alpha = float(view.config["lora_alpha"])
        # PEFT divides by the rank plus 1e-5, and takes a negative alpha for none.
        scale = (alpha if alpha > 0 else float(module.rank)) / (module.rank + 1e-5)
        return LowRank(B, A.astype("float64") * E, scale)

    def extras(self, view: AdapterView) -> tuple[str, ...]:
        return tuple(key for key in view.header if not _PART.fullmatch(key))

    def replacements(self, view: AdapterView) -> Mapping[str, str]:
        return {base_name(key): key for key in self.extras(view)}


@hookimpl
def register_adapter_methods(register: Callable[[AdapterMethod], None]) -> None:
    register(AdaLora())
