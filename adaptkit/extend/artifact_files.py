"""What an artifact is made of: which files of a folder belong to it, by name; and where a base keeps its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

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
_VARIANT = re.compile(  # as `save_pretrained(variant="fp16")` of transformers and diffusers names its files
    r"(?:model|diffusion_pytorch_model)\.(?P<safetensors>(?!\d)\w{1,32})\.safetensors"
    r"|pytorch_model\.(?P<pickle>(?!\d)\w{1,32})\.bin"
    r"|.+\.index\.(?P<index>(?!\d)\w{1,32})\.json"
)
_INDEX = re.compile(r".+\.index(?:\.(?!\d)\w{1,32})?\.json")
PIPELINE = "model_index.json"  # of diffusers: what its components are

_COMPANIONS = frozenset(
    """tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json vocab.txt merges.txt
    spiece.model tokenizer.model sentencepiece.bpe.model chat_template.jinja chat_template.json""".split()
)


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """Which files of a folder are a base's weights: an index, or a single file; neither where it holds none.

    `variant` is empty for the plain files. `others` are variants that are there as well and do not count; where
    nothing counts and some are listed, the folder does not say which of them is meant.
    """

    index: str = ""
    single: str = ""
    variant: str = ""
    others: tuple[str, ...] = ()


def base_files(names: Iterable[str]) -> BaseFiles:
    """The weights of a base by the names in its folder: the plain files, else the only variant (`fp16`) that is there."""
    there = set(names)
    variants = sorted(
        {match[match.lastgroup or 0] for n in there if (match := _VARIANT.fullmatch(n))}
    )
    found = {variant: made for variant in variants if (made := _files_of(variant, there))}
    plain = _files_of("", there)
    others = tuple(made.index or made.single for made in found.values())
    if plain is not None:
        return BaseFiles(plain.index, plain.single, "", others)
    return next(iter(found.values())) if len(found) == 1 else BaseFiles(others=others)


def _files_of(variant: str, there: set[str]) -> BaseFiles | None:
    for plain_index, plain in BASE_WEIGHTS:
        index, single = plain_index, plain
        if variant:
            index = f"{plain_index.removesuffix('.json')}.{variant}.json"
            stem, _, ending = plain.rpartition(".")
            single = f"{stem}.{variant}.{ending}"
        if index in there:
            return BaseFiles(index, "", variant)
        if single in there:
            return BaseFiles("", single, variant)
    return None


def is_index(name: str) -> bool:
    """Whether a file of this name says which file of a base holds which tensor."""
    return _INDEX.fullmatch(name) is not None


def belongs(path: str) -> bool:
    """Whether a file, by its path in an adapter's folder, is part of the artifact.

    Config, weights, tokenizer.
    """
    return (
        path in {CONFIG, WEIGHTS, PICKLE}
        or path in _COMPANIONS
        or fnmatch(path, "additional_chat_templates/*.jinja")
    )
