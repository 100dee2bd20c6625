"""A vocabulary that an adapter brings resized: embedding, head and `vocab_size` agree, or the result is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptkit.adapters.fit import Fit

_KEY = "vocab_size"


def settle_vocabulary(made: Fit) -> None:
    """Write the new number of tokens into the configuration where embeddings or heads changed their rows."""
    resized = {}
    for name, tensor in made.tensors.items():
        before = made.weights.shapes.get(tensor.source)
        if before and tensor.shape != before and tensor.shape[1:] == before[1:]:
            resized[name] = (before[0], tensor.shape[0])
    if not resized:
        return
    config = made.result_config()
    counts = {_declared(config)} | {old for old, _ in resized.values()}
    new = max(count for _, count in resized.values())
    changed = {k: v for k, v in _with(config, counts, new).items() if config.get(k) != v}
    made.config |= changed or {_KEY: new}
    made.remarks.append(
        "; ".join(
            f"'{name}' has {new} rows instead of {old}" for name, (old, new) in resized.items()
        )
    )


def _declared(config: dict[str, Any]) -> int:
    value = config.get(_KEY)
    return value if isinstance(value, int) else -1


def _with(config: dict[str, Any], counts: set[int], new: int) -> dict[str, Any]:
    """The configuration with another `vocab_size`, in it and in its parts, where it was one of these."""
    return {
        name: _with(value, counts, new)
        if isinstance(value, dict)
        else new
        if name == _KEY and value in counts
        else value
        for name, value in config.items()
    }
