"""Score adapters on suites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.evaluation.harness import score_by_harness
from adaptkit.evaluation.suites import SCORERS
from adaptkit.training.data.rows import Chat, Pair, Preference, answer_of, as_turns, prompt_of
from adaptkit.training.data.tokens import Tokeniser

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from adaptkit.evaluation.speaker import Speaker
    from adaptkit.evaluation.suites import Suite
    from adaptkit.training.data.rows import Prompt


def score_all(
    speaker: Speaker,
    adapters: Mapping[str, Path | None],
    suites: Sequence[Suite],
    done: Callable[[int], None],
    scored: Callable[[str, Mapping[str, float]], None] = lambda _label, _figures: None,
) -> dict[str, dict[str, float]]:
    """The figure of every adapter on every suite; a path of None is the base alone.

    `scored` is given the figures of each adapter as soon as it has them all.
    """
    figures: dict[str, dict[str, float]] = {}
    for label, path in adapters.items():
        with speaker.wearing(path):
            figures[label] = {}
            for suite in suites:
                figures[label][suite.name] = score(speaker, suite)
                done(suite.size)
        scored(label, figures[label])
    return figures


def score(speaker: Speaker, suite: Suite) -> float:
    """The share of rows that are right; or a perplexity."""
    if suite.harness is not None:
        return score_by_harness(speaker, suite.harness, speaker.batch)
    tokenise = Tokeniser(speaker.tokenizer)
    if suite.score == "perplexity":
        return speaker.perplexity([tokenise(row) for row in suite.rows])
    if suite.score == "pairwise":
        pairs = [row for row in suite.rows if isinstance(row, Preference)]
        better = speaker.log_likelihoods([tokenise(_row(p.prompt, p.chosen)) for p in pairs])
        worse = speaker.log_likelihoods([tokenise(_row(p.prompt, p.rejected)) for p in pairs])
        wins = [a > b for (a, _), (b, _) in zip(better, worse, strict=True)]
        return sum(wins) / len(wins)
    right = SCORERS[suite.score]
    answers = speaker.answers([prompt_of(row) for row in suite.rows], suite.new_tokens)
    hits = [right(a, answer_of(row)) for a, row in zip(answers, suite.rows, strict=True)]
    return sum(hits) / len(hits)


def _row(prompt: Prompt, answer: Prompt) -> Pair | Chat:
    if isinstance(prompt, str) and isinstance(answer, str):
        return Pair(prompt, answer)
    return Chat((*as_turns(prompt), *as_turns(answer, "assistant")))
