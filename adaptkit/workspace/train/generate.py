"""Answers of a base with an adapter on it, of several side by side, and a conversation."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import BadReference, Refused
from adaptkit.evaluation.speaker import Speaker
from adaptkit.io.staging import staging
from adaptkit.serving.sampling import GREEDY
from adaptkit.training.data.rows import Message, as_turns
from adaptkit.workspace.lookup.artifacts import find_version, verified_tree
from adaptkit.workspace.merge.merge import merge
from adaptkit.workspace.train.evaluate import BASE, base_folder, check_base, say_base_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import TextIO

    from adaptkit.training.data.rows import Prompt
    from adaptkit.workspace.context.context import Context


def generate(
    context: Context,
    adapters: Sequence[str],
    prompt: str,
    *,
    base: str,
    new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    plain: bool = False,
    stream: TextIO | None = None,
    force: bool = False,
) -> dict[str, str]:
    """The answer of each adapter to one prompt, by what the adapter was called.

    An adapter is a reference, `base` for none, or several joined by `+`, merged by their exact sum for the occasion.
    A chat model is asked by its template, unless `plain`. `stream` gets the text of a single adapter as it comes.
    """
    speaker = Speaker(base_folder(context, base))
    found: dict[str, str] = {}
    for name in dict.fromkeys(adapters):
        with _adapter(context, name, base, force=force) as path, speaker.wearing(path):
            asked: Prompt = prompt
            if not plain and getattr(speaker.tokenizer, "chat_template", None):
                asked = as_turns(prompt)
            found[name] = speaker.ask(asked, new_tokens, stream, **_sampling(temperature, seed))
    return found


def conversation(
    context: Context,
    adapter: str,
    *,
    base: str,
    system: str = "",
    new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    stream: TextIO | None = None,
    force: bool = False,
) -> AbstractContextManager[Callable[[str], str]]:
    """A function that takes a message and returns the answer, remembering the messages before."""

    @contextmanager
    def opened() -> Iterator[Callable[[str], str]]:
        speaker = Speaker(base_folder(context, base))
        with _adapter(context, adapter, base, force=force) as path, speaker.wearing(path):
            turns = [Message("system", system)] if system else []

            def reply(text: str) -> str:
                turns.append(Message("user", text))
                chat = getattr(speaker.tokenizer, "chat_template", None)
                asked: Prompt = tuple(turns) if chat else text
                answer = speaker.ask(asked, new_tokens, stream, **_sampling(temperature, seed))
                turns.append(Message("assistant", answer))
                return answer

            yield reply

    return opened()


@contextmanager
def _adapter(context: Context, name: str, base: str, *, force: bool) -> Iterator[Path | None]:
    """The folder of what an adapter's name means; a sum is made for as long as the block."""
    if name == BASE:
        say_base_name(context)
        yield None
        return
    parts = [part for part in name.split("+") if part]
    if not parts or BASE in parts:
        raise BadReference(
            f"'{name}' names no adapter",
            why="it is a reference, base alone, or references joined by +",
            fix="for example: --compare base,naval,naval+medic",
        )
    for part in parts:
        refs.parse(part)
        check_base(context, find_version(context, part), base, force=force)
    if len(parts) == 1:
        yield verified_tree(context, find_version(context, parts[0]).digest)
        return
    with staging(context.tmp) as work:
        merge(context, parts, out=work / "sum", force=force)
        yield work / "sum"


def _sampling(temperature: float, seed: int) -> dict[str, object]:
    if temperature < GREEDY:
        return {}
    if not 0 <= seed < 1 << 63:
        raise Refused(
            f"cannot sample with the seed {str(seed)[:30]}",
            why="it is a whole number from 0 to 2^63 - 1",
            fix="for example: --seed 1",
        )
    import torch

    torch.manual_seed(seed)
    return {"do_sample": True, "temperature": temperature}
