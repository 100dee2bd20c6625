"""A bake whose weight files are written by workers gives the bytes of one in this process, whatever dies on the way."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import clusters
import faulty_tasks
import pytest

from adaptkit import Workspace
from adaptkit.bake.work_folder import JOURNAL
from adaptkit.cli import main
from adaptkit.errors import BakeError, BaseMismatch, ExecutorError, NotFound, Refused
from adaptkit.workspace.tasks import merge as merging
from adaptkit.workspace.tasks.asked_base import AskedBase
from adaptkit.workspace.tasks.bake import AskedShard, bake_one
from adaptkit.workspace.tasks.supply import Supply
from adaptkit_plugins.executors.local import Local

LONG = 60.0
ON_RAY = Path(__file__).with_name("bake_on_ray.py")


@pytest.fixture
def asked(workspace, naval, shards, tmp_path):
    """One file of a bake, as a worker is asked for it."""
    work = tmp_path / "out.partial"
    work.mkdir()
    (work / JOURNAL).write_text(json.dumps({"key": "sha256:1", "finished": []}))
    file = sorted(shards.glob("*.safetensors"))[0].name
    base = AskedBase(str(shards), "tiny", (), str(workspace.home.cache))
    supply = Supply.of(workspace, [naval.digest])
    return AskedShard(
        supply, base, naval.digest, "naval", str(work), "sha256:1", file, None, sync=True
    )


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_bake_on_processes_has_the_bytes_of_one_in_this_process(
    workspace, naval, shards, tmp_path
):
    here = workspace.bake("naval", shards, tmp_path / "here", force=True).report
    workspace.noticed.clear()
    there = workspace.bake(
        "naval", shards, tmp_path / "there", force=True, on="local", workers=2
    ).report
    assert [text for text in workspace.noticed if "stays in this process" in text] == []
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert there.rounding == pytest.approx(here.rounding)
    assert replace(there, out=here.out, rounding=here.rounding) == here
    assert sorted(path.name for path in tmp_path.glob("*there*")) == ["there"]


def test_a_bake_too_small_to_pay_stays_here_and_a_dry_run_says_so(
    workspace, lora_pair, tiny_llama, tmp_path, capfd
):
    workspace.add(lora_pair[0], "naval")
    workspace.bake("naval", tiny_llama, tmp_path / "small", force=True, on="local")
    why = "s of one thread, and workers pay from 20 s on"
    assert [text for text in workspace.noticed if text.endswith(why)] != []
    rule = "s of one thread: stays in this process (workers pay from 20 s on)"
    home = ["--home", str(workspace.home.path)]
    bake = ["bake", "naval", "--base", str(tiny_llama), "--out", str(tmp_path / "no"), "--dry-run"]
    assert main([*home, *bake]) == 0
    said = capfd.readouterr().out
    assert rule in said
    assert " bytes in 1 file\n" in said
    assert not (tmp_path / "no").exists()
    assert main([*home, *bake, "--json"]) == 0
    planned = json.loads(capfd.readouterr().out)
    assert planned["pays"] is False
    assert planned["changed"] > 0


def test_a_dry_run_refuses_the_folder_and_executor_that_the_bake_would(
    workspace, lora_pair, tiny_llama, tmp_path
):
    workspace.add(lora_pair[0], "naval", base=str(tiny_llama))
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes").touch()
    for bake in (workspace.bake, workspace.bake_plan):
        with pytest.raises(Refused, match="is not empty"):
            bake("naval", tiny_llama, full)
        with pytest.raises(NotFound, match="no executor called 'locl': known are local"):
            bake("naval", tiny_llama, tmp_path / "out", on="locl")


def test_a_bake_of_a_folder_stays_here_for_no_worker_could_name_it(
    workspace, lora_pair, tiny_llama, tmp_path, monkeypatch
):
    monkeypatch.setattr(merging, "WORTH", 0.0)
    workspace.bake(str(lora_pair[0]), tiny_llama, tmp_path / "out", force=True, on="local")
    assert any("no worker of local could name its adapter" in text for text in workspace.noticed)


def test_workers_that_do_not_see_the_folder_are_refused(
    workspace, naval, shards, tmp_path, monkeypatch
):
    seen = Local.capabilities.fget
    monkeypatch.setattr(
        Local, "capabilities", property(lambda self: replace(seen(self), shared_files=False))
    )
    with pytest.raises(ExecutorError) as caught:
        workspace.bake("naval", shards, tmp_path / "out", force=True, on="local", workers=1)
    assert f"they do not see {tmp_path / 'out.partial'}" in caught.value.why
    assert "?shared=yes" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_a_worker_writes_into_no_folder_but_that_of_its_bake(asked, tmp_path):
    for other, why in (
        (replace(asked, key="sha256:2"), "it is that of another bake"),
        (replace(asked, work=str(tmp_path / "missing")), "there is no such folder"),
    ):
        with pytest.raises(BakeError) as caught:
            bake_one(other)
        assert why in caught.value.why
        assert "every worker sees" in caught.value.fix
    assert files(tmp_path / "out.partial").keys() == {JOURNAL}


def test_a_worker_whose_base_is_another_writes_nothing(asked, tmp_path):
    other = replace(asked, base=replace(asked.base, levels=("as1:" + "0" * 64,)))
    with pytest.raises(BaseMismatch):
        bake_one(other)
    assert files(tmp_path / "out.partial").keys() == {JOURNAL}


def test_a_shard_that_is_written_twice_is_one_file(asked, tmp_path):
    first = bake_one(asked)
    once = files(tmp_path / "out.partial")
    assert bake_one(asked) == first
    assert files(tmp_path / "out.partial") == once
    assert once.keys() == {JOURNAL, asked.file}


def test_a_driver_that_stops_goes_on_with_the_shards_that_are_missing(
    workspace, naval, shards, tmp_path
):
    whole = workspace.bake("naval", shards, tmp_path / "whole", force=True).report
    count = 0

    def stop(_):
        nonlocal count
        count += 1
        if count > 2:
            raise KeyboardInterrupt

    def watching(what, _total, _unit=""):
        return nullcontext(stop if what.startswith("baking") else lambda _: None)

    with (
        Workspace.open(workspace.home.path, notify=lambda _: None, watch=watching) as stopped,
        pytest.raises(KeyboardInterrupt),
    ):
        stopped.bake("naval", shards, tmp_path / "out", force=True, on="local", workers=1)
    left = tmp_path / "out.partial"
    assert len(json.loads((left / JOURNAL).read_text())["finished"]) == 2
    (left / ".model.safetensors.0.tmp").touch()  # of a worker that was killed
    again = workspace.bake("naval", shards, tmp_path / "out", force=True).report
    assert again.resumed == 2
    assert again.files == whole.files
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("last", [1, pytest.param(99, marks=pytest.mark.soak)])
def test_a_worker_killed_before_a_write_leaves_no_half_file_and_the_shard_is_done_again(
    asked, tmp_path, last
):
    whole = bake_one(asked)
    work, marks = tmp_path / "out.partial", tmp_path / "marks"
    expected = files(work)
    marks.mkdir()
    killed = 0
    with Local(1) as executor:
        for point in range(1, last + 1):
            (work / asked.file).unlink()
            found = executor.submit(faulty_tasks.bake_and_die, asked, point, str(marks))
            assert found.result(LONG) == whole
            for left in work.glob(".*.tmp"):  # as the driver does before the folder gets its name
                left.unlink()
            assert files(work) == expected
            if not (marks / str(point)).exists():
                break
            killed = point
    print(f"{killed} points")
    assert killed >= min(last, 3)


@pytest.mark.soak
def test_a_bake_on_dask_has_the_bytes_of_one_in_this_process(workspace, naval, shards, tmp_path):
    pytest.importorskip("distributed", reason="pip install 'adaptkit-peft[dask]'")
    workspace.bake("naval", shards, tmp_path / "here", force=True)
    (tmp_path / "cluster").mkdir()
    with clusters.dask(tmp_path / "cluster") as url:
        workspace.bake("naval", shards, tmp_path / "there", force=True, on=url)
    assert files(tmp_path / "there") == files(tmp_path / "here")


@pytest.mark.soak
def test_a_bake_on_ray_has_the_bytes_of_one_in_this_process():
    pytest.importorskip("ray", reason="pip install 'adaptkit-peft[ray]'")
    if reason := clusters.no_namespace():
        pytest.skip(reason)
    done = clusters.in_a_network_of_its_own(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(ON_RAY)]
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "1 passed" in done.stdout
