"""A tiny base that has a tokenizer, with adapters on it, and files of prompts for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import tiny

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WORDS = [f"w{i}" for i in range(58)]
ROOM = 16


def save_base(folder: Path) -> Path:
    """A tiny Llama with random weights and a tokenizer of 58 words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    # It never learned to end an answer, so each has as many tokens as there is room for.
    tiny.save_llama(folder, max_position_embeddings=ROOM, **ids)
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)
    return folder


def save_prompts(path: Path, first: int, count: int, answer: str | None = None) -> Path:
    """Prompts of two words, none of them in two files whose `first` are far enough apart."""
    rows: Sequence[dict[str, str]] = [
        {"prompt": f"w{(first + i) % 58} w{(7 * i + first) % 58}"}
        | ({"completion": answer} if answer else {})
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
