"""From a request to rows of the batcher: models to exact versions, prompts to tokens, tokens to text."""

from __future__ import annotations

import asyncio
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadReference, Refused
from adaptkit.serving.bank.arrow import ArrowMixture
from adaptkit.serving.batcher import Batcher, Job
from adaptkit.serving.composition import Composition
from adaptkit.serving.router import Router, exact
from adaptkit.serving.routing import WITHIN
from adaptkit.serving.text import TextStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from adaptkit.serving.adapters import Adapters
    from adaptkit.serving.bank.bank import Bank
    from adaptkit.serving.batcher import Finish
    from adaptkit.serving.composition import Reference
    from adaptkit.serving.popularity import Popularity
    from adaptkit.serving.routing import Route
    from adaptkit.serving.sampling import Chosen, Sampling

SHORT = 64 << 10
"""Characters that are always read: a tokenizer may leave some out, such as white space."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A request's model: in exact versions, and as digests with weights, one mixture per result."""

    version: str
    digests: tuple[str, ...]
    mixtures: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What a result has new: text, its token, or at the end why it ended."""

    index: int
    text: str
    chosen: Chosen | None = None
    finish: str | None = None


class Service:
    """One base with its bank and batcher."""

    def __init__(
        self,
        bank: Bank,
        tokenizer: Any,
        batcher: Batcher,
        adapters: Adapters,
        *,
        context: int,
        popularity: Popularity,
        route_within: float = WITHIN,
    ) -> None:
        self.bank, self.tokenizer, self.batcher = bank, tokenizer, batcher
        self.adapters, self.context, self.popularity = adapters, context, popularity
        self.router = Router(bank, adapters, self.have, within=route_within)

    def resolve(self, composition: Composition) -> Resolved:
        """Pin every part to a version, and have it in memory: one load, however many requests wait."""
        pinned: dict[Reference, tuple[str, str]] = {}
        for part in composition.parts:
            pinned[part.ref] = self.adapters.resolve(part.ref)
            self.have(pinned[part.ref][1])
        mixtures: list[Mapping[str, float]] = []
        if composition.kind == "arrow":
            mixtures.append(ArrowMixture([digest for _, digest in pinned.values()]))
        for row in composition.rows() if not mixtures else ():
            mixture: dict[str, float] = {}
            for part in row:
                digest = pinned[part.ref][1]
                mixture[digest] = mixture.get(digest, 0.0) + part.weight
            mixtures.append(mixture)
        self._check_mixes(mixtures, {digest: version for version, digest in pinned.values()})
        named = composition.pinned({ref: version for ref, (version, _) in pinned.items()})
        return Resolved(named, tuple(d for _, d in pinned.values()), tuple(mixtures))

    def route(
        self,
        asked: Composition,
        prompts: Sequence[Sequence[int]],
        may: Callable[[Composition], bool],
    ) -> tuple[Composition, Route | None]:
        """What to serve for a request that leaves the choice to us, and how it was chosen.

        `may` says what this request may ask for. Other requests come back as they are.
        """
        if asked.kind not in {"auto", "arrow"}:
            return asked, None
        if len(prompts) > 1:
            raise BadReference(
                f"cannot choose for {len(prompts)} prompts at once",
                why="each may need another adapter, and a request has one",
                fix=f"one prompt in each request for '{asked}'",
            )
        [prompt] = prompts
        if asked.kind == "auto":
            return self.router.auto(asked, prompt, may)
        pinned = [self.adapters.resolve(part.ref) for part in asked.parts]
        for _, digest in pinned:
            self.have(digest)
        versions, digests = zip(*pinned, strict=True)
        self._check_mixes([ArrowMixture(digests)], dict(zip(digests, versions, strict=True)))
        route = self.router.arrow(versions, digests, prompt)
        return Composition("arrow", tuple(map(exact, versions))), route

    def _check_mixes(
        self, mixtures: Sequence[Mapping[str, float]], named: Mapping[str, str]
    ) -> None:
        """Refuse to mix, or to weigh, what only runs alone and as it is."""
        for mixture in mixtures:
            if list(mixture.values()) == [1.0] and not isinstance(mixture, ArrowMixture):
                continue
            for digest in mixture:
                if why := self.bank.why_alone(digest):
                    raise Refused(
                        f"'{named[digest]}' cannot be mixed with others, nor weighed",
                        why=why,
                        fix=f"ask for {named[digest]} alone, or for a merge that was made with it",
                    )

    def have(self, digest: str) -> None:
        """Load an artifact into the computer's memory unless it is there."""
        self.bank.host.offer(digest, lambda: self.adapters.load(digest, self.bank.read))
        self.bank.host.get(digest)

    def pin(self, wanted: Composition) -> Composition:
        """The same with exact versions: what is read of them for a request is of those that answer it."""
        parts = (
            replace(exact(self.adapters.resolve(p.ref)[0]), weight=p.weight) for p in wanted.parts
        )
        return replace(wanted, parts=tuple(parts))

    def chat_tokenizer(self, wanted: Composition) -> Any:
        """The base's tokenizer with the chat template that the adapters were trained with."""
        own = getattr(self.tokenizer, "chat_template", None)
        digests = [self.adapters.resolve(part.ref)[1] for part in wanted.parts]
        templates = {self.adapters.template(digest) or own for digest in digests} or {own}
        if len(templates) > 1:
            raise BadReference(
                f"cannot chat with '{wanted}'",
                why="its adapters were trained with different chat templates",
                fix="ask for one of them, or use /v1/completions with a prompt as you want it",
            )
        if (template := templates.pop()) == own:
            return self.tokenizer
        tokenizer = copy(self.tokenizer)
        tokenizer.chat_template = template
        return tokenizer

    def tokens(self, prompt: str | Sequence[int], *, special: bool = True) -> list[int]:
        """A prompt's tokens, with those that a tokenizer adds if `special`.

        `BadReference` when one is not in the vocabulary, or when there are certainly too many.
        """
        if isinstance(prompt, str):
            self._check_length(prompt)
            ids: list[int] = list(self.tokenizer(prompt, add_special_tokens=special)["input_ids"])
        else:
            ids = list(prompt)
        size = self.bank.model.get_input_embeddings().weight.shape[0]
        if not ids:
            raise BadReference("the prompt is empty", why="there is nothing to go on from")
        if max(ids) >= size:
            raise BadReference(
                f"cannot read the token {max(ids)}", why=f"the base knows {size} tokens"
            )
        return ids

    def _check_length(self, text: str) -> None:
        """Refuse a text that cannot fit before it is read: 4 MB as one word take a tokenizer a minute, and 430 MB."""
        if len(text) > max(SHORT, self.context * self._longest_token):
            raise BadReference(
                f"a prompt of {len(text):,} characters is too long",
                why=f"the base reads at most {self.context} tokens, of at most {self._longest_token} characters each",
                fix="shorten the prompt",
            )

    @cached_property
    def _longest_token(self) -> int:
        return max(map(len, self.tokenizer.get_vocab()), default=1)

    def room(self, prompt: Sequence[int], most: int) -> int:
        """How many tokens may be made; `BadReference` when prompt and wish do not fit the base."""
        left = self.context - len(prompt)
        if left < max(most, 1):
            raise BadReference(
                f"a prompt of {len(prompt)} tokens with {max(most, 1)} new ones is too long",
                why=f"the base reads at most {self.context}",
                fix="shorten the prompt, or ask for fewer tokens",
            )
        return most or left

    def start(
        self, prompts: Sequence[Sequence[int]], resolved: Resolved, sampling: Sampling, n: int
    ) -> Running:
        """Queue the rows of one request, `n` of each prompt; `NoRoom` when the queue is full."""
        return Running(self, prompts, resolved, sampling, n)


class Running:
    """The rows of one request. Leaving it cancels what still runs."""

    def __init__(
        self,
        service: Service,
        prompts: Sequence[Sequence[int]],
        resolved: Resolved,
        sampling: Sampling,
        n: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self.jobs: list[Job] = []
        self.texts: list[TextStream] = []
        each = n * len(resolved.mixtures)
        for index in range(len(prompts) * each):
            turn, prompt = index % each, prompts[index // each]
            seed = None if sampling.seed is None else sampling.seed + turn
            most = service.room(prompt, sampling.max_tokens)
            text = TextStream(service.tokenizer, sampling.stop)
            self.texts.append(text)
            self.jobs.append(
                Job(
                    prompt,
                    resolved.mixtures[turn % len(resolved.mixtures)],
                    replace(sampling, seed=seed, max_tokens=most),
                    self._token(index, text),
                    self._finish(index, text),
                )
            )
        self._popularity = service.popularity
        service.batcher.submit(self.jobs)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Everything new until all rows have ended; what went wrong is raised."""
        left = len(self.jobs)
        while left:
            piece = await self._pieces.get()
            if isinstance(piece, Exception):
                raise piece
            left -= piece.finish is not None
            yield piece

    def cancel(self) -> None:
        """Stop the rows that still run, between two tokens."""
        for job in self.jobs:
            job.cancelled = True

    def _put(self, piece: Piece | Exception) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    def _token(self, index: int, text: TextStream) -> Callable[[Chosen], bool]:
        def add(chosen: Chosen) -> bool:
            self._put(Piece(index, text.add(chosen.token), chosen))
            return not text.stopped

        return add

    def _finish(self, index: int, text: TextStream) -> Callable[[Finish], None]:
        def end(reason: Finish) -> None:
            if isinstance(reason, Exception):
                self._put(reason)
            else:
                self._popularity.add(self.jobs[index].mixture)
                self._put(Piece(index, text.end(), None, reason))

        return end
