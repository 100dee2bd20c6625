"""A vocabulary that an adapter brings resized: embedding, head and `vocab_size` agree, or the result is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptkit.adapters.fit import Fit

_KEY = "vocab_size"
_CLASSES = "num_classes"  # what timm's config.json says of the head


def settle_vocabulary(made: Fit) -> None:
    """Write the new number of tokens into the configuration where embeddings or heads changed their rows.

    timm's config.json counts classes instead.
    """
    resized = {}
    for name, tensor in made.tensors.items():
        before = made.weights.shapes.get(tensor.source)
        if before and tensor.shape != before and tensor.shape[1:] == before[1:]:
            resized[name] = (before[0], tensor.shape[0])
    if not resized:
        return
    config = made.result_config()
    key = _CLASSES if isinstance(config.get("architecture"), str) and _CLASSES in config else _KEY
    counts = {_declared(config, key)} | {old for old, _ in resized.values()}
    new = max(count for _, count in resized.values())
    changed = {k: v for k, v in _with(config, key, counts, new).items() if config.get(k) != v}
    made.config |= changed or {key: new}
    made.remarks.append(
        "; ".join(
            f"'{name}' has {new} rows instead of {old}" for name, (old, new) in resized.items()
        )
    )


def _declared(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) else -1


def _with(config: dict[str, Any], key: str, counts: set[int], new: int) -> dict[str, Any]:
    """The configuration with another value of a key, in it and in its parts, where it was one of these."""
    return {
        name: _with(value, key, counts, new)
        if isinstance(value, dict)
        else new
        if name == key and isinstance(value, int) and value in counts
        else value
        for name, value in config.items()
    }
