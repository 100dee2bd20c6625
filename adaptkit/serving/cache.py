"""The key-value cache of a running batch: rows join on the left-padded side and leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def new_cache(model: Any) -> Any:
    """An empty cache for a batch."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def can_join(cache: Any) -> bool:
    """Whether rows can join a batch that runs: only where every layer keeps all keys, unlike sliding windows."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in cache.layers)


def join(one: Any, mask: Tensor, other: Any, other_mask: Tensor) -> Tensor:
    """Append the rows of `other` to `one`, the shorter padded on the left; returns the mask of both."""
    import torch
    from torch.nn.functional import pad

    length = max(mask.shape[1], other_mask.shape[1])

    def padded(states: Tensor, have: int) -> Tensor:
        return pad(states, (0, 0, length - have, 0))

    for mine, theirs in zip(one.layers, other.layers, strict=True):
        for kind in ("keys", "values"):
            first, second = getattr(mine, kind), getattr(theirs, kind)
            both = padded(first, mask.shape[1]), padded(second, other_mask.shape[1])
            setattr(mine, kind, torch.cat(both))
    return torch.cat([pad(m, (length - m.shape[1], 0)) for m in (mask, other_mask)])


def keep(cache: Any, mask: Tensor, rows: list[int]) -> Tensor:
    """Keep some rows, and of these no column that is padding in all; returns their mask."""
    import torch

    chosen = torch.tensor(rows, device=mask.device)
    mask = mask.index_select(0, chosen)
    start = int(mask.any(0).int().argmax()) if can_join(cache) else 0
    cache.batch_select_indices(chosen)
    if start:
        for layer in cache.layers:
            layer.keys = layer.keys[:, :, start:].contiguous()
            layer.values = layer.values[:, :, start:].contiguous()
    return mask[:, start:]
