"""LoRA as PEFT saves it, on Linear, Conv1D, Embedding layers, convolutions (grouped too) and fused experts.

The keys in the file are the truth for which modules there are and for their ranks; the
configuration is needed for alpha and for the flags that change what the factors mean.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaptkit.errors import BadWeights, Unmergeable
from adaptkit.extend import AdapterMethod, LowRank, Module
from adaptkit.extend.module_names import PREFIX, base_name
from adaptkit.hookspecs import hookimpl
from adaptkit_plugins.methods.lora.dialects import DIALECTS, dialect_of, translated
from adaptkit_plugins.methods.lora.experts import (
    describe_experts,
    expert_factors,
    is_expert,
    packed_experts,
    targets,
)
from adaptkit_plugins.methods.lora.files import (
    DIAGONAL,
    MAGNITUDE,
    TOKENS,
    describe,
    factor_of,
    file_rank,
    scale_of,
    stem_of,
    token_rows,
)
from adaptkit_plugins.methods.lora.merged import config_of_merge
from adaptkit_plugins.methods.lora.oracle import unread
from adaptkit_plugins.methods.lora.refusals import check_settings, other_math
from adaptkit_plugins.methods.lora.starts import start_of, taken_out
from adaptkit_plugins.methods.lora.writing import written

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from adaptkit.extend import AdapterView, Applier, Array, Delta, Rows, Translated


class Lora(AdapterMethod):
    """Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

    name: ClassVar[str] = "lora"
    summary: ClassVar[str] = (
        "LoRA, rsLoRA, DoRA, PiSSA, OLoRA and KaSA; on linear, convolution, embedding and expert layers"
    )
    packs: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = ("task_type",)
    dialects: ClassVar[Mapping[str, str]] = DIALECTS

    def recognises(self, view: AdapterView) -> bool:
        return view.config.get("peft_type") == "LORA"

    def check(self, view: AdapterView) -> None:
        check_settings(view)
        if not self.unmergeable(view):
            self._modules(view)

    def unmergeable(self, view: AdapterView) -> str:
        return other_math(view)

    def needs(self, view: AdapterView) -> Literal["nothing", "shapes", "weights"]:
        return "weights" if view.config.get("use_dora") or start_of(view.config) else "nothing"

    def by_rows(self, view: AdapterView) -> bool:
        if view.config.get("use_dora") and any(".lora_embedding_" in key for key in view.header):
            return False  # PEFT rescales the columns of an embedding, each by all of its rows
        return not start_of(view.config)

    def rank(self, view: AdapterView) -> int | None:
        ranks = [
            file_rank(key, info.shape)
            for key, info in view.header.items()
            if not is_expert(view, key.removeprefix(PREFIX).partition(".lora_")[0])
        ]
        return max((rank for rank in ranks if rank), default=int(view.config["r"]))

    def modules(self, view: AdapterView) -> tuple[Module, ...]:
        if reason := self.unmergeable(view):
            raise Unmergeable(f"cannot read the modules of {view.label}", why=reason)
        return self._modules(view)

    def _modules(self, view: AdapterView) -> tuple[Module, ...]:
        sides: dict[str, dict[str, str]] = defaultdict(dict)
        for key in view.header:
            if (match := factor_of(key)) and match["tail"] != ".bias":
                sides[match["module"]][match["side"]] = key
        found: list[Module] = []
        experts, dora = targets(view), view.config.get("use_dora")
        for name, keys in sorted(sides.items()):
            if missing := {"A", "B"} - keys.keys():
                raise BadWeights(
                    f"{view.label}: '{name}' has no lora_{missing.pop()}",
                    why="a factor pair is incomplete",
                    fix="save the adapter again",
                )
            if dora and not any(
                f"{name}{MAGNITUDE}{end}" in view.header for end in ("", ".weight")
            ):
                raise BadWeights(
                    f"{view.label}: '{name}' has no lora_magnitude_vector",
                    why="its config says use_dora",
                    fix="save the adapter again",
                )
            bare = name.removeprefix(PREFIX)
            describer = describe_experts if experts and is_expert(view, bare) else describe
            found.extend(describer(view, bare, keys["A"], keys["B"]))
        if not found:
            raise BadWeights(
                f"{view.label} changes no module",
                why="the weights file holds no lora_A / lora_B pair",
                fix="save the adapter again with model.save_pretrained(DIR)",
            )
        return tuple(found)

    def delta(self, view: AdapterView, module: Module) -> Delta:
        stem = stem_of(view, module)
        scale = scale_of(view.config, module)
        if (
            module.kind == "embedding"
        ):  # D = (B·A)ᵀ: the embedding's weight is vocabulary × dimension
            return LowRank(
                view.read(f"{stem}.lora_embedding_A").T,
                view.read(f"{stem}.lora_embedding_B").T,
                scale,
            )
        A, B = view.read(f"{stem}.lora_A.weight"), view.read(f"{stem}.lora_B.weight")
        bias = self._bias(view, module) if f"{stem}.lora_B.bias" in view.header else None
        if module.kind == "expert":
            A, B = expert_factors(A, B, module)
        if (diagonal := f"{stem}{DIAGONAL}") in view.header:
            B = B * view.read(diagonal).astype(B.dtype)
        if module.kind == "convolution":
            rows, ranks = module.shape[0], module.rank
            A = A.reshape(A.shape[0], -1)[module.part * ranks : (module.part + 1) * ranks]
            B = B.reshape(B.shape[0], -1)[module.part * rows : (module.part + 1) * rows]
        return LowRank(B, A, scale, bias)

    def applier(self, view: AdapterView, module: Module) -> Applier:
        added = super().applier(view, module)
        if (
            start := start_of(view.config)
        ) and module.kind != "embedding":  # PEFT leaves those whole
            scale = scale_of(view.config, module)
            return lambda weight, rows: (
                added(weight, rows) - taken_out(start, weight, module.rank, scale)
            )
        if not view.config.get("use_dora"):
            return added
        magnitude = self._magnitude(view, module)

        def apply(weight: Array, rows: slice) -> Array:
            updated = added(weight, rows)
            if module.kind == "embedding":
                norms = (updated**2).sum(axis=0) ** 0.5
                columns: Array = updated * (magnitude.astype(weight.dtype) / norms)
                return columns
            norms = (updated**2).sum(axis=1) ** 0.5  # DoRA: magnitude times direction, row by row
            scaled: Array = updated * (magnitude[rows].astype(weight.dtype) / norms)[:, None]
            return scaled

        return apply

    def _magnitude(self, view: AdapterView, module: Module) -> Array:
        stem, rows = stem_of(view, module), module.shape[0]
        key = next(
            key for key in (f"{stem}{MAGNITUDE}", f"{stem}{MAGNITUDE}.weight") if key in view.header
        )
        magnitude = view.read(key).reshape(-1)
        if module.kind == "embedding":
            return magnitude
        return magnitude[module.part * rows : (module.part + 1) * rows]

    def needs_bias(self, view: AdapterView, module: Module) -> bool:
        return f"{stem_of(view, module)}.lora_B.bias" in view.header

    def bias_applier(self, view: AdapterView, module: Module) -> Callable[[Array], Array] | None:
        if not self.needs_bias(view, module):
            return None
        added, scale = self._bias(view, module), scale_of(view.config, module)
        return lambda bias: bias + added.astype(bias.dtype) * scale

    def _bias(self, view: AdapterView, module: Module) -> Array:
        rows = module.shape[0]
        return view.read(f"{stem_of(view, module)}.lora_B.bias")[
            module.part * rows : (module.part + 1) * rows
        ]

    def replacements(self, view: AdapterView) -> Mapping[str, str]:
        found = {}
        for key in self.extras(view):
            if (
                key.endswith(TOKENS) or ".original_module." in key
            ):  # the latter is a copy of what the base has
                continue
            found[base_name(key)] = key
        return found

    def dialect_of(self, view: AdapterView) -> str:
        return dialect_of(view)

    def read_dialect(self, dialect: str, view: AdapterView) -> Translated:
        return translated(dialect, view, lambda: self.modules(view))

    def write_dialect(self, dialect: str, view: AdapterView) -> Translated:
        return written(dialect, view, self.modules(view))

    def unread(self, made: AdapterView, view: AdapterView) -> tuple[str, ...]:
        return unread(made, view, self.modules(view))

    def row_replacements(self, view: AdapterView) -> Mapping[str, Rows]:
        return token_rows(view)

    def row_settings(self, rows: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
        return {
            "trainable_token_indices": {
                key.removeprefix(PREFIX).removesuffix(TOKENS): list(numbers)
                for key, numbers in rows.items()
            }
        }

    def extras(self, view: AdapterView) -> tuple[str, ...]:
        marks = (MAGNITUDE, f"{MAGNITUDE}.weight", DIAGONAL)
        return tuple(key for key in view.header if not factor_of(key) and not key.endswith(marks))

    def kept_key(self, key: str, modules: Collection[str]) -> str | None:
        stem, _, leaf = key.rpartition(".")
        layer = stem.removesuffix(".base_layer")
        if layer.removeprefix(PREFIX) not in modules:
            return key
        if leaf == "bias":  # PEFT wraps a layer that it updates
            return f"{layer}.base_layer.bias"
        return None if stem == layer else key

    def pack(self, parts: Sequence[tuple[Module, LowRank]]) -> Mapping[str, Array]:
        import numpy as np

        module, delta = parts[0]
        stem = f"{PREFIX}{module.name}"
        if module.kind == "embedding":
            return {f"{stem}.lora_embedding_A": delta.B.T, f"{stem}.lora_embedding_B": delta.A.T}
        if module.kind == "expert":
            A, B = packed_experts(parts)
            return {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}
        A = np.concatenate([d.A for _, d in parts]) if module.parts > 1 else delta.A
        B = np.concatenate([d.B for _, d in parts]) if module.parts > 1 else delta.B
        if module.kind == "convolution":
            ones = (1,) * (len(module.stored) - 2)
            A, B = A.reshape(A.shape[0], *module.stored[1:]), B.reshape(*B.shape, *ones)
        tensors = {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}
        biases = [d.bias for _, d in parts if d.bias is not None]
        if biases:
            tensors[f"{stem}.lora_B.bias"] = (
                np.concatenate(biases) if module.parts > 1 else biases[0]
            )
        return tensors

    def merged_config(
        self,
        views: Sequence[AdapterView],
        parts: Sequence[Module],
        kept: Collection[str],
        settings: Mapping[str, Any],
        bias: bool,
    ) -> dict[str, Any]:
        return config_of_merge(views, parts, kept, settings, bias=bias)


@hookimpl
def register_adapter_methods(register: Callable[[AdapterMethod], None]) -> None:
    register(Lora())
