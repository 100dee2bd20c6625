"""A tiny model saved, changed, wrapped by PEFT and run: what tests of single layers go through."""

from __future__ import annotations

import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model

SPEECH = {"input_values": torch.linspace(-1, 1, 2000)[None] ** 3}
CONVOLUTIONS = {
    "num_attention_heads": 4,
    "conv_dim": (16, 16),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}
"""What Wav2Vec2 and the models after it need beside their hidden sizes."""


def saved(build, folder):
    torch.manual_seed(0)
    model, asked = build()
    model.save_pretrained(folder)
    return type(model), asked


def output(model, asked):
    with torch.no_grad():
        return model.eval()(**asked)[0]


def moved(model, only=lambda name: True):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and only(name):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def adapter(cls, base, folder, *targets, **options):
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=list(targets), **options)
    return saved_adapter(cls.from_pretrained(base), config, folder)


def saved_adapter(model, config, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ties and of a vocabulary that was resized
        live = moved(get_peft_model(model, config))
        live.save_pretrained(folder)
    return live


def with_adapter(model, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ties, which the adapter keeps
        return PeftModel.from_pretrained(model, str(folder))
