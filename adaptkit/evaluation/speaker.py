"""A base that answers, with one adapter at a time on it."""

from __future__ import annotations

import math
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import read_config
from adaptkit.errors import BadAdapter, BadData, requires_extra
from adaptkit.training.base_model import load_model, load_tokenizer, most_tokens
from adaptkit.training.data.tokens import Tokeniser, template_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from adaptkit.training.data.rows import Prompt
    from adaptkit.training.data.tokens import Tokens


class Speaker:
    """The base in memory; `wearing` puts an adapter on it for a while. Answers are greedy unless sampled."""

    def __init__(self, base: Path, *, batch: int = 16) -> None:
        self._base, self.batch = base, batch
        self.tokenizer, self._most = load_tokenizer(base), most_tokens(base)
        self._own_template = self.tokenizer.chat_template
        self._plain: Any = None
        self.model = self._loaded()

    @contextmanager
    def wearing(self, adapter: Path | None) -> Iterator[None]:
        """Answer with this adapter (None: the base alone) and its chat template inside the block."""
        if adapter is None:
            yield
            return
        with requires_extra("torch", "cannot load an adapter"):
            from peft import PeftModel
        _check_task(adapter)
        if (template := template_of(adapter)) is not None:
            self.tokenizer.chat_template = template
        with warnings.catch_warnings():
            # PEFT 0.21 asks a model for a property that transformers 5 renames.
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
            self.model = PeftModel.from_pretrained(self._loaded(), adapter).eval()
        try:
            yield
        finally:
            self._take_off()

    def _take_off(self) -> None:
        unload = getattr(getattr(self.model, "base_model", None), "unload", None)
        try:
            self._plain = None if unload is None else unload()
        except (NotImplementedError, AttributeError):  # prompt methods change more than layers
            self._plain = None
        if self._plain is not None:
            with suppress(AttributeError):
                del self._plain.peft_config
        self.model = self._loaded()
        self.tokenizer.chat_template = self._own_template

    def _loaded(self) -> Any:
        if self._plain is None:
            self._plain = load_model(self._base, dtype="auto")
        return self._plain

    def answers(self, prompts: Sequence[Prompt], new_tokens: int, **sampling: Any) -> Iterator[str]:
        """What is answered to each prompt, in batches padded on the left."""
        import torch

        tokenise = Tokeniser(self.tokenizer)
        pad = self._pad()
        for begin in range(0, len(prompts), self.batch):
            rows = [tokenise.prompt(p) for p in prompts[begin : begin + self.batch]]
            if not all(rows):
                raise BadData(
                    "a prompt is empty",
                    why="the base's tokenizer makes no token of it, so there is nothing to go on from",
                    fix="ask something",
                )
            width = max(map(len, rows))
            room = self._room(width)
            ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            with torch.no_grad():
                out = self.model.generate(
                    input_ids=ids.to(self.model.device),
                    attention_mask=mask.to(self.model.device),
                    max_new_tokens=min(new_tokens, room),
                    pad_token_id=pad,
                    **({"do_sample": False} | sampling),
                )
            for row in out:
                text: str = self.tokenizer.decode(row[width:], skip_special_tokens=True)
                yield text.strip()

    def ask(self, prompt: Prompt, new_tokens: int, stream: Any = None, **sampling: Any) -> str:
        """One answer; `stream` is a file that gets the text as it comes."""
        if stream is None:
            return next(self.answers([prompt], new_tokens, **sampling))
        from transformers import TextStreamer

        class Into(TextStreamer):  # type: ignore[misc]  # transformers is not typed
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                stream.write(text + ("\n" if stream_end else ""))
                stream.flush()

        streamer = Into(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        return next(self.answers([prompt], new_tokens, streamer=streamer, **sampling))

    def log_likelihoods(self, rows: Sequence[Tokens]) -> Iterator[tuple[float, int]]:
        """Of each row, the summed log-probability (nats) of the tokens that count, and how many they are."""
        import torch

        pad = self._pad()
        for begin in range(0, len(rows), self.batch):
            part = rows[begin : begin + self.batch]
            width = max(len(row.ids) for row in part)
            if self._most is not None and width > self._most:
                raise _too_long("row", width, self._most)
            ids = torch.tensor([[*row.ids, *[pad] * (width - len(row.ids))] for row in part])
            mask = torch.tensor([[1] * len(r.ids) + [0] * (width - len(r.ids)) for r in part])
            counted = torch.tensor(
                [[*row.counted, *[False] * (width - len(row.ids))] for row in part]
            )[:, 1:].to(self.model.device)
            ids, mask = ids.to(self.model.device), mask.to(self.model.device)
            with torch.no_grad():
                logits = self.model(input_ids=ids, attention_mask=mask).logits.float()
            given = logits[:, -width:-1].log_softmax(-1)
            of_each = given.gather(-1, ids[:, 1:, None])[..., 0]
            sums = (of_each * counted).sum(-1).tolist()
            yield from zip(sums, counted.sum(-1).tolist(), strict=True)

    def perplexity(self, rows: Sequence[Tokens]) -> float:
        """E to the mean negative log-likelihood of a counted token."""
        found = list(self.log_likelihoods(rows))
        count = sum(n for _, n in found)
        if not count:
            raise BadData(
                "no token of these rows has a probability",
                why="each is one token long, and the first one follows nothing",
                fix="longer rows",
            )
        return math.exp(min(700.0, -sum(total for total, _ in found) / count))

    def _room(self, width: int) -> int:
        """How many tokens the base can go on after so many."""
        if self._most is None:
            return sys.maxsize
        if width >= self._most:
            raise _too_long("prompt", width, self._most)
        return self._most - width

    def _pad(self) -> int:
        for name in ("pad_token_id", "eos_token_id"):
            if (value := getattr(self.tokenizer, name)) is not None:
                return int(value)
        return 0


def _too_long(what: str, tokens: int, most: int) -> BadData:
    return BadData(
        f"a {what} of {tokens} tokens is too long",
        why=f"the base reads at most {most}, its answer included",
        fix=f"a shorter {what}, or a base that reads more",
    )


def _check_task(adapter: Path) -> None:
    """An adapter of a classifier would load onto a model that writes text, and return nonsense."""
    task = read_config(adapter, str(adapter)).get("task_type")
    if task not in {None, "CAUSAL_LM"}:
        raise BadAdapter(
            "this adapter does not write text",
            why=f"it was trained for the task {task}",
            fix="choose one that was trained on answers",
        )
