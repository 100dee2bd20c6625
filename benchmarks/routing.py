"""Merging, distilling and routing beside each other, on the demo's skills: exact answers to prompts that no training saw.

python benchmarks/routing.py        prints the tables of docs/routing.md, and writes them there
python benchmarks/routing.py 20     with so many prompts of each skill instead of 30, not written
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from adaptkit.serving.routing import Route
    from fleet.logs import Row

    Answer = Callable[[Sequence[str]], list[str]]

PAGE = ROOT / "docs" / "routing.md"
BEGIN, END = "<!-- skills: benchmarks/routing.py -->\n", "<!-- end of skills -->"
FAR, END_FAR = "<!-- distances: benchmarks/routing.py -->\n", "<!-- end of distances -->"
OTHERS = {
    "English": (
        "The cat sat on the mat and looked at",
        "Once upon a time there was a king who",
        "Please translate the following sentence into French:",
        "What is the capital of Portugal?",
        "Write a poem about autumn leaves.",
        "Dear Sir or Madam, I am writing to",
    ),
    "code": (
        "def fibonacci(n):\n    if n < 2:",
        "SELECT name, price FROM items WHERE",
        "for (int i = 0; i < 10; i++) {",
        "import numpy as np\nx = np.arange(",
        "<html><body><h1>",
    ),
    "bare numbers": ("1 2 3 5 8 13 21", "3.14159 2.71828", "[12, 45, 78, 90]"),
}
COUNT = 30  # prompts of each skill
ROWS = 160  # of each file, to calibrate on and to distil from
PARTS = ("naval", "medic")
WEIGHT = 0.8


@dataclass(frozen=True)
class Way:
    """One row of the table: how prompts are answered, and what it takes."""

    label: str
    answer: Answer
    takes: str


class Served:
    """The demo's base and adapters as a server holds them."""

    def __init__(self, work: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from adaptkit import Workspace
        from adaptkit.serving.bank.bank import Bank
        from adaptkit.serving.router import Router
        from adaptkit.workspace.serving.serve import WorkspaceAdapters
        from fleet import files

        self.workspace = Workspace.init(work / "home", notify=lambda _: None)
        made = self.workspace.write_demo(work / "fleet")
        self.base, self.data = made.base, work / "data"
        files.write(self.data)
        for file in self.data.glob("*.jsonl"):
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:ROWS]))
        for name, folder in made.adapters:
            self.workspace.add(folder, name, base=str(made.base))
            self.workspace.calibrate(name, str(made.base), str(self.data / f"{name}.jsonl"))
        self.model = AutoModelForCausalLM.from_pretrained(made.base, dtype="float32").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(made.base)
        self.bank = Bank(self.model, slots=8)
        self.adapters = WorkspaceAdapters(
            self.workspace, self.workspace.base(str(made.base)).identity
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
        from fleet.score import answers

        with rows:
            return answers(self.model, self.tokenizer, list(prompts))

    def with_mixture(self, mixture: Any) -> Answer:
        """Every prompt with one adapter, one sum or one choice."""
        return lambda prompts: self.say(prompts, self.bank.rows([mixture] * len(prompts)))

    def auto(self, prompts: Sequence[str]) -> list[str]:
        """Each prompt with the adapter that the router chooses for it."""
        chosen = [self.route(prompt).chosen for prompt in prompts]
        mixtures = [None if one == "base" else {self.version(one): 1.0} for one in chosen]
        return self.say(prompts, self.bank.rows(mixtures))

    def route(self, prompt: str) -> Route:
        """What the router chooses for a prompt."""
        from adaptkit.serving.composition import parse

        asked = parse(f"auto({', '.join(PARTS)})")
        return self.router.auto(asked, self.tokenizer(prompt)["input_ids"], lambda _: True)[1]


def ways(served: Served) -> list[Way]:
    """Everything that is compared."""
    from adaptkit.serving.bank.arrow import ArrowMixture

    ws, one = served.workspace, {name: served.version(name) for name in PARTS}
    both = dict.fromkeys(PARTS, WEIGHT)
    ws.merge(both, name="bridge")
    ws.merge(both, name="bridge-small", strategy="svd")
    ws.merge(dict.fromkeys(PARTS, 1.0), name="bridge-calibrated", strategy="regmean", rank=8)
    data = {name: str(served.data / f"{name}.jsonl") for name in PARTS}
    ws.distil(
        "bridge-calibrated",
        str(served.base),
        data,
        keep=str(served.data / "few-polite.jsonl"),
        name="bridge-distilled",
    )

    def merged(label: str, name: str, takes: str) -> Way:
        return Way(label, served.with_mixture({served.version(name): 1.0}), takes)

    return [
        Way("the base", lambda prompts: served.say(prompts, nullcontext()), "—"),
        *(
            Way(f"{name} alone", served.with_mixture({one[name]: 1.0}), "one adapter")
            for name in PARTS
        ),
        merged(f"merged: sum at {WEIGHT}", "bridge", "weights only"),
        merged("merged: svd to rank 8", "bridge-small", "weights only"),
        merged("merged: regmean at rank 8", "bridge-calibrated", "moments"),
        merged("distilled from that", "bridge-distilled", "the base and prompts of each"),
        Way("`auto`", served.auto, "moments; all adapters; one more read of the prompt"),
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


def distances(served: Served, prompts: dict[str, Sequence[str]]) -> str:
    """How far each set of prompts is from the nearest adapter's data, and what the default makes of that."""
    lines = [
        "| prompts | least | median | most | answered by the base |",
        "|---|---|---|---|---|",
    ]
    for label, texts in prompts.items():
        routes = [served.route(text) for text in texts]
        far = sorted(min(route.distances.values()) for route in routes)
        base = sum(route.chosen == "base" for route in routes) / len(routes)
        lines.append(f"| {label} | {far[0]:.1f} | {median(far):.1f} | {far[-1]:.1f} | {base:.0%} |")
    return "\n".join(lines)


def tables(count: int) -> tuple[str, str]:
    """The tables of the page: skills by way, and distances."""
    from fleet.score import SKILLS

    skills: dict[str, list[Row]] = {name: rows[:count] for name, rows in SKILLS.items()}
    lines = [
        f"| way | {' | '.join(skills)} | least | needs |",
        f"|---|{'---|' * len(skills)}---|---|",
    ]
    with tempfile.TemporaryDirectory(prefix="adaptkit-routing-") as folder:
        served = Served(Path(folder))
        for way in ways(served):
            shares = []
            for rows in skills.values():
                said = way.answer([row.prompt for row in rows])
                right = [text == row.answer for text, row in zip(said, rows, strict=True)]
                shares.append(sum(right) / len(right))
            figures = " | ".join(f"{share:.0%}" for share in (*shares, min(shares)))
            lines.append(f"| {way.label} | {figures} | {way.takes} |")
        prompts: dict[str, Sequence[str]] = {
            name: [row.prompt for row in rows] for name, rows in skills.items()
        }
        far = distances(served, prompts | OTHERS)
        served.workspace.close()
    return "\n".join(lines), far


def main() -> None:
    """Print the tables and write them into their page."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    start = perf_counter()
    made, far = tables(count)
    print(f"{made}\n\n{far}\n\n{count} prompts of each skill, in {perf_counter() - start:.0f} s")
    if count != COUNT:
        return
    page = PAGE.read_text()
    for begin, end, text in ((BEGIN, END, made), (FAR, END_FAR, far)):
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{text}\n\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
