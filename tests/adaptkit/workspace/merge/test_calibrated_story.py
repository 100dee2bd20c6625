"""The demo's really trained adapters: what a sum loses, moments recover in part, and distilling recovers whole."""

from __future__ import annotations

import json

import pytest

from fleet import logs
from fleet.models import load
from fleet.score import score


def write(path, domain, count, *, terse=True, answers=True):
    """Rows that no score asks for."""
    rows = logs.rows(domain, terse=terse, held_out=False, count=4 * count, seed=7)
    unique = list({row.prompt: row for row in rows}.values())[:count]
    lines = [
        {"prompt": row.prompt} | ({"completion": row.answer} if answers else {}) for row in unique
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def asked(story, workspace, ref):
    from peft import PeftModel

    model, tokenizer = load(story.base)
    return score(PeftModel.from_pretrained(model, str(workspace.path(ref))), tokenizer)


@pytest.mark.soak  # the demo's test, which distils too, is in every run
def test_moments_keep_more_than_the_sum_and_distilling_keeps_every_skill(
    workspace, story, tmp_path
):
    for name, folder, domain in (("naval", story.naval, "ship"), ("medic", story.medic, "sickbay")):
        workspace.add(folder, name, base=str(story.base))
        workspace.calibrate(name, story.base, write(tmp_path / f"{name}.jsonl", domain, 16))
    workspace.merge({"naval": 0.8, "medic": 0.8}, name="sum")
    workspace.merge(["naval", "medic"], strategy="regmean", name="bridge")
    plain, better = asked(story, workspace, "sum"), asked(story, workspace, "bridge")
    assert min(better["naval"], better["polite"]) >= 0.95
    assert better["medic"] >= plain["medic"] + 0.05
    workspace.merge(["naval", "medic"], strategy="regmean", rank=8, name="bridge")
    done = workspace.distil(
        "bridge",
        story.base,
        {
            name: write(tmp_path / f"{name}-32.jsonl", domain, 32, answers=False)
            for name, domain in (("naval", "ship"), ("medic", "sickbay"))
        },
        keep=write(tmp_path / "rest.jsonl", "cargo", 32, terse=False, answers=False),
    )
    assert done.version.rank == 8
    assert min(look.same for look in done.report.after.values()) >= 0.9
    assert min(asked(story, workspace, "bridge").values()) >= 0.95
