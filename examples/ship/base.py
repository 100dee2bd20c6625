"""The polite base: a small Llama and its tokenizer, trained from nothing in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ship import logs
from ship.fit import fit, seeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEPS = 420
RATE = 2e-3
VOCABULARY = 640  # at most
OTHER_SEED, OTHER_STEPS = 1, 30  # another base need not be a good one


def make_base(
    directory: Path,
    seed: int = 0,
    log: Callable[[str], object] = print,
    steps: int = STEPS,
) -> None:
    """Train the base, and save it with its tokenizer as a transformers model in `directory`."""
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded(seed):
        model = LlamaForCausalLM(config)
        rows = logs.base_rows(seed)
        fit(model, tokenizer, rows, steps=steps, rate=RATE, seed=seed, log=log)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def make_other_base(directory: Path, log: Callable[[str], object] = print) -> None:
    """A base of the same shape and tokenizer with other weights, for showing a refused merge."""
    make_base(directory, OTHER_SEED, log, OTHER_STEPS)


def load(directory: Path) -> tuple[Any, Any]:
    """The base in float32, ready to answer, and its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(directory, dtype="float32")
    return model.eval(), AutoTokenizer.from_pretrained(directory)


def make_tokenizer() -> Any:
    """A byte-level BPE, learnt from the training rows, that adds no special tokens by itself."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learnt.train_from_iterator(logs.corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=learnt,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",  # for generation; training pads by itself
        model_input_names=["input_ids", "attention_mask"],
    )
