"""Two LoRA adapters in Llama's shapes (hidden 2048, MLP 5632, seven linears a layer), and PEFT's way to merge them."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

LAYERS, RANK, WEIGHTS = 2, 16, (0.7, 0.3)


def build(folder: Path) -> None:
    """Write `base/`, `one/` and `two/` below `folder`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=256,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=LAYERS,
        num_attention_heads=16,
    )
    LlamaForCausalLM(shape).save_pretrained(folder / "base")
    for name in ("one", "two"):
        base = LlamaForCausalLM.from_pretrained(folder / "base")
        model = get_peft_model(
            base, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
        )
        for key, value in model.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(value, std=0.02)
        model.save_pretrained(folder / name)


def halve(base: Path, out: Path) -> None:
    """The base in bfloat16, in shards."""
    import torch
    from transformers import LlamaForCausalLM

    LlamaForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(
        out, max_shard_size="50MB"
    )


def bake_with_peft(base: str, adapter: str, out: str) -> None:
    """The script a PEFT user writes to get a full model."""
    import torch
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    warnings.simplefilter("ignore")
    model = PeftModel.from_pretrained(
        LlamaForCausalLM.from_pretrained(base, dtype=torch.bfloat16), adapter
    )
    model.merge_and_unload().save_pretrained(out, max_shard_size="50MB")


def load(folder: Path) -> object:
    """The base with both adapters on it, as PEFT merges them."""
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    warnings.simplefilter("ignore")
    base = LlamaForCausalLM.from_pretrained(folder / "base")
    model = PeftModel.from_pretrained(base, str(folder / "one"), adapter_name="one")
    model.load_adapter(str(folder / "two"), adapter_name="two")
    return model


def merge_with_peft(model: object, kind: str, name: str = "merged") -> None:
    """PEFT's merge, in place."""
    model.add_weighted_adapter(["one", "two"], list(WEIGHTS), name, combination_type=kind)  # type: ignore[attr-defined]


def main(folder: str, kind: str, out: str) -> None:
    """The script a PEFT user writes: load, merge, save."""
    model = load(Path(folder))
    merge_with_peft(model, kind)
    model.save_pretrained(out, selected_adapters=["merged"])  # type: ignore[attr-defined]


if __name__ == "__main__":
    bake_with_peft(*sys.argv[2:]) if sys.argv[1] == "bake" else main(*sys.argv[1:])
