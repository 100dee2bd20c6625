"""What happens to tasks when workers die, disks are full, remotes are down and clusters go away."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import clusters
import faulty_tasks
import pytest

from adaptkit import Workspace
from adaptkit.errors import ExecutorError, StoreError
from adaptkit.store.content_store import Store
from adaptkit.workspace.tasks.supply import Supply
from adaptkit_plugins.executors.local import Local

LONG = 60.0


@pytest.fixture
def published(workspace, lora_pair, tmp_path, monkeypatch):
    """What a worker without the driver's store must know of an adapter in two remotes."""
    monkeypatch.setenv("ADAPTKIT_WORKER_CACHE", str(tmp_path / "worker"))
    version = workspace.add(lora_pair[0], "naval").version
    for team in ("one", "two"):
        workspace.push("naval", f"file://{tmp_path}/{team}/naval")
    placements = Supply.of(workspace, [version.digest]).placements
    return Supply(str(tmp_path / "elsewhere"), placements), version


@pytest.mark.parametrize(
    "step", [3, pytest.param(1, marks=pytest.mark.soak)], ids=["some", "every"]
)
def test_a_worker_killed_before_any_write_leaves_a_sound_cache_and_the_task_is_done_again(
    published, tmp_path, step
):
    supply, version = published
    marks = tmp_path / "marks"
    marks.mkdir()
    points, point = 1, 0
    with Local(1) as executor:
        while point < points:
            point = min(point + step, points) if point else 1
            shutil.rmtree(tmp_path / "worker", ignore_errors=True)
            seen, tree = executor.submit(
                faulty_tasks.bring_and_die, supply, version.digest, point, str(marks)
            ).result(LONG)
            points = (
                max(points, seen) if point > 1 else _writes(executor, supply, version, tmp_path)
            )
            store = Store(tmp_path / "worker")
            store.verify(version.digest)
            assert store.tree(version.digest).is_dir()
            assert (marks / str(point)).exists()
    print(f"{points} points")
    assert points >= 6


def _writes(executor, supply, version, tmp_path):
    """How many writes a fetch into an empty cache takes."""
    shutil.rmtree(tmp_path / "worker")
    never = str(tmp_path)
    seen, _ = executor.submit(faulty_tasks.bring_and_die, supply, version.digest, -1, never).result(
        LONG
    )
    return seen


def test_a_full_disk_on_a_worker_is_an_error_message_and_leaves_nothing_half(published, tmp_path):
    supply, version = published
    with Local(1) as executor:
        with pytest.raises(StoreError) as caught:
            executor.submit(faulty_tasks.bring_on_a_full_disk, supply, version.digest, 512).result(
                LONG
            )
        assert "File too large" in str(caught.value)
        assert list(Store(tmp_path / "worker").digests()) == []
        room = 1 << 30
        tree = executor.submit(
            faulty_tasks.bring_on_a_full_disk, supply, version.digest, room
        ).result(LONG)
    assert tree.startswith(str(tmp_path / "worker"))
    Store(tmp_path / "worker").verify(version.digest)


def test_a_remote_that_is_down_for_a_worker_is_made_up_for_by_another(published, tmp_path):
    supply, version = published
    (tmp_path / "two").rename(tmp_path / "two is down")
    assert supply.bring(version.digest).is_dir()
    shutil.rmtree(tmp_path / "worker")
    (tmp_path / "one").rename(tmp_path / "one is down")
    with pytest.raises(StoreError) as caught:
        supply.bring(version.digest)
    assert "none of its placements could give it back" in caught.value.what
    assert caught.value.why.count("/naval@1: ") == 2


def test_a_cluster_that_goes_away_costs_an_error_and_no_figure(
    workspace, speaker, lora_pair, tmp_path
):
    pytest.importorskip("distributed", reason="pip install 'adaptkit-peft[dask]'")
    import threading

    import tiny

    tiny.save_adapter(speaker, tmp_path / "naval", seed=1, r=4, target_modules=["q_proj"])
    workspace.add(tmp_path / "naval", "naval", base=str(speaker))
    (tmp_path / "text.txt").write_text("Hull 90%.\n")
    errors = []

    def ask(url):
        with Workspace.open(workspace.home.path, notify=lambda _: None) as own:
            try:
                own.evaluate(["naval"], [tmp_path / "text.txt"], base=str(speaker), on=url)
            except ExecutorError as error:
                errors.append(error)

    (tmp_path / "cluster").mkdir()
    with clusters.dask(tmp_path / "cluster", workers=1) as url:
        from distributed import Client

        asking = threading.Thread(target=ask, args=(url,))
        asking.start()
        with Client(url.replace("dask://", "tcp://"), set_as_default=False) as client:
            clusters.wait_until(lambda: any(client.processing().values()))
    asking.join(LONG)
    assert not asking.is_alive()
    (error,) = errors
    assert "cannot be used" in error.what
    assert "the same command goes on" in error.fix
    assert workspace.version("naval").metrics == {}
    workspace.evaluate(["naval"], [tmp_path / "text.txt"], base=str(speaker))
    assert workspace.version("naval").metrics.keys() == {"text.perplexity"}


def test_a_clock_that_is_years_behind_changes_no_key_of_a_sweep(tmp_path, lora_pair):

    file = tmp_path / "both.yaml"
    file.write_text("name: both\nsets:\n  all: {}\nsteps:\n  - merge: {of: all, name: bridge}\n")
    home = tmp_path / "home"
    with Workspace.init(home, notify=lambda _: None) as now:
        for path in lora_pair:
            now.add(path, path.name)
        first = now.sweep(file)
    behind = datetime(1999, 1, 1, tzinfo=UTC)
    file.write_text(file.read_text().replace("all: {}", "all: {name: [one, two]}"))
    with Workspace.open(home / ".adaptkit", notify=lambda _: None, clock=lambda: behind) as skewed:
        second = skewed.sweep(file)
    assert [task.status for task in first.tasks] == ["made"]
    assert [task.status for task in second.tasks] == ["done"]
