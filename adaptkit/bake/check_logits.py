"""A baked model against the adapter it was baked from, live on its base: the logits of one prompt."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BakeError, requires_extra

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = {"float32": 1e-3, "float64": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
"""How far logits may be apart, relative to the largest: what rounding the weights costs, with room."""


def check_can_run(base: Path) -> None:
    """Refuse a check that could not be made, before anything is written for it."""
    with requires_extra("torch", "cannot compare logits"):
        import peft  # noqa: F401
        import torch  # noqa: F401
        from transformers import AutoTokenizer
    try:
        AutoTokenizer.from_pretrained(base)
    except Exception as error:
        raise BakeError(
            f"cannot check a model baked into {base}",
            why="the prompt needs the tokenizer of the base, and none could be opened there: "
            f"{str(error).partition(chr(10))[0][:200]}",
            fix="put the tokenizer's files there, or leave out --check",
        ) from error


def check_logits(base: Path, adapter: Path, baked: Path, prompt: str) -> float:
    """The largest difference of the logits of a prompt, relative to the largest logit; `BakeError` when it is too large."""
    with requires_extra("torch", "cannot compare logits"):
        import peft  # noqa: F401
        import torch  # noqa: F401
        from transformers.utils.logging import disable_progress_bar
    disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about themselves
        apart, dtype = _compare(base, adapter, baked, prompt)
    allowed = TOLERANCE.get(dtype, 1e-1)
    if not apart <= allowed:
        raise BakeError(
            f"the model in {baked} does not answer like the live adapter",
            why=f"logits differ by {apart:.2g} of the largest, more than {allowed:g}",
            fix="do not use it; please report this with the adapter's config",
        )
    return apart


def _compare(base: Path, adapter: Path, baked: Path, prompt: str) -> tuple[float, str]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(baked)(prompt, return_tensors="pt")["input_ids"]

    def logits(model: Any) -> Any:
        with torch.no_grad():
            return model.eval()(tokens).logits.float()

    live = logits(
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    )
    model = AutoModelForCausalLM.from_pretrained(baked)
    apart = (logits(model) - live).abs().max() / live.abs().max()
    return float(apart), str(model.dtype).removeprefix("torch.")
