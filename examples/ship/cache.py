"""The story's models on disk, made once for each version of their sources and libraries.

Nothing here imports torch until something is missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
SOURCES = ("logs.py", "fit.py", "base.py", "train.py")
LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


@dataclass(frozen=True, slots=True)
class Story:
    """Where the models lie: a base, its two adapters, and another base with an adapter."""

    base: Path
    naval: Path
    medic: Path
    other_base: Path
    stray: Path


def story(root: Path | None = None, log: Callable[[str], object] = print) -> Story:
    """The models below `root`, made if they are missing (a minute); a second process waits."""
    root = (root or default_root()).resolve()
    made = Story(**{field.name: root / field.name.replace("_", "-") for field in fields(Story)})
    if all(getattr(made, field.name).is_dir() for field in fields(Story)):
        return made
    from ship.base import make_base, make_other_base
    from ship.train import make_adapter, make_stray

    with _alone(root):
        _make(made.base, log, lambda there: make_base(there, log=log))
        _make(made.naval, log, lambda there: make_adapter(made.base, there, "naval", log=log))
        _make(made.medic, log, lambda there: make_adapter(made.base, there, "medic", log=log))
        _make(made.other_base, log, lambda there: make_other_base(there, log))
        _make(made.stray, log, lambda there: make_stray(made.other_base, there, log))
    return made


def default_root() -> Path:
    """`ADAPTKIT_STORY_CACHE`, or a folder of `.cache` named after all that decides the bytes."""
    chosen = os.environ.get("ADAPTKIT_STORY_CACHE")
    if chosen:
        return Path(chosen)
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((HERE / name).read_bytes())
    digest.update(" ".join(f"{name}=={version(name)}" for name in LIBRARIES).encode())
    return HERE.parents[1] / ".cache" / f"story-{digest.hexdigest()[:12]}"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the root against other processes; the lock falls with whoever holds it."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, log: Callable[[str], object], make: Callable[[Path], None]) -> None:
    """Make a folder that appears whole or not at all: made beside its place, then renamed."""
    if folder.is_dir():
        return
    work = folder.with_name(f".making-{folder.name}")
    shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
    work.mkdir()
    log(f"  training {folder.name}")
    start = time.perf_counter()
    make(work)
    work.rename(folder)
    log(f"  {folder.name} made in {time.perf_counter() - start:.1f} s")
