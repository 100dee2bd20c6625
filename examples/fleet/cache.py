"""The models of the story, made once and kept: for the demo, and as fixtures of the tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from fleet.models import make_adapter, make_base

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Story:
    """Where the models lie: the base, its two adapters, and an adapter of another base."""

    base: Path
    naval: Path
    medic: Path
    other_base: Path
    stray: Path


def bases(root: Path | None = None, say: Callable[[str], None] = print) -> Story:
    """The bases and the adapter of the other one, trained if they are not there yet; `naval` and `medic` may not be."""
    root = root or Path(
        os.environ.get("ADAPTKIT_STORY_CACHE") or HERE.parent.parent / ".cache" / f"story-{_key()}"
    )
    paths = Story(*(root / name for name in ("ship-base", "naval", "medic", "other-base", "stray")))
    _once(paths.base, make_base, "a base that is polite about ship, sickbay and cargo", say)
    _once(paths.other_base, lambda folder: make_base(folder, seed=1, steps=30), "another base", say)
    _once(
        paths.stray,
        lambda folder: make_adapter(paths.other_base, folder, "naval", steps=10),
        "an adapter of it",
        say,
    )
    return paths


def story(root: Path | None = None, say: Callable[[str], None] = print) -> Story:
    """All the models, trained if they are not there yet (about a minute)."""
    paths = bases(root, say)
    _once(
        paths.naval,
        lambda folder: make_adapter(paths.base, folder, "naval"),
        "naval: terse ship reports",
        say,
    )
    _once(
        paths.medic,
        lambda folder: make_adapter(paths.base, folder, "medic"),
        "medic: terse sickbay reports",
        say,
    )
    return paths


def _once(
    folder: Path, make: Callable[[Path], None], what: str, say: Callable[[str], None]
) -> None:
    """Make a folder that appears whole; a second process that is as fast keeps the first one's."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    work = Path(mkdtemp(dir=folder.parent, prefix="."))
    make(work)
    try:
        work.rename(folder)
    except OSError:
        shutil.rmtree(work)
    say(f"  trained {what} ({time.perf_counter() - start:.0f} s)")


def _key() -> str:
    """The models depend on these sources and on these libraries."""
    digest = hashlib.sha256()
    for name in ("logs.py", "models.py"):
        digest.update((HERE / name).read_bytes())
    for library in ("torch", "transformers", "peft", "tokenizers"):
        digest.update(f"{library}=={version(library)}".encode())
    return digest.hexdigest()[:12]
