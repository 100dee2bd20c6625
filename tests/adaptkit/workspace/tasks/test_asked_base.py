"""A worker whose folder holds another model than the driver's refuses the task, and names both."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest

from adaptkit.bases.identity import measure
from adaptkit.bases.known import Base
from adaptkit.errors import BadBase, BaseMismatch
from adaptkit.evaluation.suites import read_suites
from adaptkit.workspace.tasks.asked_base import AskedBase, speaker_of
from adaptkit.workspace.tasks.evaluate import score_on
from adaptkit.workspace.tasks.supply import Supply
from adaptkit_plugins.executors.local import Local


@pytest.fixture
def here(speaker, tmp_path):
    """A copy of the base, measured as the driver does."""
    folder = shutil.copytree(speaker, tmp_path / "models" / "ship")
    os.utime(folder / "model.safetensors", ns=(1, 1))
    return Base(measure(folder, cache=tmp_path / "cache"), None, folder, tmp_path / "cache")


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "hull?", "completion": "Hull."}))
    (tmp_path / "speech.yaml").write_text("data: rows.jsonl\nscore: perplexity\n")
    return tmp_path / "speech.yaml"


def change_one_byte(folder, *, keep_time=False):
    file = folder / "model.safetensors"
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        (last,) = opened.read(1)
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last ^ 1]))
    os.utime(file, ns=(1, 1) if keep_time else (2, 2))


def score(executor, base, suite):
    found = {}
    score_on(
        executor,
        Supply("/nowhere"),
        base,
        {"base": None},
        [suite],
        read_suites([suite]),
        batch=4,
        done=lambda _: None,
        scored=found.__setitem__,
    )
    return found


def test_a_worker_whose_base_has_other_weights_refuses_and_names_both(here, suite):
    change_one_byte(here.folder)
    with Local(1) as executor, pytest.raises(BaseMismatch) as caught:
        score(executor, here, suite)
    asked, found = here.identity.level("tm1").value, measure(here.folder).level("tm1").value
    assert f"the base {here.folder} on the worker " in caught.value.what
    assert caught.value.what.endswith(f" is not {here.identity.name}")
    assert f"is {asked[:16]}…, there it measures {found[:16]}…" in caught.value.why
    assert "the same model at that path on every worker" in caught.value.fix


@pytest.mark.soak  # test_tasks compares the figures of workers in every run
def test_a_worker_with_the_same_base_scores_as_the_driver_would(here, suite):
    with Local(1) as executor:
        (figures,) = score(executor, here, suite).values()
    assert figures["speech"] > 1


def test_another_architecture_is_refused_by_headers_alone(here, tiny_llama):
    asked = AskedBase(str(tiny_llama), "ship", tuple(v.value for v in here.identity.levels))
    with pytest.raises(BaseMismatch, match="ship is as1:.*there it measures as1:"):
        asked.check()


def test_other_shards_of_the_same_tensors_are_the_same_base(here, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(here.folder / "model.safetensors")
    (here.folder / "model.safetensors").unlink()
    names = sorted(tensors)
    where = {}
    for number, part in enumerate((names[:3], names[3:])):
        file = f"model-{number}.safetensors"
        save_file({name: tensors[name] for name in part}, here.folder / file)
        where |= dict.fromkeys(part, file)
    (here.folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    asked = AskedBase(
        str(here.folder), "ship", tuple(v.value for v in here.identity.levels), str(tmp_path / "w")
    )
    assert measure(here.folder).level("fs1") != here.identity.level("fs1")
    asked.check()


def test_what_the_driver_hashed_is_not_hashed_again_by_workers_that_see_its_files(here, tmp_path):
    change_one_byte(here.folder, keep_time=True)  # only reading the bytes again would show it
    with Local(1) as executor:
        asked = AskedBase.of(here, executor)
    assert asked.cache == str(tmp_path / "cache")
    asked.check()
    with pytest.raises(BaseMismatch, match="tm1:"):
        replace(asked, cache=str(tmp_path / "fresh")).check()


def test_workers_without_the_drivers_files_remember_their_own(here, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTKIT_WORKER_CACHE", str(tmp_path / "worker"))
    seen = Local.capabilities.fget
    monkeypatch.setattr(
        Local, "capabilities", property(lambda self: replace(seen(self), shared_files=False))
    )
    with Local(1) as executor:
        asked = AskedBase.of(here, executor)
    assert asked.cache == ""
    asked.check()
    assert list((tmp_path / "worker" / "bases").glob("*.json"))


def test_a_base_is_measured_once_and_kept_for_the_tasks_that_follow(here):
    with Local(1) as executor:
        asked = AskedBase.of(here, executor)
    first = speaker_of(asked, 4)
    change_one_byte(here.folder)
    assert speaker_of(asked, 4) is first
    with pytest.raises(BaseMismatch):
        speaker_of(asked, 8)


def test_a_folder_that_a_worker_lacks_is_named(here):
    with Local(1) as executor:
        asked = AskedBase.of(here, executor)
    shutil.rmtree(here.folder)
    with pytest.raises(BadBase, match="is not on this worker: there is no such folder"):
        asked.check()
