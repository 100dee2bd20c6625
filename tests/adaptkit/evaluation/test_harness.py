"""Tasks of lm-evaluation-harness as suites: a local one really run, and what is wrong with one named."""

from __future__ import annotations

import json
import sys

import pytest
import tiny

from adaptkit.errors import BadData, MissingExtra, NotFound
from adaptkit.evaluation.run import score, score_all
from adaptkit.evaluation.speaker import Speaker
from adaptkit.evaluation.suites import read_suites

TASK = """
task: status
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: [" good", " bad"]
doc_to_target: "{{label}}"
metric_list: [{metric: acc}]
"""


@pytest.fixture
def suite(tmp_path):
    """A folder with a task, its rows and a suite; `write` changes the suite."""
    rows = [{"prompt": f"hull {v}%?", "label": v % 2} for v in range(20, 40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(TASK)

    def write(text="lm_eval: task.yaml\n"):
        (tmp_path / "status.yaml").write_text(text)
        return tmp_path / "status.yaml"

    write()
    write.folder = tmp_path
    return write


def test_a_local_task_is_scored_as_its_likelihoods_say(suite, speaker, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval", reason="pip install 'adaptkit-peft[lm-eval]'")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (found,) = read_suites([suite()])
    assert (found.name, found.score, found.size, found.higher_is_better) == (
        "status",
        "acc",
        100,
        True,
    )
    adapter = tiny.save_adapter(speaker, tmp_path / "naval", seed=3, r=4)
    model = Speaker(speaker)
    figures = score_all(model, {"base": None, "naval": adapter}, [found], lambda _: None)

    def expected():
        import torch

        hits = 0
        for line in (suite.folder / "rows.jsonl").read_text().splitlines():
            row = json.loads(line)
            scores = []
            for answer in (" good", " bad"):
                question = model.tokenizer.encode(row["prompt"])
                whole = model.tokenizer.encode(row["prompt"] + answer)
                with torch.no_grad():
                    logits = model.model(torch.tensor([whole])).logits[0].log_softmax(-1)
                places = range(len(question), len(whole))
                scores.append(sum(logits[at - 1, whole[at]].item() for at in places))
            hits += scores.index(max(scores)) == row["label"]
        return hits / 20

    assert figures["base"]["status"] == pytest.approx(expected())
    with model.wearing(adapter):
        assert figures["naval"]["status"] == pytest.approx(expected())


def test_in_a_folder_of_suites_a_task_and_its_rows_are_no_suites_themselves(suite):
    assert [one.name for one in read_suites([suite.folder])] == ["status"]


def test_the_digest_is_that_of_task_rows_metric_and_limit(suite):
    digests = {read_suites([suite()])[0].digest}
    digests.add(read_suites([suite("lm_eval: task.yaml\nlimit: 5\n")])[0].digest)
    digests.add(read_suites([suite("lm_eval: task.yaml\nmetric: acc_norm\n")])[0].digest)
    (suite.folder / "rows.jsonl").write_text('{"prompt": "x", "label": 0}\n')
    digests.add(read_suites([suite()])[0].digest)
    assert len(digests) == 4


@pytest.mark.soak
def test_an_unknown_metric_or_task_is_named_with_the_known_ones(
    suite, speaker, tmp_path, monkeypatch
):
    pytest.importorskip("lm_eval", reason="pip install 'adaptkit-peft[lm-eval]'")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    model = Speaker(speaker)
    (wrong,) = read_suites([suite("lm_eval: task.yaml\nmetric: acck\nlimit: 2\n")])
    with pytest.raises(NotFound, match=r"no metric of task.yaml called 'acck'") as caught:
        score(model, wrong)
    assert "acc" in caught.value.why
    (wrong,) = read_suites([suite("lm_eval: arc_eazy\n")])
    with pytest.raises(NotFound, match="no task of lm-evaluation-harness called 'arc_eazy'") as c:
        score(model, wrong)
    assert "arc_easy" in c.value.why


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("lm_eval: 3\n", BadData, "names no task of lm-evaluation-harness"),
        ("lm_eval: arc_easy\nlimit: 0\n", BadData, "line 2: limit is 0"),
        (
            "lm_eval: arc_easy\nrows: 3\n",
            NotFound,
            "line 2: no key of a suite of lm-evaluation-harness",
        ),
        ("lm_eval: missing.yaml\n", Exception, "cannot read"),
        ("lm_eval: status.yaml\n", BadData, "is no task of lm-evaluation-harness"),
    ],
)
def test_a_broken_suite_is_refused_before_a_model_is_loaded(suite, text, kind, words):
    with pytest.raises(kind, match=words):
        read_suites([suite(text)])


def test_without_the_harness_the_line_that_installs_it_is_shown(suite, speaker, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    (found,) = read_suites([suite()])
    with pytest.raises(MissingExtra) as caught:
        score(Speaker(speaker), found)
    assert "[lm-eval]" in caught.value.fix
