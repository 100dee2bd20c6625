"""Merging, distilling and routing beside each other: exact answers to prompts that no training saw.

python benchmarks/routing.py                    on the demo's base; prints the tables of docs/routing.md, and writes them there
python benchmarks/routing.py --base smollm2     on SmolLM2-135M with the adapters of `make demo-real`, written there as well
python benchmarks/routing.py --base DIR         the same on another base of yours, printed only
python benchmarks/routing.py --count 20         with so many prompts of each skill at most, printed only
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
warnings.simplefilter("ignore")
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from routing_bases import Story, demo, pretrained  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from adaptkit.serving.routing import Route

    Answer = Callable[[Sequence[str]], list[str]]

PAGE = ROOT / "docs" / "routing.md"
COUNT = 30  # prompts of each skill
WEIGHT = 0.8
SMOLLM2 = "smollm2"


@dataclass(frozen=True)
class Way:
    """One row of the table: how prompts are answered, and what it takes."""

    label: str
    answer: Answer
    takes: str


class Served:
    """A base and its adapters as a server holds them."""

    def __init__(self, story: Story) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from adaptkit.serving.bank.bank import Bank
        from adaptkit.serving.router import Router
        from adaptkit.workspace.serving.serve import WorkspaceAdapters

        self.story, self.workspace = story, story.workspace
        self.model = AutoModelForCausalLM.from_pretrained(story.base, dtype="float32").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(story.base)
        self.bank = Bank(self.model, slots=8)
        self.adapters = WorkspaceAdapters(
            self.workspace, self.workspace.base(str(story.base)).identity
        )
        self.router = Router(self.bank, self.adapters, self.have)

    def have(self, digest: str) -> None:
        """Load an artifact into the bank."""
        self.bank.host.offer(digest, lambda: self.adapters.load(digest, self.bank.read))
        self.bank.host.get(digest)

    def version(self, ref: str) -> str:
        """The digest of a reference, loaded."""
        digest = self.workspace.version(ref).digest
        self.have(digest)
        return digest

    def say(self, prompts: Sequence[str], rows: AbstractContextManager[Any]) -> list[str]:
        """What the model answers inside a block."""
        with rows:
            return self.story.speak(self.model, self.tokenizer, list(prompts))

    def with_mixture(self, mixture: Any) -> Answer:
        """Every prompt with one adapter, one sum or one choice."""
        return lambda prompts: self.say(prompts, self.bank.rows([mixture] * len(prompts)))

    def plain(self, prompts: Sequence[str]) -> list[str]:
        """Each prompt with the base alone."""
        return self.say(prompts, nullcontext())

    def auto(self, pair: Sequence[str]) -> Answer:
        """Each prompt with the adapter that the router chooses for it."""

        def answer(prompts: Sequence[str]) -> list[str]:
            chosen = [self.route(pair, prompt).chosen for prompt in prompts]
            mixtures = [None if one == "base" else {self.version(one): 1.0} for one in chosen]
            return self.say(prompts, self.bank.rows(mixtures))

        return answer

    def route(self, pair: Sequence[str], prompt: str) -> Route:
        """What the router chooses for a prompt among a pair."""
        from adaptkit.serving.composition import parse

        asked = parse(f"auto({', '.join(pair)})")
        return self.router.auto(asked, self.tokenizer(prompt)["input_ids"], lambda _: True)[1]


def ways(served: Served, pair: tuple[str, str]) -> list[Way]:
    """Everything that is compared for two adapters."""
    from adaptkit.serving.bank.arrow import ArrowMixture

    ws, one = served.workspace, {name: served.version(name) for name in pair}
    both, bridge = dict.fromkeys(pair, WEIGHT), "-".join(pair)
    ws.merge(both, name=bridge)
    ws.merge(both, name=f"{bridge}-small", strategy="svd")
    ws.merge(dict.fromkeys(pair, 1.0), name=f"{bridge}-calibrated", strategy="regmean", rank=8)
    data = {name: str(served.story.data[name]) for name in pair}
    calibrated, base = f"{bridge}-calibrated", str(served.story.base)
    ws.distil(calibrated, base, data, name=f"{bridge}-distilled", **served.story.distil)

    def merged(label: str, name: str, takes: str) -> Way:
        return Way(label, served.with_mixture({served.version(name): 1.0}), takes)

    return [
        Way("the base", served.plain, "—"),
        *(
            Way(f"{name} alone", served.with_mixture({one[name]: 1.0}), "one adapter")
            for name in pair
        ),
        merged(f"merged: sum at {WEIGHT}", bridge, "weights only"),
        merged("merged: svd to rank 8", f"{bridge}-small", "weights only"),
        merged("merged: regmean at rank 8", f"{bridge}-calibrated", "moments"),
        merged("distilled from that", f"{bridge}-distilled", "the base and prompts of each"),
        Way("`auto`", served.auto(pair), "moments; all adapters; one more read of the prompt"),
        Way(
            "`arrow`, best of both",
            served.with_mixture(ArrowMixture(list(one.values()), top=1)),
            "all adapters in every token",
        ),
        Way(
            "`arrow`, shared",
            served.with_mixture(ArrowMixture(list(one.values()))),
            "all adapters in every token",
        ),
    ]


def skills(served: Served, pair: tuple[str, str]) -> str:
    """Each way's share of right answers to the pair's prompts, and of the base's behaviour that it keeps."""
    story = served.story
    named = [*pair, *([story.unspoilt] if story.unspoilt else [])]
    kept = [] if story.unspoilt else [text for texts in story.others.values() for text in texts]
    before = served.plain(kept) if kept else []
    columns = [*named, *(["as the base"] if kept else [])]
    lines = [
        f"| way | {' | '.join(columns)} | least | needs |",
        f"|---|{'---|' * len(columns)}---|---|",
    ]
    for way in ways(served, pair):
        shares = [
            same(way.answer([row.prompt for row in rows]), [row.answer for row in rows])
            for rows in (story.asked[name] for name in named)
        ]
        shares += [same(way.answer(kept), before)] if kept else []
        figures = " | ".join(f"{share:.0%}" for share in (*shares, min(shares)))
        lines.append(f"| {way.label} | {figures} | {way.takes} |")
    return "\n".join(lines)


def same(said: Sequence[str], right: Sequence[str]) -> float:
    """The share of answers that are right to the letter."""
    return sum(one == other for one, other in zip(said, right, strict=True)) / len(right)


def distances(served: Served, pair: tuple[str, str]) -> str:
    """How far each set of prompts is from the nearest adapter's data, and what the default makes of that."""
    lines = [
        "| prompts | least | median | most | answered by the base |",
        "|---|---|---|---|---|",
    ]
    story = served.story
    sets: dict[str, Sequence[str]] = {
        skill: [row.prompt for row in rows] for skill, rows in story.asked.items()
    }
    for label, texts in (sets | dict(story.others)).items():
        routes = [served.route(pair, text) for text in texts]
        far = sorted(min(route.distances.values()) for route in routes)
        base = sum(route.chosen == "base" for route in routes) / len(routes)
        lines.append(f"| {label} | {far[0]:.1f} | {median(far):.1f} | {far[-1]:.1f} | {base:.0%} |")
    return "\n".join(lines)


def tables(given: str | None, count: int) -> dict[str, str]:
    """The tables of the page by the marks around them: skills by way, and distances, of each pair."""
    with tempfile.TemporaryDirectory(prefix="adaptkit-routing-") as folder:
        if given is None:
            story, suffix = demo(Path(folder), count), ""
        else:
            story, suffix = pretrained(_base(given), Path(folder), count), ", pre-trained"
        served = Served(story)
        found = {}
        for how, pair in story.pairs.items():
            told = "" if len(story.pairs) == 1 else f", told apart {how}"
            found[f"skills{suffix}{told}"] = skills(served, pair)
            found[f"distances{suffix}{told}"] = distances(served, pair)
        served.workspace.close()
    return found


def _base(given: str) -> Path:
    """The folder of a base: SmolLM2's is made where it is asked for by name."""
    from real.smollm2 import smollm2

    return smollm2() if given == SMOLLM2 else Path(given)


def main() -> None:
    """Print the tables and write them into their page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", help=f"a base's folder, or {SMOLLM2}; else the demo's base")
    parser.add_argument("--count", type=int, default=COUNT, help="prompts of each skill at most")
    given = parser.parse_args()
    start = perf_counter()
    made = tables(given.base, given.count)
    for name, text in made.items():
        print(f"{name}\n\n{text}\n")
    print(f"in {perf_counter() - start:.0f} s")
    if given.count != COUNT or given.base not in {None, SMOLLM2}:
        return
    page = PAGE.read_text()
    for name, text in made.items():
        begin = f"<!-- {name}: benchmarks/routing.py -->\n"
        end = f"<!-- end of {name} -->"
        if begin not in page:
            continue
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{text}\n\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
