"""What needs a library that is not installed names the optional part of adaptkit that brings it."""

from __future__ import annotations

import sys

import pytest

from adaptkit.errors import MissingExtra

NEEDED = {
    "calibrate": ("torch", "transformers", "peft"),
    "evaluate": ("torch", "transformers", "peft"),
    "generate": ("torch", "transformers", "peft"),
    "weigh": ("torch", "transformers", "peft"),
    "distil": ("torch", "transformers", "peft"),
    "train": ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "pyarrow"),
    "qlora": ("bitsandbytes",),
}


def ask(workspace, what, base, folder):
    naval, medic = folder / "naval.jsonl", folder / "medic.jsonl"
    rows = folder / "rows.jsonl"
    rows.write_text('{"prompt": "w1", "completion": "w2"}\n' * 4)
    train = {"base": base, "data": rows, "steps": 1}
    return {
        "calibrate": lambda: workspace.calibrate("naval", base, naval),
        "evaluate": lambda: workspace.evaluate(["naval"], [rows], base=str(base)),
        "generate": lambda: workspace.generate(["naval"], "w1", base=str(base)),
        "weigh": lambda: workspace.weigh(
            ["naval", "medic"], base, {"naval": naval, "medic": medic}
        ),
        "distil": lambda: workspace.distil("naval", base, {"medic": medic}),
        "train": lambda: workspace.train("own", **train),
        "qlora": lambda: workspace.train("own", method="qlora", **train),
    }[what]


@pytest.mark.parametrize(
    ("what", "library"), [(what, one) for what, needed in NEEDED.items() for one in needed]
)
def test_the_optional_part_that_brings_a_library_is_named(
    two, talker, tmp_path, monkeypatch, what, library
):
    run = ask(two, what, talker, tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra) as caught:
        run()
    part = {"train": "train", "qlora": "qlora"}.get(what, "torch")
    assert caught.value.fix == f"pip install 'adaptkit-peft[{part}]'"
