"""What an artifact is made of: which files of a folder belong to it, by name; and where a base keeps its weights."""

from __future__ import annotations

from fnmatch import fnmatch

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
README = "README.md"
MANIFEST = "adaptkit.json"
LARGEST_MANIFEST = 4 << 20  # bytes

BASE_WEIGHTS = tuple(
    (f"{name}.index.json", name)
    for name in (
        "model.safetensors",
        "diffusion_pytorch_model.safetensors",
        "pytorch_model.bin",
    )
)
"""The weights of a base: the index of several files and the name of a single one, the first that is there."""
PIPELINE = "model_index.json"  # of diffusers: what its components are

_COMPANIONS = frozenset(
    """tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json vocab.txt merges.txt
    spiece.model tokenizer.model sentencepiece.bpe.model chat_template.jinja chat_template.json""".split()
)


def belongs(path: str) -> bool:
    """Whether a file, by its path in an adapter's folder, is part of the artifact.

    Config, weights, tokenizer.
    """
    return (
        path in {CONFIG, WEIGHTS, PICKLE}
        or path in _COMPANIONS
        or fnmatch(path, "additional_chat_templates/*.jinja")
    )
