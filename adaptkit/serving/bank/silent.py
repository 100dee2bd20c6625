"""Whether an adapter has any effect: engines that do not apply one return the base's text without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import Refused
from adaptkit.serving.bank.whole import WholeWeights

if TYPE_CHECKING:
    from adaptkit.serving.bank.bank import Bank
    from adaptkit.serving.bank.factors import AdapterFactors

TOKENS = 8
"""How many tokens' logits are compared: rounding could hide a weak adapter in one of them."""


def check_effect(bank: Bank, key: str) -> None:
    """Compare the logits of a few tokens with the base's; `Refused` when not one of them differs."""
    loaded = bank.host.get(key)
    if isinstance(loaded, WholeWeights):
        if not _differs(bank, loaded):
            raise _silent(loaded.label, "every tensor that it brings is the base's own")
    elif not _heard(bank, key):
        why = f"{TOKENS} tokens have the very logits of the base: {_zeros(loaded)}"
        raise _silent(loaded.label, why)


def _heard(bank: Bank, key: str) -> bool:
    import torch

    size = bank.model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(1, 2 * TOKENS, 2, device=bank.model.device).remainder(size).repeat(2, 1)
    with torch.inference_mode(), bank.rows([key, None]):
        logits = bank.model(input_ids=ids, use_cache=False).logits
    return not torch.equal(logits[0], logits[1])


def _differs(bank: Bank, whole: WholeWeights) -> bool:
    import torch

    live = dict(bank.model.named_parameters(remove_duplicate=False))
    return any(
        not torch.equal(values.to(live[name].device), live[name].data)
        for name, values in whole.tensors.items()
    )


def _zeros(factors: AdapterFactors) -> str:
    if all(not update.B.any() and update.bias is None for update in factors.modules.values()):
        return "all its B factors are zero, as before any training"
    return f"the {len(factors.modules)} modules that it changes change no logit"


def _silent(label: str, why: str) -> Refused:
    return Refused(
        f"{label} has no effect on this base",
        why=why,
        fix="train it, or name an earlier version; adaptkit serve --force serves it as it is",
    )
