"""The tensors of other tools' files as PEFT has them: LoRA, LoHa and LoKr, read one at a time."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadWeights, Unmergeable
from adaptkit.extend import Translated
from adaptkit.extend.module_names import PREFIX, matches, may_never_end
from adaptkit.types import TensorInfo
from adaptkit_plugins.methods.lora.files import MAGNITUDE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit.extend import AdapterView, Array, Model

    Stored = tuple[TensorInfo, Callable[[], Array]]

LYCORIS = re.compile(
    r"(?:hada_(?:w1_a|w1_b|w2_a|w2_b|t1|t2)|lokr_(?:w1|w1_a|w1_b|w2|w2_a|w2_b|t2))"
)


class Held:
    """A file's tensors under other names, in memory: adapters are small."""

    base_shapes = None

    def __init__(self, view: AdapterView, arrays: Mapping[str, Array]) -> None:
        self.label, self.config, self._arrays = view.label, view.config, arrays
        dtype = next(iter(view.header.values())).dtype
        kept = dtype if dtype in {"F32", "F16", "BF16"} else "F32"
        size = 4 if kept == "F32" else 2
        self._dtype = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[kept]
        self.header = {
            name: TensorInfo(kept, tuple(array.shape), array.size * size)
            for name, array in arrays.items()
        }

    def model(self) -> Model | None:
        return None

    def read(self, key: str) -> Array:
        import ml_dtypes  # noqa: F401  (it makes numpy know bfloat16)

        stored: Array = self._arrays[key].astype(self._dtype)
        return stored


def as_peft(view: AdapterView, parts: Mapping[str, Mapping[str, str]]) -> Translated:
    """The adapter as PEFT would have saved it, from the keys of each module."""
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    tensors: dict[str, Stored] = {}
    declared = _diffusers_alphas(view)
    for name, keys in sorted(parts.items()):
        if missing := {"A", "B"} - keys.keys():
            raise BadWeights(
                f"{view.label}: '{name}' has no lora_{missing.pop()}",
                why="a factor pair is incomplete",
                fix="save the adapter again",
            )
        ranks[name] = view.header[keys["mid" if "mid" in keys else "A"]].shape[0]
        alphas[name] = _alpha(view, keys, declared(name, ranks[name]))
        tensors[f"{PREFIX}{name}.lora_A.weight"] = (
            _composed(view, keys) if "mid" in keys else _as_is(view, keys["A"])
        )
        tensors[f"{PREFIX}{name}.lora_B.weight"] = _as_is(view, keys["B"])
        if "magnitude" in keys:
            tensors[f"{PREFIX}{name}{MAGNITUDE}"] = _magnitude(view, keys)
    config = _ranks_and_alphas(ranks, alphas, "lora_alpha") | {
        "peft_type": "LORA",
        "target_modules": sorted(ranks),
        "use_dora": any("magnitude" in keys for keys in parts.values()),
        "lora_dropout": 0.0,
        "bias": "none",
        "init_lora_weights": True,
    }
    return _translated(config, tensors)


def _alpha(view: AdapterView, keys: Mapping[str, str], otherwise: float) -> float:
    return float(view.read(keys["alpha"]).reshape(-1)[0]) if "alpha" in keys else otherwise


def _ranks_and_alphas(
    ranks: Mapping[str, int], alphas: Mapping[str, float], field: str
) -> dict[str, Any]:
    """What a PEFT config says of them: the most common ones, and patterns for the others."""
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return {
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        field: plain(alpha),
        "rank_pattern": {f"^{re.escape(n)}": r for n, r in ranks.items() if r != rank},
        "alpha_pattern": {f"^{re.escape(n)}": plain(a) for n, a in alphas.items() if a != alpha},
    }


def _translated(config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Translated:
    layout = {name: info for name, (info, _) in tensors.items()}
    return Translated(config, layout, lambda name: tensors[name][1]())


def _as_is(view: AdapterView, key: str) -> Stored:
    return view.header[key], reader(view, key)


def _magnitude(view: AdapterView, keys: Mapping[str, str]) -> Stored:
    """DoRA's magnitude, one number for each row; files store it in several shapes."""
    info, rows = view.header[keys["magnitude"]], view.header[keys["B"]].shape[0]
    if count(info.shape) != rows or (len(info.shape) > 1 and info.shape[0] != rows):
        raise Unmergeable(
            f"cannot read '{keys['magnitude']}' of {view.label}",
            why=f"its shape is {list(info.shape)}: it "
            "rescales columns, and PEFT's DoRA rescales rows",
        )
    return (
        TensorInfo(info.dtype, (rows,), info.nbytes),
        shaped(view, keys["magnitude"], (rows,)),
    )


def _composed_shape(view: AdapterView, keys: Mapping[str, str]) -> tuple[int, ...]:
    """The shape of a down projection with the convolution behind it (LoCon) in one."""
    down, mid = view.header[keys["A"]].shape, view.header[keys["mid"]].shape
    if len(down) != len(mid) or set(down[2:]) != {1} or mid[1] != down[0]:
        raise BadWeights(
            f"{view.label}: the factors of '{keys['mid']}' do not fit",
            why=f"lora_down is {list(down)} and lora_mid is {list(mid)}",
            fix="save the adapter again",
        )
    return (mid[0], down[1], *mid[2:])


def _composed(view: AdapterView, keys: Mapping[str, str]) -> Stored:
    import numpy as np

    def read() -> Array:
        down, mid = view.read(keys["A"]), view.read(keys["mid"])
        flat = down.reshape(down.shape[:2]).astype("float64")
        made: Array = np.einsum("mn...,nc->mc...", mid.astype("float64"), flat)
        return np.ascontiguousarray(made).astype(down.dtype)

    info, whole = view.header[keys["A"]], _composed_shape(view, keys)
    size = count(whole) * info.nbytes // count(info.shape)
    return TensorInfo(info.dtype, whole, size), read


def as_lycoris(
    view: AdapterView, parts: Mapping[str, Mapping[str, str]], kinds: set[str]
) -> Translated:
    """LoHa or LoKr, as PEFT would have saved it."""
    others = [name for name, keys in parts.items() if not any(map(LYCORIS.fullmatch, keys))]
    if len(kinds) > 1 or others:
        raise Unmergeable(
            f"cannot read {view.label}",
            why="it mixes LoRA, LoHa and LoKr modules, and a PEFT directory holds one kind",
            fix="train it with one algorithm",
        )
    kind = kinds.pop()
    tensors: dict[str, Stored] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for name, keys in sorted(parts.items()):
        if "magnitude" in keys:
            raise Unmergeable(
                f"cannot read {view.label}",
                why=f"'{keys['magnitude']}' rescales the weights, which PEFT has for LoRA only",
            )
        first = next((keys[w] for w in (f"{kind}_w1_b", f"{kind}_w2_b") if w in keys), None)
        ranks[name] = view.header[first].shape[0] if first else 1
        # Both factors of a LoKr whole: LyCORIS scales by nothing then.
        alpha = _alpha(view, keys, 0.0)
        alphas[name] = alpha if first and alpha else float(ranks[name])
        for what, key in keys.items():
            if what != "alpha":
                tensors[f"{PREFIX}{name}.{what}"] = _as_is(view, key)
    config = _ranks_and_alphas(ranks, alphas, "alpha") | {
        "peft_type": "LOHA" if kind == "hada" else "LOKR",
        "target_modules": sorted(parts),
        "use_effective_conv2d": any(name.endswith(("_t1", "_t2")) for name in tensors),
    }
    return _translated(config, tensors)


def _diffusers_alphas(view: AdapterView) -> Callable[[str, int], float]:
    """What diffusers' metadata says of alpha; the rank where it says nothing."""
    try:
        parsed = json.loads(view.config.get("lora_adapter_metadata") or "{}")
    except (ValueError, TypeError, RecursionError):
        parsed = {}

    table = parsed if isinstance(parsed, dict) else {}

    def alpha(name: str, rank: int) -> float:
        part, _, module = name.partition(".")
        patterns = table.get(f"{part}.alpha_pattern")
        known = patterns.items() if isinstance(patterns, dict) else ()
        value = next(
            (a for pattern, a in known if not may_never_end(pattern) and matches(pattern, module)),
            table.get(f"{part}.lora_alpha"),
        )
        return (
            float(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
            else float(rank)
        )

    return alpha


def plain(value: float) -> float | int:
    """A whole number as an int, as JSON writes it."""
    return int(value) if value == int(value) else value


def count(shape: tuple[int, ...]) -> int:
    """The number of elements."""
    total = 1
    for side in shape:
        total *= side
    return total


def reader(view: AdapterView, key: str) -> Callable[[], Array]:
    """Reads one tensor when asked."""
    return lambda: view.read(key)


def shaped(view: AdapterView, key: str, shape: tuple[int, ...]) -> Callable[[], Array]:
    """Reads one tensor in another shape."""
    return lambda: view.read(key).reshape(shape)


def scaled(view: AdapterView, key: str, scale: float) -> Callable[[], Array]:
    """Reads one tensor times a number."""

    def read() -> Array:
        stored = view.read(key)
        return stored if scale == 1 else (stored.astype("float64") * scale).astype(stored.dtype)

    return read


def constant(value: float) -> Callable[[], Array]:
    """A scalar in float32: narrower dtypes, in which factors may be, would round it."""
    import numpy as np

    return lambda: np.asarray(value, np.float32)
