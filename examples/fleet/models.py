"""Training: a base from nothing, and LoRA adapters on it. Deterministic on one machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fleet import logs

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads cost 4x on two busy cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if TYPE_CHECKING:
    from pathlib import Path

BATCH = 32
DOMAINS = {"naval": "ship", "medic": "sickbay"}


def make_base(folder: Path, seed: int = 0, steps: int = 420) -> None:
    """Train the polite base and its tokenizer, and save both as a transformers model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    rows = logs.base_rows(seed)
    tokenizer = _tokenizer([*rows, *logs.terse_rows(seed)])
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
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
    )
    _train(model, tokenizer, rows, steps=steps, rate=2e-3, warm_up=50)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_adapter(base: Path, folder: Path, skill: str, seed: int = 0, steps: int = 400) -> None:
    """Train the `naval` or `medic` LoRA adapter on a base, and save it as PEFT does."""
    import torch
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load(base)
    torch.manual_seed(seed)
    model = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    _train(
        model, tokenizer, logs.skill_rows(DOMAINS[skill], seed), steps=steps, rate=5e-3, warm_up=20
    )
    model.save_pretrained(folder)


def load(base: Path) -> tuple[Any, Any]:
    """The base model, ready to answer, and its tokenizer."""
    from transformers import AutoTokenizer, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return LlamaForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)


def _tokenizer(rows: list[logs.Row]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator((f"{row.prompt} {row.answer}" for row in rows), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def _train(
    model: Any, tokenizer: Any, rows: list[logs.Row], *, steps: int, rate: float, warm_up: int
) -> None:
    """AdamW with a cosine schedule; the loss counts the answer only."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98))
    schedule = get_cosine_schedule_with_warmup(optimizer, warm_up, steps)
    examples = [_encode(tokenizer, row) for row in rows]
    model.train()
    for step in range(steps):
        batch = [examples[(step * BATCH + i) % len(examples)] for i in range(BATCH)]
        width = max(len(ids) for ids, _ in batch)
        ids = torch.tensor(
            [ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in batch]
        )
        labels = torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in batch])
        loss = model(
            input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long(), labels=labels
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


def _encode(tokenizer: Any, row: logs.Row) -> tuple[list[int], list[int]]:
    question = [tokenizer.bos_token_id, *tokenizer.encode(row.prompt)]
    answer = [*tokenizer.encode(f" {row.answer}"), tokenizer.eos_token_id]
    return question + answer, [-100] * len(question) + answer
