"""One walk through a sweep: what each set holds by now, what was done or would be, and what a task is known by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.errors import NotFound
from adaptkit.evaluation.suites import read_suites
from adaptkit.extend.executor import versions
from adaptkit.io.files import sha256_file
from adaptkit.types import digest_of
from adaptkit.workspace.sweeps.board import Board

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from adaptkit.evaluation.suites import Suite
    from adaptkit.types import Version
    from adaptkit.workspace import Workspace
    from adaptkit.workspace.sweeps.file import SweepFile, WrittenSweep
    from adaptkit.workspace.sweeps.journal import Journal


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that a sweep does to one adapter (or makes of one set)."""

    step: int
    kind: str
    what: str
    status: str
    """done (before), made (now), to do, waits (for what a step before it makes) or held (by a gate)."""
    result: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep planned or carried out."""

    name: str
    tasks: tuple[Task, ...]
    versions: tuple[Version, ...] = ()
    """What the last set of each name holds."""
    board: Board = field(default_factory=Board)

    def count(self, status: str) -> int:
        return sum(task.status == status for task in self.tasks)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "tasks": [task.to_json() for task in self.tasks],
            "versions": [version.to_json() for version in self.versions],
            "figures": self.board.figures,
        }


@dataclass(slots=True)
class Walk:
    """One walk through the steps: what each set holds by now, and what was done or would be."""

    workspace: Workspace
    written: WrittenSweep
    journal: Journal
    on: str | None
    dry: bool
    sets: dict[str, tuple[Version | str, ...]] = field(default_factory=dict)
    """Versions; and, as texts, those that a step would first have to make."""
    names: dict[str, frozenset[str]] = field(default_factory=dict)
    """The adapters that each set had before any gate."""
    emptied: dict[str, int] = field(default_factory=dict)
    """The step whose gate let nothing of a set through."""
    unscored: set[str] = field(default_factory=set)
    """Versions that an evaluation would still have to score."""
    tasks: list[Task] = field(default_factory=list)
    board: Board = field(default_factory=Board)
    step: int = 0

    @property
    def file(self) -> SweepFile:
        return self.written.file

    @property
    def folder(self) -> Path:
        return self.written.path.absolute().parent

    def add(self, what: str, status: str, result: str = "") -> None:
        action = self.file.actions[self.step - 1]
        self.tasks.append(Task(self.step, type(action).__name__.lower(), what, status, result))

    def key(self, **content: Any) -> str:
        """The key of a task of this step: what goes in, what is done, with which versions."""
        action = self.file.actions[self.step - 1]
        return digest_of(
            {"kind": type(action).__name__, "versions": [list(one) for one in versions()]} | content
        )

    def note(self, key: str, what: str, result: str) -> None:
        self.journal.note(key, what, result, self.workspace.now())

    def path(self, text: str) -> str:
        return str(self.folder / text)

    @property
    def base(self) -> str:
        return self.path(self.file.base)

    def known(self, of: str) -> list[Version]:
        """The versions of a set that exist; those that are still to be made become tasks that wait."""
        found: list[Version] = []
        for one in self.sets[of]:
            if isinstance(one, str):
                self.add(one, "waits")
            else:
                found.append(one)
        return found

    def version(self, name: str, digest: str) -> Version | None:
        """The version of `name` with a digest: other names may have the same bytes."""
        try:
            return self.workspace.version(f"{name}@{digest}")
        except NotFound:
            return None


# ---------------------------------------------------------------- what goes into a key


def base_key(walk: Walk) -> list[str]:
    identity = walk.workspace.base(walk.base).identity
    return sorted(level.value for level in identity.levels)


def baseline_key(walk: Walk, ref: str) -> str:
    return ref if ref in {"", "base"} else walk.workspace.version(ref).digest


def suites_of(walk: Walk, paths: Iterable[str]) -> tuple[Suite, ...]:
    """What is asked, and how it is scored, wherever the rows are stored."""
    files = [walk.folder / path for path in paths]
    for file in files:
        _must_exist(file)
    return read_suites(files)


def content_of(walk: Walk, path: str) -> str:
    _must_exist(walk.folder / path)
    return sha256_file(walk.folder / path)


def _must_exist(path: Path) -> None:
    if not path.exists():
        raise NotFound(
            "file",
            str(path),
            none="the path does not exist",
            fix="check it for a typo; paths are relative to the sweep's file",
        )
