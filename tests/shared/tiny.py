"""Tiny models with random weights, adapters on them as PEFT saves them, and PEFT as the oracle."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

INPUT = list(range(4, 24))


def save_llama(folder: Path, seed: int = 0, **more: Any) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "tie_word_embeddings": False,
    } | more
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)
    return folder


def save_speaker(folder: Path, seed: int = 0, **more: Any) -> Path:
    """A Llama that reads text: as `save_llama`, with a tokenizer of bytes, so that it can be trained on words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    save_llama(folder, seed, vocab_size=len(vocabulary), **ids, **more)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    return folder


def llama() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    ).eval()


def gpt2() -> Any:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=32)
    ).eval()


def bert() -> Any:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=32,
        )
    ).eval()


def bert_plain() -> Any:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    return BertModel(
        BertConfig(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=32,
        )
    ).eval()


def make_adapter(base: Any, folder: Path, seed: int, **config: Any) -> Path:
    """An adapter with random factors on a model in memory, saved by PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(base, LoraConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            value.data.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    save(model, folder)
    return folder


def save(model: Any, folder: Path) -> None:
    """Save as PEFT does; it warns of a lora_bias as if it were an un-gathered tensor, and of embeddings it saves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)


def save_adapter(base: Path, folder: Path, seed: int, **config: Any) -> Path:
    """As `make_adapter`, on a saved model: the adapter's config names the folder."""
    from transformers import AutoModelForCausalLM

    return make_adapter(AutoModelForCausalLM.from_pretrained(base), folder, seed, **config)


def output(model: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        out = model(torch.tensor([INPUT]))
    return (out.logits if hasattr(out, "logits") else out.last_hidden_state).numpy()


def peft_sum(
    make: Callable[[], Any], folders: Sequence[Path], weights: Sequence[float]
) -> np.ndarray:
    """The output of the base with Σ wᵢ·Dᵢ added, each Dᵢ as PEFT's own layer computes it."""
    from peft import PeftModel

    target = make()
    for folder, weight in zip(folders, weights, strict=True):
        adapted = PeftModel.from_pretrained(make(), folder)
        for name, layer in adapted.base_model.model.named_modules():
            if hasattr(layer, "get_delta_weight"):
                module = target.get_submodule(name)
                module.weight.data += weight * layer.get_delta_weight("default").detach()
                lora_b = getattr(layer, "lora_B", {})
                if "default" in lora_b and lora_b["default"].bias is not None:
                    module.bias.data += (
                        weight * layer.scaling["default"] * lora_b["default"].bias.detach()
                    )
    return output(target)


def reload_strictly(base: Any, folder: Path) -> Any:
    """Load with PEFT, and insist on no missing and no unexpected key."""
    from peft import LoraConfig, load_peft_weights, set_peft_model_state_dict
    from peft import get_peft_model as wrap

    config = LoraConfig.from_pretrained(folder)
    config.base_model_name_or_path = None  # the base is in memory; PEFT warns of any other name
    model = wrap(base, config)
    result = set_peft_model_state_dict(model, load_peft_weights(str(folder)))
    missing = [key for key in result.missing_keys if "lora_" in key or "modules_to_save" in key]
    assert not missing, missing
    assert not result.unexpected_keys, result.unexpected_keys
    return model.eval()


def read_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "adapter_config.json").read_text())


def edit_config(folder: Path, **changes: Any) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps(read_config(folder) | changes))
    return folder
