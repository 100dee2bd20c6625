"""adaptkit.__main__: garbage is collected while a command works, not while it loads or ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from adaptkit.__main__ import run

_LIST = """
import atexit, gc, sys
from adaptkit.__main__ import run

before = sum(generation["collections"] for generation in gc.get_stats())

def report():
    made = sum(generation["collections"] for generation in gc.get_stats()) - before
    print(gc.isenabled(), made, gc.get_freeze_count() > 10_000)

atexit.register(report)
sys.argv = ["adaptkit", "--home", sys.argv[1], "list"]
run()
"""

_WORK = """
import gc, weakref
from adaptkit.io.machine.collection import put_off_collection

class Cycle:
    def __init__(self):
        self.me = self

def seen(objects):
    gone = weakref.ref(Cycle())
    kept = [[] for _ in range(objects)]
    return gone() is None

gc.collect()
usual = gc.get_threshold()
put_off_collection(20_000)
print(gc.isenabled(), seen(10_000), gc.get_threshold() == usual)
print(gc.isenabled(), seen(20_000), gc.get_threshold() == usual, gc.callbacks)
print(gc.isenabled(), seen(2 * usual[0]), gc.get_threshold() == usual, gc.callbacks)
"""


def _printed(code: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_listing_collects_nothing_while_it_loads_and_nothing_as_it_ends(tmp_path):
    home = str(tmp_path / "home")
    subprocess.run([sys.executable, "-m", "adaptkit", "--home", home, "init"], check=True)
    assert _printed(_LIST, home) == ["True 0 True"]


def test_work_beyond_loading_collects_garbage_as_python_usually_does():
    assert _printed(_WORK) == [
        "True False False",
        "True True True []",
        "True True True []",
    ]


def test_the_exit_code_of_a_command_is_that_of_its_process():
    done = subprocess.run(
        [sys.executable, "-m", "adaptkit", "lst"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Nearest are: list" in done.stderr


def test_on_windows_the_error_message_says_what_adaptkit_runs_on(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(
        SystemExit, match=r"does not run on Windows: .*\n  install WSL \(wsl --install\)"
    ):
        run()
