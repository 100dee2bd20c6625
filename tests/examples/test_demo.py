"""The demo tells the truth: skills really learned, and the merge that keeps them is adaptkit's."""

from __future__ import annotations

import re

import pytest
from command_line import run

import demo
from fleet import score

ROWS = [
    "base",
    "naval",
    "medic",
    "adaptkit, exact sum",
    "adaptkit, svd to rank 8",
    "adaptkit, regmean at rank 8",
    "adaptkit, distilled from it",
    "PEFT, linear",
    "PEFT, ties",
]


def told(printed):
    """The figures of the last table, and what the trained adapters forgot."""
    figures = {
        label.strip(): tuple(map(float, found))
        for label, *found in re.findall(
            r"^  (\S.*?)\s+(\d\.\d\d)\s+(\d\.\d\d)\s+(\d\.\d\d)$", printed, re.MULTILINE
        )
    }
    assert list(figures) == ROWS
    assert "error: naval and stray are for different bases" in printed
    assert "unchanged, nothing sent" in printed
    assert "The teammate's digest is the same" in printed
    forgotten = re.findall(r"^  (\S+)@1 .* polite (\d\.\d+)$", printed, re.MULTILINE)
    return figures, {name: float(lost) for name, lost in forgotten}


@pytest.mark.soak
def test_the_demo_tells_its_story_with_measured_figures(story, tmp_path, capsys):
    demo.tell(story, tmp_path)
    figures, forgotten = told(capsys.readouterr().out)
    assert forgotten.pop("naval-alone") >= 0.9
    assert all(lost <= 0.05 for lost in forgotten.values()), forgotten
    assert figures["base"] == (0.0, 0.0, 1.0)
    assert figures["naval"][0] >= 0.95
    assert figures["medic"][1] >= 0.95
    assert all(figures[name][2] >= 0.95 for name in ("naval", "medic", "adaptkit, exact sum"))
    assert all(kept >= 0.95 for kept in figures["adaptkit, distilled from it"])
    assert sum(figures["adaptkit, exact sum"]) > sum(figures["PEFT, linear"])


@pytest.mark.long
def test_every_command_of_the_demo_works_with_short_trainings(story, tmp_path, capsys, monkeypatch):
    def here(command, folder):
        few = ["--steps", "4"] if command[1] == "distil" else []
        done = run([*command[1:], *few], folder, ADAPTKIT_HOME=str(folder / ".adaptkit"))
        return done.returncode, done.stdout, done.stderr

    monkeypatch.setattr(demo, "on_terminal", here)
    short = demo.OPTIONS.replace("--steps 150 --batch 32", "--steps 4 --batch 4")
    assert short != demo.OPTIONS
    monkeypatch.setattr(demo, "OPTIONS", short)
    for skill, rows in score.SKILLS.items():
        monkeypatch.setitem(score.SKILLS, skill, rows[:4])
    demo.tell(story, tmp_path)
    figures, _ = told(capsys.readouterr().out)
    assert figures["base"] == (0.0, 0.0, 1.0)
