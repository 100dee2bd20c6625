"""A base loaded from its folder: its tokenizer, and the model itself in evaluation mode."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adaptkit.bases.pipeline import is_pipeline
from adaptkit.errors import BadBase, Refused, requires_extra

if TYPE_CHECKING:
    from pathlib import Path


_POSITIONS = ("max_position_embeddings", "n_positions")


def load_tokenizer(base: Path) -> Any:
    """The base's tokenizer; `BadBase` when the folder has none that can be read."""
    _refuse_pipeline(base)
    with requires_extra("torch", f"cannot read the tokenizer of {base}"):
        import torch  # noqa: F401  (without it transformers fails later, and in other words)
        from transformers import AutoTokenizer
    try:
        return AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadBase(
            f"the base {base} has no tokenizer",
            why=_why_no_tokenizer(base, error),
            fix="put tokenizer.json and tokenizer_config.json of its family into the folder",
        ) from error


def most_tokens(base: Path) -> int | None:
    """How many tokens the base reads at most, as its configuration says; None where it says nothing."""
    try:
        config = json.loads((base / "config.json").read_bytes())
        config = config.get("text_config") or config
        found = next(config[key] for key in _POSITIONS if config.get(key))
    except (OSError, ValueError, AttributeError, TypeError, StopIteration):
        return None
    return found if isinstance(found, int) and found > 0 else None


def check_causal(base: Path) -> None:
    """Refuse what its own configuration calls an encoder-decoder, such as T5: it goes on from no prompt."""
    try:
        config = json.loads((base / "config.json").read_bytes())
        kind = config["model_type"] if config.get("is_encoder_decoder") is True else ""
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return  # whoever loads it says what is wrong
    if kind:
        raise BadBase(
            f"cannot run {base}",
            why=f"it is an encoder-decoder ({kind}), and only causal language models are run here",
            fix="give a causal language model; merge, bake and the registry take adapters of this one",
        )


def load_model(base: Path, device: str | None = None, **how: Any) -> Any:
    """The base as a causal language model, on `device`, else on the GPU where there is one."""
    _refuse_pipeline(base)
    check_causal(base)
    with requires_extra("torch", f"cannot run {base}"):
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar
    disable_progress_bar()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise Refused(
            f"cannot run on the device '{device}'", why=_first_line(error), fix="--device cpu"
        ) from error
    try:
        model = AutoModelForCausalLM.from_pretrained(base, **how)
    except (OSError, ValueError, ImportError) as error:
        raise BadBase(
            f"cannot load the base {base}",
            why=_first_line(error),
            fix="check that it is a whole model that transformers can load as a causal language model",
        ) from error
    return model.to(device).eval()


def _refuse_pipeline(base: Path) -> None:
    if is_pipeline(base):
        raise BadBase(
            f"cannot run {base}",
            why="it is a diffusers pipeline, and only causal language models are run here",
            fix="give a language model's folder; adaptkit bake REF --base DIR --out OUT writes a pipeline for diffusers",
        )


def _why_no_tokenizer(base: Path, error: Exception) -> str:
    """Every way to make one is listed by transformers, over several lines, where there is just no file."""
    if not any(base.glob("tokenizer*")) and not any(base.glob("vocab*")):
        return "no tokenizer.json is in the folder"
    return _first_line(error).rstrip(": ")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
