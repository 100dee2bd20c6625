"""The two bases of benchmarks/routing.py, each with its adapters and prompts: the demo's own, and a really pre-trained one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from adaptkit import Workspace
    from fleet.logs import Row

    Speak = Callable[[Any, Any, list[str]], list[str]]

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
ROWS = 160  # of each of the demo's files, to calibrate on and to distil from
STEPS, DISTIL_STEPS = 40, 20  # on the pre-trained base, as `make demo-real` has them
LONGEST = 16  # tokens of an answer of the pre-trained base


@dataclass(frozen=True)
class Story:
    """A base with calibrated adapters in a registry, and what is asked of them."""

    workspace: Workspace
    base: Path
    pairs: Mapping[str, tuple[str, str]]
    """Two adapters each that are merged and routed between, by how their prompts differ."""
    data: Mapping[str, Path]
    """Prompts of each adapter, to distil from."""
    asked: Mapping[str, Sequence[Row]]
    """Prompts that no training saw, by skill, with the answer that is right."""
    others: Mapping[str, Sequence[str]]
    """Prompts that no adapter is for."""
    speak: Speak
    """What a model answers, with its tokenizer."""
    distil: Mapping[str, Any] = field(default_factory=dict)
    unspoilt: str = ""
    """The skill of the base that must stay; empty where its answers to `others` must."""


def demo(work: Path, count: int) -> Story:
    """The base of `adaptkit demo` and its two adapters."""
    from adaptkit import Workspace
    from fleet import files
    from fleet.score import SKILLS, answers

    workspace = Workspace.init(work / "home", notify=lambda _: None)
    made, data = workspace.write_demo(work / "fleet"), work / "data"
    files.write(data)
    for file in data.glob("*.jsonl"):
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:ROWS]))
    for name, folder in made.adapters:
        workspace.add(folder, name, base=str(made.base))
        workspace.calibrate(name, str(made.base), str(data / f"{name}.jsonl"))
    return Story(
        workspace,
        made.base,
        {"by what is asked": ("naval", "medic")},
        {name: data / f"{name}.jsonl" for name in ("naval", "medic")},
        {name: rows[:count] for name, rows in SKILLS.items()},
        OTHERS,
        answers,
        {"keep": str(data / "few-polite.jsonl")},
        "polite",
    )


def pretrained(base: Path, work: Path, count: int) -> Story:
    """A pre-trained base with the four adapters of `make demo-real`, trained on it here."""
    from adaptkit import Workspace
    from demo_real import train
    from real import data

    work.mkdir(exist_ok=True)
    data.write(work)
    workspace = Workspace.init(work / "home", notify=lambda _: None)
    for skill in data.SKILLS:
        train(workspace, base, work, skill, STEPS)
    return Story(
        workspace,
        base,
        data.PAIRS,
        {skill: work / "prompts" / f"{skill}.jsonl" for skill in data.SKILLS},
        {
            skill: data.skill_rows(skill, held_out=True, count=min(count, data.ASKED))
            for skill in data.SKILLS
        },
        OTHERS,
        plainly,
        {"steps": DISTIL_STEPS, "batch": 4},
    )


def plainly(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    """What a model answers to prompts as its tokenizer writes them, greedily, in one batch."""
    import torch

    encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    width, pad = max(map(len, encoded)), tokenizer.eos_token_id
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in encoded])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in encoded])
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=LONGEST,
            do_sample=False,
            pad_token_id=pad,
        )
    return [tokenizer.decode(row[width:], skip_special_tokens=True).strip() for row in out]
