"""What a LoRA file says.

Which modules it has, of what shape and rank, and by what they are scaled.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from adaptkit.errors import BadWeights
from adaptkit.extend import Module
from adaptkit.extend.layers import linear_kind
from adaptkit.extend.module_names import PREFIX, matches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import AdapterView

MAGNITUDE = ".lora_magnitude_vector"
DIAGONAL = ".lora_diag"
_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(?P<tail>\.weight|\.bias)?"
)
TOKENS = ".token_adapter.trainable_tokens_delta"


@lru_cache(1 << 14)  # a thousand adapters of one base have the same keys
def factor_of(key: str) -> re.Match[str] | None:
    """The module, kind, side and tail of a factor's key; None for the key of another tensor."""
    return _FACTOR.fullmatch(key)


def stem_of(view: AdapterView, module: Module) -> str:
    """What the keys of a module begin with: PEFT's prefix, or nothing in files that lack it."""
    stem = f"{PREFIX}{module.name}"
    known = f"{stem}.lora_A.weight" in view.header or f"{stem}.lora_embedding_A" in view.header
    return stem if known else module.name


def file_rank(key: str, shape: tuple[int, ...]) -> int:
    """The rank that a key's tensor shows; 0 when it is no lora_A."""
    match = factor_of(key)
    return shape[0] if match and match["side"] == "A" and shape else 0


def describe(view: AdapterView, name: str, key_a: str, key_b: str) -> list[Module]:
    """The module of a factor pair, as one Module or, for a grouped convolution, one per group."""
    a, b = checked_shapes(view, key_a, key_b)
    if "lora_embedding_" in key_a and len(a) == len(b) == 2 and b[1] == a[0]:
        return [Module(name, "embedding", (a[1], b[0]), a[0], (a[1], b[0]))]
    if (
        len(a) == len(b) > 2
        and set(b[2:]) == {1}
        and a[0] % b[1] == 0
        and b[0] % (a[0] // b[1]) == 0
    ):
        groups = a[0] // b[1]
        shape, stored = (b[0] // groups, math.prod(a[1:])), (b[0], *a[1:])
        return [
            Module(name, "convolution", shape, b[1], stored, part, groups) for part in range(groups)
        ]
    if len(a) == len(b) == 2 and b[1] == a[0]:
        return [_linear(name, linear_kind(view, name, b[0], a[1]), b[0], a[1], a[0])]
    raise BadWeights(
        f"{view.label}: A and B of '{name}' do not fit",
        why=f"A is {list(a)} and B is {list(b)}",
        fix="save the adapter again",
    )


@lru_cache(1 << 14)  # a thousand adapters of one base have the same modules
def _linear(
    name: str, kind: Literal["linear", "conv1d"], rows: int, columns: int, rank: int
) -> Module:
    stored = (columns, rows) if kind == "conv1d" else (rows, columns)
    return Module(name, kind, (rows, columns), rank, stored)


def checked_shapes(
    view: AdapterView, key_a: str, key_b: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of a factor pair; `BadWeights` for what an un-gathered save leaves behind."""
    a, b = view.header[key_a].shape, view.header[key_b].shape
    if 0 in a or 0 in b or len(a) < 2 or len(b) < 2:
        key, shape = (key_a, a) if 0 in a or len(a) < 2 else (key_b, b)
        raise BadWeights(
            f"{view.label}: the tensor '{key}' has the shape {list(shape)}",
            why="it is empty or flat, as after a save under ZeRO-3 or FSDP that did not gather the shards",
            fix="gather the parameters, then save again",
        )
    return a, b


def scale_of(config: Mapping[str, Any], module: Module) -> float:
    """α/r, or α/√r with rsLoRA; r from the tensor, α from alpha_pattern or lora_alpha."""
    rank = module.saved_rank
    alpha = next(
        (
            value
            for pattern, value in (config.get("alpha_pattern") or {}).items()
            if matches(pattern, module.weight or module.name)
        ),
        config["lora_alpha"],
    )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def token_rows(view: AdapterView) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The embeddings of which single rows were trained: the tensor's name, with the key and the rows' numbers."""
    named = view.config.get("trainable_token_indices")
    found = {}
    for key in view.header:
        if key.endswith(TOKENS):
            module = key.removeprefix(PREFIX).removesuffix(TOKENS)
            rows = _rows_of(module, named)
            if not isinstance(rows, list) or len(rows) != view.header[key].shape[0]:
                raise BadWeights(
                    f"{view.label}: which tokens '{key}' is for is not known",
                    why=f"trainable_token_indices is {named!r}",
                    fix="correct trainable_token_indices in adapter_config.json",
                )
            found[f"{module}.weight"] = (key, tuple(int(row) for row in rows))
    return found


def _rows_of(module: str, named: Any) -> Any:
    """The rows of one layer; a layer that is tied with the only one that is named has the same."""
    if not isinstance(named, dict):
        return named
    own = [rows for name, rows in named.items() if f".{module}".endswith(f".{name}")]
    return own[0] if own else next(iter(named.values())) if len(named) == 1 else None
