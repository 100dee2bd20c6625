"""LoRA as PEFT saves it, on Linear, Conv1D, Conv2d (grouped too) and Embedding layers.

The keys in the file are the truth for which modules there are and for their ranks; the configuration
is needed for alpha and for the flags that change what the factors mean.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaptkit.errors import BadConfig, BadWeights, ExtrasConflict, Unmergeable
from adaptkit.extend import AdapterMethod, LowRank, Module
from adaptkit.hookspecs import hookimpl
from adaptkit.patterns import matches, may_never_end

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from adaptkit.extend import AdapterView, Applier, Array, Delta

PREFIX = "base_model.model."
_MAGNITUDE = ".lora_magnitude_vector"
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(?P<tail>\.weight|\.bias)?")

# Flags under which D = s·B·A no longer holds, with the reason as a clause.
_OTHER_MATH: Mapping[str, str] = {
    "kasa_config": "KaSA takes components of the base's weight away, so its update depends on the base",
    "target_parameters": "it targets fused expert parameters (target_parameters), whose factors nest",
    "use_qalora": "QALoRA pools its input, so its update is not a plain product",
    "use_bdlora": "block-diagonal LoRA shards its factors",
    "alora_invocation_tokens": "activated LoRA works only after its invocation tokens",
    "arrow_config": "Arrow routes between adapters at run time",
    "monteclora_config": "MonteCLoRA samples its factors at run time",
}
# Initialisations that change the base's own weights, so that the file alone is not the update.
_MOVED_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq", "mica")


class Lora(AdapterMethod):
    """Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

    name: ClassVar[str] = "lora"
    summary: ClassVar[str] = "LoRA and rsLoRA on Linear, Conv1D, Conv2d and Embedding layers"
    packs: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = ("task_type", "trainable_token_indices")

    def recognises(self, view: AdapterView) -> bool:
        return view.config.get("peft_type") == "LORA"

    def check(self, view: AdapterView) -> None:
        config = view.config
        for field, low in (("r", 1), ("lora_alpha", 0)):
            value = config.get(field)
            if not _at_least(value, low):
                raise BadConfig(f"{view.label}: {field} is {value!r}", why=f"it must be a number of at least {low}",
                                fix="mend adapter_config.json, or train again")  # fmt: skip
        for field in ("rank_pattern", "alpha_pattern"):
            for pattern, value in (config.get(field) or {}).items():
                if not _at_least(value, 0):
                    raise BadConfig(f"{view.label}: {field} gives '{pattern}' the value {value!r}",
                                    why="it must be a positive number", fix="mend adapter_config.json")  # fmt: skip
                if may_never_end(pattern):
                    raise BadConfig(f"{view.label}: {field} has the pattern '{pattern[:60]}'",
                                    why="matching it could take for ever: it repeats a group, or repeats too often",
                                    fix="write the module names out in adapter_config.json")  # fmt: skip
        if not self.unmergeable(view):
            self._modules(view)

    def unmergeable(self, view: AdapterView) -> str:
        config = view.config
        for flag, reason in _OTHER_MATH.items():
            if config.get(flag):
                return reason
        start = str(config.get("init_lora_weights", ""))
        if start.startswith(_MOVED_BASE):
            return (f"it was initialised with {start}, which changes the base's weights, and was saved without "
                    "path_initial_model_for_weight_conversion")  # fmt: skip
        if view.config.get("use_dora") and any(".lora_embedding_" in key for key in view.header):
            return "it uses DoRA on an embedding"
        marks = () if not view.config.get("use_dora") else (_MAGNITUDE, f"{_MAGNITUDE}.weight")
        odd = next(
            (
                key
                for key in view.header
                if ".lora_" in key and not _FACTOR.fullmatch(key) and not key.endswith(marks or "\0")
            ),
            None,
        )
        return f"it holds the tensor '{odd}', which plain LoRA has not" if odd else ""

    def needs(self, view: AdapterView) -> Literal["nothing", "shapes", "weights"]:
        return "weights" if view.config.get("use_dora") else "nothing"

    def rank(self, view: AdapterView) -> int | None:
        ranks = [_file_rank(key, info.shape) for key, info in view.header.items()]
        return max((rank for rank in ranks if rank), default=int(view.config["r"]))

    def modules(self, view: AdapterView) -> tuple[Module, ...]:
        if reason := self.unmergeable(view):
            raise Unmergeable(f"cannot read the modules of {view.label}", why=reason)
        return self._modules(view)

    def _modules(self, view: AdapterView) -> tuple[Module, ...]:
        sides: dict[str, dict[str, str]] = defaultdict(dict)
        for key in view.header:
            if (match := _FACTOR.fullmatch(key)) and match["tail"] != ".bias":
                sides[match["module"]][match["side"]] = key
        found: list[Module] = []
        for name, keys in sorted(sides.items()):
            if missing := {"A", "B"} - keys.keys():
                raise BadWeights(f"{view.label}: '{name}' has no lora_{missing.pop()}", why="a factor pair is incomplete",
                                 fix="save the adapter again")  # fmt: skip
            if view.config.get("use_dora") and not any(
                f"{name}{_MAGNITUDE}{end}" in view.header for end in ("", ".weight")
            ):
                raise BadWeights(f"{view.label}: '{name}' has no lora_magnitude_vector", why="its config says use_dora",
                                 fix="save the adapter again")  # fmt: skip
            found.extend(_describe(view, name.removeprefix(PREFIX), keys["A"], keys["B"]))
        if not found:
            raise BadWeights(f"{view.label} changes no module", why="the weights file holds no lora_A / lora_B pair",
                             fix="save the adapter again with model.save_pretrained(DIR)")  # fmt: skip
        return tuple(found)

    def delta(self, view: AdapterView, module: Module) -> Delta:
        stem = _stem(view, module)
        scale = _scale(view.config, module)
        if module.kind == "embedding":  # D = (B·A)ᵀ: the embedding's weight is vocabulary × dimension
            return LowRank(view.read(f"{stem}.lora_embedding_A").T, view.read(f"{stem}.lora_embedding_B").T, scale)
        A, B = view.read(f"{stem}.lora_A.weight"), view.read(f"{stem}.lora_B.weight")
        bias = self._bias(view, module) if self.needs_bias(view, module) else None
        if module.kind == "conv2d":
            rows, ranks = module.shape[0], module.rank
            A = A.reshape(A.shape[0], -1)[module.part * ranks : (module.part + 1) * ranks]
            B = B.reshape(B.shape[0], -1)[module.part * rows : (module.part + 1) * rows]
        return LowRank(B, A, scale, bias)

    def applier(self, view: AdapterView, module: Module) -> Applier:
        added = super().applier(view, module)
        if not view.config.get("use_dora"):
            return added
        magnitude = self._magnitude(view, module)

        def apply(weight: Array, rows: slice) -> Array:
            updated = added(weight, rows)
            norms = (updated**2).sum(axis=1) ** 0.5  # DoRA: magnitude times direction, row by row
            scaled: Array = updated * (magnitude[rows].astype(weight.dtype) / norms)[:, None]
            return scaled

        return apply

    def _magnitude(self, view: AdapterView, module: Module) -> Array:
        stem, rows = _stem(view, module), module.shape[0]
        key = next(key for key in (f"{stem}{_MAGNITUDE}", f"{stem}{_MAGNITUDE}.weight") if key in view.header)
        return view.read(key).reshape(-1)[module.part * rows : (module.part + 1) * rows]

    def needs_bias(self, view: AdapterView, module: Module) -> bool:
        return f"{_stem(view, module)}.lora_B.bias" in view.header

    def bias_applier(self, view: AdapterView, module: Module) -> Callable[[Array], Array] | None:
        if not self.needs_bias(view, module):
            return None
        added, scale = self._bias(view, module), _scale(view.config, module)
        return lambda bias: bias + added.astype(bias.dtype) * scale

    def _bias(self, view: AdapterView, module: Module) -> Array:
        rows = module.shape[0]
        return view.read(f"{_stem(view, module)}.lora_B.bias")[module.part * rows : (module.part + 1) * rows]

    def replacements(self, view: AdapterView) -> Mapping[str, str]:
        found = {}
        for key in self.extras(view):
            name = key.removeprefix(PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.", ".")
            found[name] = key
        return found

    def extras(self, view: AdapterView) -> tuple[str, ...]:
        return tuple(key for key in view.header if not _FACTOR.fullmatch(key) and _MAGNITUDE not in key)

    def pack(self, parts: Sequence[tuple[Module, LowRank]]) -> Mapping[str, Array]:
        import numpy as np

        module, delta = parts[0]
        stem = f"{PREFIX}{module.name}"
        if module.kind == "embedding":
            return {f"{stem}.lora_embedding_A": delta.B.T, f"{stem}.lora_embedding_B": delta.A.T}
        A = np.concatenate([d.A for _, d in parts]) if module.parts > 1 else delta.A
        B = np.concatenate([d.B for _, d in parts]) if module.parts > 1 else delta.B
        if module.kind == "conv2d":
            A, B = A.reshape(A.shape[0], *module.stored[1:]), B.reshape(*B.shape, 1, 1)
        tensors = {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}
        biases = [d.bias for _, d in parts if d.bias is not None]
        if biases:
            tensors[f"{stem}.lora_B.bias"] = np.concatenate(biases) if module.parts > 1 else biases[0]
        return tensors

    def merged_config(
        self, views: Sequence[AdapterView], parts: Sequence[Module], kept: Collection[str],
        settings: Mapping[str, Any], bias: bool,
    ) -> dict[str, Any]:  # fmt: skip
        _check_whole(views, parts, bias)
        ranks = {part.name: part.rank * part.parts for part in parts}
        top = max(ranks.values())
        # The ^ keeps PEFT's optional "(.*\.)?" from matching a longer name that ends in this one.
        others = {f"^{re.escape(name)}": rank for name, rank in sorted(ranks.items()) if rank != top}
        saved = {module for view in views for module in view.config.get("modules_to_save") or ()}
        biases = {str(view.config.get("bias") or "none") for view in views} - {"none"}
        return {
            **settings,
            "peft_type": "LORA",
            "base_model_name_or_path": views[0].config.get("base_model_name_or_path"),
            "inference_mode": True,
            "r": top,
            "lora_alpha": top,
            "rank_pattern": others,
            "alpha_pattern": others,
            "target_modules": sorted(ranks),
            "modules_to_save": sorted(m for m in saved if any(f".{m}." in key for key in kept)) or None,
            "layer_replication": views[0].config.get("layer_replication"),
            "fan_in_fan_out": any(view.config.get("fan_in_fan_out") for view in views),
            "lora_bias": bias,
            "bias": ("all" if len(biases) > 1 else biases.pop())
            if biases and any(k.endswith(".bias") for k in kept)
            else "none",
            "lora_dropout": 0.0,
            "use_rslora": False,
            "use_dora": False,
            "init_lora_weights": True,
        }


def _check_whole(views: Sequence[AdapterView], parts: Sequence[Module], bias: bool) -> None:
    """Refuse what one LoraConfig cannot say."""
    if bias and any(part.kind == "embedding" for part in parts):
        raise ExtrasConflict("cannot merge an adapter with lora_bias and one on an embedding",
                             why="PEFT has no lora_bias on embeddings, and the flag is for the whole adapter",
                             fix="merge them apart, or train one of them without lora_bias")  # fmt: skip
    plans = [(view.label, view.config.get("layer_replication")) for view in views]
    if any(plan != plans[0][1] for _, plan in plans):
        raise ExtrasConflict("the adapters disagree about layer_replication",
                             why="; ".join(f"{label} says {plan!r}" for label, plan in plans),
                             fix="merge adapters that were trained on the same layers")  # fmt: skip


def _at_least(value: Any, low: float) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= low


def _stem(view: AdapterView, module: Module) -> str:
    """What the keys of a module begin with: PEFT's prefix, or nothing in files that lack it."""
    return f"{PREFIX}{module.name}" if _has(view, f"{PREFIX}{module.name}") else module.name


def _has(view: AdapterView, stem: str) -> bool:
    return f"{stem}.lora_A.weight" in view.header or f"{stem}.lora_embedding_A" in view.header


def _file_rank(key: str, shape: tuple[int, ...]) -> int:
    match = _FACTOR.fullmatch(key)
    return shape[0] if match and match["side"] == "A" and shape else 0


def _describe(view: AdapterView, name: str, key_a: str, key_b: str) -> list[Module]:
    """The module of a factor pair, as one Module or, for a grouped convolution, one per group."""
    a, b = view.header[key_a].shape, view.header[key_b].shape
    if 0 in a or 0 in b or len(a) < 2 or len(b) < 2:
        key, shape = (key_a, a) if 0 in a or len(a) < 2 else (key_b, b)
        raise BadWeights(f"{view.label}: the tensor '{key}' has the shape {list(shape)}",
                         why="it is empty or flat, as after a save under ZeRO-3 or FSDP that did not gather the shards",
                         fix="gather the parameters, then save again")  # fmt: skip
    if "lora_embedding_" in key_a and len(a) == len(b) == 2 and b[1] == a[0]:
        return [Module(name, "embedding", (a[1], b[0]), a[0], (a[1], b[0]))]
    if len(a) == 4 and len(b) == 4 and b[2:] == (1, 1) and a[0] % b[1] == 0 and b[0] % (a[0] // b[1]) == 0:
        groups = a[0] // b[1]
        shape, stored = (b[0] // groups, math.prod(a[1:])), (b[0], *a[1:])
        return [Module(name, "conv2d", shape, b[1], stored, part, groups) for part in range(groups)]
    if len(a) == len(b) == 2 and b[1] == a[0]:
        if view.config.get("fan_in_fan_out"):
            return [Module(name, "conv1d", (b[0], a[1]), a[0], (a[1], b[0]))]
        return [Module(name, "linear", (b[0], a[1]), a[0], (b[0], a[1]))]
    raise BadWeights(f"{view.label}: A and B of '{name}' do not fit", why=f"A is {list(a)} and B is {list(b)}",
                     fix="save the adapter again")  # fmt: skip


def _scale(config: Mapping[str, Any], module: Module) -> float:
    """α/r, or α/√r with rsLoRA; r from the tensor, α from alpha_pattern or lora_alpha."""
    rank = module.rank * module.parts
    alpha = next((value for pattern, value in (config.get("alpha_pattern") or {}).items()
                  if matches(pattern, module.name)), config["lora_alpha"])  # fmt: skip
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


@hookimpl
def register_adapter_methods(register: Callable[[AdapterMethod], None]) -> None:
    register(Lora())
