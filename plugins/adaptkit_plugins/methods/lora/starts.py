"""Initialisations that take a part of the base's weight out before training.

PEFT takes it out again whenever such an adapter is loaded, so the update is `s·B·A` less that part.
What is drawn at random or measured on data (CorDA, LoRA-GA, PiSSA with an iterative SVD, …) cannot
be found again from the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import Array

_LOST = ("pissa_niter", "corda", "lora_ga", "loftq")


def start_of(config: Mapping[str, Any]) -> str:
    """`pissa`, `olora` or `kasa` where the base's weight depends on it.

    Empty where the factors are the update.
    """
    if config.get("kasa_config"):
        return "kasa"
    initialisation = str(config.get("init_lora_weights", ""))
    if initialisation.lower() == "olora":  # PEFT takes this one in any case
        return "olora"
    return "pissa" if initialisation == "pissa" else ""


def lost_start(config: Mapping[str, Any]) -> str:
    """Why the part that was taken out cannot be found again, as a clause; empty when it can."""
    initialisation = str(config.get("init_lora_weights", ""))
    if initialisation.startswith(_LOST):
        return (
            f"it was initialised with {initialisation}, which changes the base's weights by what was drawn or measured then, "
            "and was saved without path_initial_model_for_weight_conversion"
        )
    start = start_of(config)
    if start and (config.get("use_dora") or (config.get("fan_in_fan_out") and start != "pissa")):
        return f"it was initialised with {start}, which PEFT has for plain linear layers only"
    return ""


def taken_out(start: str, weight: Array, rank: int, scale: float) -> Array:
    """What the initialisation took out of a weight (m×n)."""
    import numpy as np

    if start == "olora":  # https://arxiv.org/abs/2406.01775
        Q, R = np.linalg.qr(weight)
        first: Array = scale * Q[:, :rank] @ R[:rank]
        return first
    U, S, V = np.linalg.svd(weight, full_matrices=False)
    # PiSSA (https://arxiv.org/abs/2404.02948) takes the largest singular values, KaSA (2412.06071) the smallest.
    kept = slice(0, rank) if start == "pissa" else slice(len(S) - rank, None)
    part: Array = (U[:, kept] * S[kept]) @ V[kept]
    return part
