"""OpenAI's requests, read strictly: what is of another type or out of bounds is refused with its name.

Fields as in https://platform.openai.com/docs/api-reference, and what other engines add to them
(https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html). Those that would change the text and that
adaptkit does not follow are refused unless they ask for nothing; all others are ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from adaptkit.errors import BadReference
from adaptkit.serving.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=16)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
Stop = Annotated[str, msgspec.Meta(max_length=200)]
Stops = Annotated[list[Stop], msgspec.Meta(max_length=8)]
Token = Annotated[int, msgspec.Meta(ge=0)]
Tokens = Annotated[list[Token], msgspec.Meta(min_length=1)]
Prompts = Annotated[list[Token | str | Tokens], msgspec.Meta(min_length=1)]
Top = Annotated[int, msgspec.Meta(ge=0, le=20)]


NOT_FOLLOWED: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    # what vLLM and SGLang add
    "top_k": (0, -1),
    "min_p": (0,),
    "typical_p": (1,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "use_beam_search": (False,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "stop_regex": ("", []),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "truncate_prompt_tokens": (),
    "prompt_logprobs": (),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "regex": (),
    "json_schema": (),
    "ebnf": (),
    "documents": ([],),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
}
"""What changes the text and is not followed, with the values beside null that ask for nothing."""


class StreamOptions(msgspec.Struct):
    """What a stream brings beside the text."""

    include_usage: bool = False


class Asked(msgspec.Struct, kw_only=True):
    """What both kinds of completion share."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Choices | None = None
    seed: Seed | None = None
    stop: Stop | Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def stops(self) -> tuple[str, ...]:
        """The texts to stop at."""
        stop = self.stop or ()
        return (stop,) if isinstance(stop, str) else tuple(stop)


class CompletionRequest(Asked, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | Prompts
    max_tokens: Count | None = None
    logprobs: Top | None = None
    echo: bool | None = None

    def prompts(self) -> list[str | list[int]]:
        """The prompts, one by one: a list of tokens is one, a list of texts or of such lists is several."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        tokens = [one for one in self.prompt if isinstance(one, int)]
        if len(tokens) == len(self.prompt):
            return [tokens]
        if tokens:
            raise BadReference(
                "cannot read the request",
                why="it has tokens beside whole prompts - at `$.prompt`",
                fix="a text, a list of tokens, or a list of several such",
            )
        return [one for one in self.prompt if not isinstance(one, int)]

    def sampling(self) -> Sampling:
        """How its tokens are chosen; the defaults are OpenAI's."""
        return _sampling(self, self.max_tokens or 16, self.logprobs)


class Message(msgspec.Struct):
    """One turn of a chat."""

    role: Annotated[str, msgspec.Meta(max_length=40)]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: Any = None
    function_call: Any = None

    def text(self) -> str:
        """The turn's text; pictures and other parts are refused, and so are calls of tools."""
        if self.tool_calls or self.function_call:
            raise BadReference(
                "cannot read a message",
                why="it calls a tool, and the model is given no tools",
                fix="send text only",
            )
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        if any(
            part.get("type") != "text" or not isinstance(part.get("text"), str)
            for part in self.content
        ):
            raise BadReference(
                "cannot read a message", why="it has a part that is no text", fix="send text only"
            )
        return "".join(part["text"] for part in self.content)


class ChatRequest(Asked, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1, max_length=10_000)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Top | None = None

    def sampling(self) -> Sampling:
        """How its tokens are chosen; 0 tokens stands for as many as there is room for."""
        if self.top_logprobs and not self.logprobs:
            raise BadReference(
                "cannot return top_logprobs",
                why="logprobs is not asked for",
                fix='"logprobs": true',
            )
        most = self.max_completion_tokens or self.max_tokens or 0
        return _sampling(self, most, (self.top_logprobs or 0) if self.logprobs else None)


def read(kind: type[Any], body: bytes) -> Any:
    """A request from its body; `BadReference` names the field that is wrong."""
    try:
        sent = msgspec.json.decode(body)
        asked = msgspec.convert(sent, kind)
    except msgspec.ValidationError as error:
        raise BadReference("cannot read the request", why=str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadReference("the request is not JSON", why=str(error)) from error
    if sent.get("echo"):
        raise BadReference("cannot echo the prompt", why="adaptkit returns new text only")
    for name, nothing in NOT_FOLLOWED.items():
        if (value := sent.get(name)) is not None and value not in nothing:
            raise BadReference(
                f"cannot follow '{name}'",
                why="adaptkit has no such way of reading prompts or choosing tokens",
                fix=f"leave {name} out",
            )
    return asked


def chat_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The prompt of a chat, by the tokenizer's own template: it holds the special tokens."""
    if not getattr(tokenizer, "chat_template", None):
        raise BadReference(
            "cannot chat with this base",
            why="its tokenizer has no chat template",
            fix="use /v1/completions, or serve a base with a chat template",
        )
    turns = [{"role": message.role, "content": message.text()} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates refuse with exceptions of their own
        raise BadReference("the chat template refused the messages", why=str(error)) from error


def _sampling(asked: Asked, most: int, logprobs: int | None) -> Sampling:
    return Sampling(
        max_tokens=most,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        stop=asked.stops(),
        logprobs=logprobs,
    )
