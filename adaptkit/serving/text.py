"""Tokens to text as they come: no half characters, and nothing of a stop text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_HALF = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The text of one result; `add` returns what is new and safe to send."""

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(filter(None, stop))
        self._tokens: list[int] = []
        self._sent = 0
        self.text = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The new text after one more token; `stopped` when a stop text was met."""
        self._tokens.append(token)
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._send(text[: min(found)], len(text))
        return self._send(text, self._safe(text))

    def end(self) -> str:
        """What was held back, when no more tokens come."""
        if self.stopped:
            return ""
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        return self._send(text, len(text))

    def _send(self, text: str, until: int) -> str:
        new = text[self._sent : until]
        self._sent += len(new)
        self.text += new
        return new

    def _safe(self, text: str) -> int:
        """Up to where nothing can still become another character, or part of a stop text."""
        end = len(text)
        while end and text[end - 1] == _HALF:
            end -= 1
        for stop in self._stop:
            for size in range(min(len(stop) - 1, end), 0, -1):
                if text[:end].endswith(stop[:size]):
                    end -= size
                    break
        return max(end, self._sent)
