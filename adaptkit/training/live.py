"""One base in memory with several adapters on it: load, switch, feed in batches, let it answer."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, requires_extra
from adaptkit.training.base_model import load_model, load_tokenizer
from adaptkit.training.data.tokens import Tokeniser, Tokens, template_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from adaptkit.extend import Array
    from adaptkit.training.data.prompts import Asked

LONGEST = 2048  # tokens of a row, where the base allows as many
NEW_TOKENS = 64


class LiveModel:
    """A base in memory, in evaluation mode, and adapters on it by the names they were given."""

    def __init__(self, base: Path, adapters: Mapping[str, Path]) -> None:
        with requires_extra("torch", f"cannot run {base}"):
            from peft import PeftModel
        with quiet():
            self.tokenizer = load_tokenizer(base)
            model = load_model(base)
            self.device = model.device
            first, *others = adapters.items()
            self.model = PeftModel.from_pretrained(model, str(first[1]), adapter_name=first[0])
            for name, folder in others:
                self.model.load_adapter(str(folder), adapter_name=name)
        self.model.eval()
        self._templates = {
            name: template
            for name, folder in adapters.items()
            if (template := template_of(folder)) is not None
        }
        limit = getattr(model.config, "max_position_embeddings", None) or LONGEST
        self.longest = min(LONGEST, int(limit))

    @contextmanager
    def switched(self, adapter: str | None) -> Iterator[Any]:
        """The model with one of its adapters on, or (None) the bare base."""
        if adapter is None:
            with self.model.disable_adapter():
                yield self.model
            return
        if self.model.active_adapter != adapter:  # switching walks through every module
            self.model.set_adapter(adapter)
        yield self.model

    def trainable(self, adapter: str) -> dict[str, Any]:
        """The parameters of one adapter, switched on and open to training; PEFT loads them closed."""
        self.model.set_adapter(adapter)
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def tensors(self, adapter: str) -> dict[str, Array]:
        """The tensors of one adapter under the keys of its file, in single precision."""
        from peft import get_peft_model_state_dict

        with quiet():
            found = get_peft_model_state_dict(
                self.model, adapter_name=adapter, save_embedding_layers=False
            )
        return {key: value.detach().float().cpu().numpy() for key, value in found.items()}

    def batch(self, rows: Sequence[Tokens]) -> tuple[Any, Any]:
        """Token ids, padded at the end, and the mask of what is no padding."""
        import torch

        width = max(len(row.ids) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            mask[i, : len(row.ids)] = 1
        return ids.to(self.device), mask.to(self.device)

    def ready(
        self, adapter: str | None, rows: Sequence[Asked], batch: int, *, prompted: bool = False
    ) -> tuple[list[Tokens], list[int]]:
        """The rows as tokens, each with an answer, and the lines of those that are left out.

        Left out is a prompt that leaves no room for an answer, one without any token and any answer, and, where rows are
        to be `prompted`, every one without a token.
        """
        tokenise = Tokeniser(self._tokenizer_of(adapter), length=self.longest)
        found: list[Tokens] = []
        without: list[int] = []
        for row in rows:
            tokens = tokenise.asked(row.prompt, row.answer)
            fits = len(tokens.prompt) < self.longest and (tokens.prompt or not prompted)
            if tokens.ids and fits:
                found.append(tokens)
            else:
                without.append(row.line)
        return self.answered(adapter, found, batch), without

    def _tokenizer_of(self, adapter: str | None) -> Any:
        """The base's tokenizer, with the chat template that an adapter was trained with."""
        if adapter not in self._templates:
            return self.tokenizer
        own = copy(self.tokenizer)
        own.chat_template = self._templates[adapter]
        return own

    def answered(self, adapter: str | None, rows: Sequence[Tokens], batch: int) -> list[Tokens]:
        """The rows, with the answer that the adapter (or the base) gives, greedily, where a row has none."""
        import torch

        done = list(rows)
        asked = [i for i, row in enumerate(rows) if not row.answered]
        end = self.tokenizer.eos_token_id
        for at in range(0, len(asked), batch):
            group = asked[at : at + batch]
            width = max(len(rows[i].ids) for i in group)
            ids = torch.zeros((len(group), width), dtype=torch.long)
            mask = torch.zeros((len(group), width), dtype=torch.long)
            for j, i in enumerate(group):  # padded before the prompt: answers start together
                ids[j, width - len(rows[i].ids) :] = torch.tensor(rows[i].ids)
                mask[j, width - len(rows[i].ids) :] = 1
            with self.switched(adapter) as model, torch.no_grad(), quiet():
                out = model.generate(
                    input_ids=ids.to(self.device),
                    attention_mask=mask.to(self.device),
                    max_new_tokens=min(NEW_TOKENS, self.longest - width),
                    do_sample=False,
                    pad_token_id=0 if end is None else end,
                )[:, width:].tolist()
            for i, new in zip(group, out, strict=True):
                answer = new[: new.index(end) + 1] if end in new else new
                done[i] = Tokens(
                    (*rows[i].ids, *answer), (*rows[i].counted, *(True for _ in answer))
                )
        return done


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries have to remark about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def module_in(model: Any, name: str, label: str) -> Any:
    """One module of the base inside a PEFT model; `AdaptkitError` when the base has none of that name."""
    try:
        return model.get_base_model().get_submodule(name)
    except AttributeError as error:
        raise AdaptkitError(
            f"the base has no module '{name}'",
            why=f"{label} adapts it",
            fix="give the base that the adapter was trained on: --base DIR",
        ) from error
