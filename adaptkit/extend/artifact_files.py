"""What an artifact is made of: which files of a folder belong to it, by name."""

from __future__ import annotations

from fnmatch import fnmatch

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
README = "README.md"
MANIFEST = "adaptkit.json"
LARGEST_MANIFEST = 4 << 20  # bytes

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
