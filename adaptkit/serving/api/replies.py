"""OpenAI's replies, whole and in chunks, for both kinds of completion."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.serving.api.service import Piece
    from adaptkit.serving.routing import Route
    from adaptkit.serving.sampling import Chosen


@dataclass(slots=True)
class Reply:
    """Builds the reply of one request from its pieces."""

    id: str
    created: int
    model: str
    chat: bool
    tokenizer: Any
    prompt_tokens: int
    logprobs: int | None = None
    route: Route | None = None
    made: int = 0
    texts: dict[int, list[str]] = field(default_factory=dict)
    tokens: dict[int, list[Chosen]] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    """Where the next token of each stream begins."""

    def add(self, piece: Piece) -> None:
        """Keep a piece."""
        self.texts.setdefault(piece.index, []).append(piece.text)
        if piece.chosen is not None:
            self.made += 1
            self.tokens.setdefault(piece.index, []).append(piece.chosen)
        if piece.finish is not None:
            self.ends[piece.index] = piece.finish

    def whole(self) -> dict[str, Any]:
        """The reply when all pieces are there."""
        choices = []
        for index in sorted(self.ends):
            text = "".join(self.texts[index])
            body = (
                {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
            )
            logprobs = self._logprobs(self.tokens.get(index, []), 0)
            end = self.ends[index]
            choices.append({"index": index, **body, "logprobs": logprobs, "finish_reason": end})
        return self._frame("" if self.chat else None, choices) | {"usage": self.usage()}

    def opening(self, choices: int) -> list[dict[str, Any]]:
        """The first chunk of each choice of a chat, which brings the role."""
        if not self.chat:
            return []
        delta = {"role": "assistant", "content": ""}
        return [
            self._frame(".chunk", [{"index": i, "delta": delta, "finish_reason": None}])
            for i in range(choices)
        ]

    def chunk(self, piece: Piece) -> dict[str, Any] | None:
        """A piece as a chunk; None when there is nothing to send."""
        self.add(piece)
        if not piece.text and piece.finish is None and self.logprobs is None:
            return None
        text: dict[str, Any] = {"text": piece.text}
        if self.chat:
            text = {"delta": {"content": piece.text} if piece.text else {}}
        chosen = [piece.chosen] if piece.chosen else []
        before = self.offsets.get(piece.index, 0)
        logprobs = self._logprobs(chosen, before) if chosen else None
        if logprobs and not self.chat:
            self.offsets[piece.index] = before + len(logprobs["tokens"][0])
        choice = {
            "index": piece.index,
            **text,
            "logprobs": logprobs,
            "finish_reason": piece.finish,
        }
        return self._frame(".chunk" if self.chat else None, [choice])

    def closing(self) -> dict[str, Any]:
        """The last chunk of a stream that asked for its usage."""
        return self._frame(".chunk" if self.chat else None, []) | {"usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """How many tokens were read and made."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.made,
            "total_tokens": self.prompt_tokens + self.made,
        }

    def _frame(self, chat_suffix: str | None, choices: Sequence[Any]) -> dict[str, Any]:
        kind = f"chat.completion{chat_suffix or ''}" if self.chat else "text_completion"
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
            **({} if self.route is None else {"adaptkit": {"route": self.route.to_json()}}),
        }

    def _logprobs(self, tokens: Sequence[Chosen], before: int) -> dict[str, Any] | None:
        """The tokens' probabilities; `before` is how many characters of the text came before them."""
        if self.logprobs is None:
            return None
        if self.chat:
            return {
                "content": [
                    self._one(chosen.token, chosen.logprob)
                    | {"top_logprobs": [self._one(t, value) for t, value in chosen.top]}
                    for chosen in tokens
                ]
            }
        texts = [self._text(chosen.token) for chosen in tokens]
        return {
            "tokens": texts,
            "token_logprobs": [chosen.logprob for chosen in tokens],
            "top_logprobs": [
                {self._text(token): value for token, value in chosen.top} for chosen in tokens
            ],
            "text_offset": list(accumulate(map(len, texts[:-1]), initial=before)),
        }

    def _one(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))
