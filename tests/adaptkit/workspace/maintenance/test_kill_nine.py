"""kill -9 of add, merge and push, at random instants: the old state stands or the new one, never half of either."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from tempfile import mkdtemp

import pytest
import tiny
from concurrency import killed

from adaptkit import Workspace

ROUNDS = [5, pytest.param(50, marks=pytest.mark.soak)]


@pytest.fixture
def home(tmp_path, lora_pair):
    with Workspace.init(tmp_path / "home") as ws:
        ws.add(lora_pair[0], "naval", alias="prod")
        ws.add(lora_pair[1], "medic")
    return tmp_path / "home" / ".adaptkit"


def state(home):
    """What the workspace shows, after proving that all of it is whole and can be used."""
    with Workspace.open(home) as ws:
        found = ws.verify()
        assert found.damaged == ()
        versions = ws.list(every=True)
        for version in versions:
            assert ws.path(version.ref).joinpath("adapter_model.safetensors").is_file()
        names = {version.name for version in versions}
        for name in names:
            numbers = sorted(v.number for v in versions if v.name == name)
            assert numbers == list(range(1, len(numbers) + 1))
        return {version.ref: version.digest for version in versions}


def kill_at_random(work, rounds, look, got_somewhere):
    """Kill work that never ends by itself, at a random instant, each time over; `look` after every kill.

    On a busy machine it is given more time, and a few more rounds, until it got somewhere.
    """
    draw, longest = random.Random(rounds), 0.4
    for number in range(rounds + 6):
        if number >= rounds and got_somewhere():
            break
        assert killed(work, draw.uniform(0.0, longest))
        look()
        if not got_somewhere():
            longest *= 1.5


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_add_loses_nothing_and_leaves_nothing_half_visible(
    home, tmp_path, lora_pair, rounds
):
    seen = state(home)

    def work():
        with Workspace.open(home, notify=lambda _: None) as ws:
            while True:
                folder = Path(
                    shutil.copytree(lora_pair[0], mkdtemp(dir=tmp_path), dirs_exist_ok=True)
                )
                ws.add(tiny.edit_config(folder, lora_alpha=random.random()), "naval")

    def look():
        nonlocal seen
        now = state(home)
        assert seen.items() <= now.items()
        seen = now

    kill_at_random(work, rounds, look, lambda: len(seen) > 2)
    assert len(seen) > 2


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_merge_loses_nothing_and_leaves_nothing_half_visible(home, tmp_path, rounds):
    seen = state(home)
    outs = tmp_path / "outs"
    outs.mkdir()

    def work():
        with Workspace.open(home, notify=lambda _: None) as ws:
            while True:
                ws.merge(["naval", f"medic={random.random()}"], name="bridge", workers=1)
                ws.merge(["naval", "medic=0.5"], out=outs / str(time.monotonic_ns()), workers=1)

    def look():
        nonlocal seen
        now = state(home)
        assert seen.items() <= now.items()
        seen = now
        for out in outs.iterdir():
            if not out.name.startswith("."):
                assert set(tiny.read_config(out)) > {"r", "target_modules"}
                tiny.reload_strictly(tiny.llama(), out)
            shutil.rmtree(out)

    kill_at_random(work, rounds, look, lambda: len(seen) > 2)
    assert len(seen) > 2


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_push_leaves_whole_versions_in_the_place_and_can_be_done_again(
    home, tmp_path, rounds
):
    team = (tmp_path / "team").as_uri()

    def work():
        with Workspace.open(home, notify=lambda _: None) as ws:
            while True:
                ws.merge(["naval", f"medic={random.random()}"], name="bridge", workers=1)
                ws.push("bridge", f"{team}/bridge")
                ws.push("naval@prod", f"{team}/naval")

    with Workspace.init(tmp_path / "mate", notify=lambda _: None) as mate:

        def look():
            state(home)
            with Workspace.open(home, notify=lambda _: None) as ws:
                assert ws.push("naval@prod", f"{team}/naval").receipt.number == 1
                if any(v.name == "bridge" for v in ws.list()):
                    assert (
                        ws.push("bridge", f"{team}/bridge").receipt.digest
                        == ws.version("bridge").digest
                    )
            for added in mate.rebuild(team):  # every version that is visible arrives, verified
                assert mate.verify(added.version.ref).damaged == ()

        kill_at_random(work, rounds, look, lambda: any(one.name == "bridge" for one in mate.list()))
        assert mate.version("bridge").number >= 1
