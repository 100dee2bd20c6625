"""Whether a base's weights are stored as what they are, or as codes of a quantisation that nothing here computes with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.bases.files.checkpoint import declared_quantisation, scaled_tensor

if TYPE_CHECKING:
    from adaptkit.bases.files.checkpoint import Layout


def why_quantised(layout: Layout) -> str:
    """What says that weights are quantised, as a clause; empty where they are plain numbers."""
    if declared := declared_quantisation(layout.config):
        return f"its weights are quantised ({declared.method})"
    if scaled := scaled_tensor(layout):
        return (
            f"its weights are quantised: it holds '{scaled}', although its config.json names no "
            "quantization_config"
        )
    return ""
