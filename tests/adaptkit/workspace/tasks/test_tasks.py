"""Tasks on a real executor give what one process gives; a worker brings what it lacks, verified."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from adaptkit.errors import AdaptkitError, BadData, ExecutorError, NotFound, StoreError
from adaptkit.evaluation.suites import read_suites
from adaptkit.workspace.tasks import merge as merging
from adaptkit.workspace.tasks.asked_base import AskedBase
from adaptkit.workspace.tasks.evaluate import score_one
from adaptkit.workspace.tasks.supply import Supply
from adaptkit_plugins.executors import local
from adaptkit_plugins.executors.local import Local


@pytest.fixture
def pair(workspace, lora_pair):
    return [workspace.add(path, path.name).version for path in lora_pair]


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# ---------------------------------------------------------------- merge


@pytest.mark.parametrize("strategy", ["linear", "ties"])
def test_a_merge_on_processes_has_the_bytes_of_one_in_this_process(
    workspace, pair, tmp_path, monkeypatch, strategy
):
    monkeypatch.setattr(merging, "WORTH", 0.0)
    monkeypatch.setattr(merging, "A_TASK", 4096)  # several tasks
    here = workspace.merge(["one", "two=0.5"], strategy=strategy, out=tmp_path / "here")
    there = workspace.merge(
        ["one", "two=0.5"], strategy=strategy, out=tmp_path / "there", on="local", workers=2
    )
    assert workspace.noticed == []
    assert there.manifest.digest == here.manifest.digest
    assert sha256(there.out / "adapter_model.safetensors") == sha256(
        here.out / "adapter_model.safetensors"
    )
    assert there.report == here.report


def test_a_merge_too_small_to_pay_stays_here_and_says_so(workspace, pair, tmp_path):
    workspace.merge(["one", "two"], out=tmp_path / "small", on="local")
    (text,) = workspace.noticed
    assert text.startswith("the merge stays in this process: about ")
    assert text.endswith("s of one thread, and workers pay from 20 s on")


def test_a_dry_run_says_whether_an_executor_would_pay(workspace, pair, capfd):
    from adaptkit.cli import main

    assert main(["--home", str(workspace.home.path), "merge", "one", "two", "--dry-run"]) == 0
    said = capfd.readouterr().err
    assert "merging takes about " in said
    assert "s of one thread: stays in this process (workers pay from 20 s on)" in said


def test_the_estimate_grows_with_the_square_of_the_ranks(workspace, pair):
    one, both = (workspace.merge_cost(refs).seconds for refs in (["two"], ["two", "one"]))
    assert one < both < 4 * one


def test_a_merge_of_folders_stays_here_for_no_worker_could_name_them(
    workspace, lora_pair, tmp_path, monkeypatch
):
    monkeypatch.setattr(merging, "WORTH", 0.0)
    workspace.merge([str(path) for path in lora_pair], out=tmp_path / "out", on="local")
    assert "its modules cannot be made on local" in workspace.noticed[0]


# ---------------------------------------------------------------- eval


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "naval.jsonl"
    rows = [{"prompt": f"hull {v}%?", "completion": f"Hull {v}."} for v in range(10, 16)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "speech.yaml").write_text("data: naval.jsonl\nscore: perplexity\n")
    return tmp_path / "speech.yaml"


@pytest.fixture
def talking(workspace, speaker, tmp_path):
    import tiny

    for seed, name in enumerate(("naval", "medic"), 1):
        folder = tmp_path / name
        tiny.save_adapter(speaker, folder, seed=seed, r=4, target_modules=["q_proj"])
        workspace.add(folder, name, base=str(speaker))
    return ["naval", "medic", "base"]


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_figures_on_processes_are_those_of_this_process(
    workspace, talking, speaker, suite, monkeypatch, processes
):
    monkeypatch.setattr(local, "cores", lambda: processes)  # each imports torch and PEFT
    here = workspace.evaluate(talking, [suite], base=str(speaker), baseline="base", record=False)
    there = workspace.evaluate(talking, [suite], base=str(speaker), baseline="base", on="local")
    assert set(there.figures) == {"base", "naval@1", "medic@1"}
    for label, figures in here.figures.items():
        assert there.figures[label]["speech"] == pytest.approx(figures["speech"], rel=1e-5)
    metrics = workspace.version("naval").metrics
    assert metrics["speech.perplexity"] == pytest.approx(
        here.figures["naval@1"]["speech"], rel=1e-5
    )
    assert workspace.version("medic").metrics.keys() == metrics.keys()


def test_other_rows_on_a_worker_are_refused(workspace, talking, speaker, suite):
    wanted = tuple(one.digest for one in read_suites([suite]))
    (suite.parent / "naval.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    base = AskedBase(str(speaker), "speaker", ())
    with pytest.raises(BadData) as caught:
        score_one(Supply("/nowhere"), base, "naval@1", None, [str(suite)], wanted, 4)
    assert "are not those that naval@1 is asked on" in caught.value.what
    assert "hold other rows here" in caught.value.why


# ---------------------------------------------------------------- verify


def test_damage_is_found_on_processes_too(workspace, pair):
    digest = pair[0].digest
    entry = next(e for e in workspace.show("one").manifest.files if e.path.endswith("safetensors"))
    blob = workspace.store.blob(entry.sha256)
    os.chmod(blob, 0o644)
    blob.write_bytes(b"\0" * entry.size)
    there = workspace.verify(on="local")
    assert there.sound == (pair[1].digest,)
    assert f"the artifact {digest} is damaged" in there.damaged[0]
    assert len(there.damaged) == 1


def test_workers_without_the_stores_files_cannot_verify_it(workspace, pair, monkeypatch):
    from dataclasses import replace

    seen = Local.capabilities.fget
    monkeypatch.setattr(
        Local, "capabilities", property(lambda self: replace(seen(self), shared_files=False))
    )
    with pytest.raises(ExecutorError, match="they do not see"):
        workspace.verify(on="local")


# ---------------------------------------------------------------- what a worker lacks


@pytest.fixture
def published(workspace, pair, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTKIT_WORKER_CACHE", str(tmp_path / "worker"))
    workspace.push("one", f"file://{tmp_path}/team/one")
    return Supply(
        str(tmp_path / "not here"), Supply.of(workspace, [one.digest for one in pair]).placements
    )


def test_a_worker_fetches_what_it_lacks_once(workspace, pair, published, tmp_path):
    tree = published.bring(pair[0].digest)
    assert tree.is_relative_to(tmp_path / "worker")
    names = sorted(path.name for path in workspace.path("one").iterdir())
    assert sorted(path.name for path in tree.iterdir()) == names
    (tmp_path / "team").rename(tmp_path / "down")
    assert published.bring(pair[0].digest) == tree


def test_a_worker_takes_no_other_bytes_than_those_of_the_digest(pair, published, tmp_path):
    file = next((tmp_path / "team" / "one").rglob("adapter_model.safetensors"))
    os.chmod(file, 0o644)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.unlink()
    file.write_bytes(data)
    with pytest.raises(AdaptkitError):
        published.bring(pair[0].digest)
    assert not list((tmp_path / "worker" / "trees").glob("*"))


def test_what_was_never_pushed_is_an_error_that_says_what_to_type(pair, published):
    with pytest.raises(StoreError) as caught:
        published.bring(pair[1].digest)
    assert "is not on this worker" in caught.value.what
    assert "never pushed anywhere" in caught.value.why
    assert "adaptkit push REF REMOTE" in caught.value.fix


# ---------------------------------------------------------------- which executor


def test_an_executor_comes_from_the_call_then_the_environment_then_the_configuration(
    workspace, pair, monkeypatch
):
    workspace.set_config("executor", ["dask://127.0.0.1:1"])
    with pytest.raises(ExecutorError, match="no cluster can be reached at 127.0.0.1:1"):
        workspace.verify()
    monkeypatch.setenv("ADAPTKIT_EXECUTOR", "local")
    vars(workspace).pop("config", None)
    assert len(workspace.verify().sound) == 2
    with pytest.raises(NotFound, match="no executor called 'moon'"):
        workspace.verify(on="moon://1")
