"""Which plugins are installed: the entry points of one group, and the distributions that bring them.

`entry_points.txt` files are read directly. importlib.metadata returns the same list, but opens and parses
every distribution on the path first: 60 ms for 70 of them, more than the rest of `adaptkit --help`.

A distribution that lists a plugin of the group `adaptkit` again in a group such as `adaptkit.methods` declares
by that what the plugin offers. It is then loaded only when one of these kinds is asked for.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterable, Iterator, Sequence

    Folder = Path | zipfile.Path

GROUP = "adaptkit"
OWN = "adaptkit-peft"  # adaptkit's own distribution, as pyproject.toml names it
_SETTLED = (
    2_000_000_000  # ns after which a second change of a folder cannot have the time of the first
)


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One line of an `entry_points.txt`: the plugin's name, what to import, and the distribution's folder."""

    name: str
    value: str
    metadata: Folder | None = None
    declared: frozenset[str] = frozenset()  # what it offers; empty when its distribution is silent

    def may_offer(self, kind: str) -> bool:
        """Whether it has to be loaded to know what it has of a kind."""
        return not self.declared or kind in self.declared

    def load(self) -> Any:
        """Import the module, or the object in it, that the entry point names."""
        if not self.module:
            raise ValueError(f"its line in entry_points.txt is '{self.name}', not NAME = MODULE")
        found = import_module(self.module)
        attribute = self.value.partition("[")[0].partition(":")[2]
        for part in filter(None, attribute.strip().split(".")):
            found = getattr(found, part)
        return found

    @property
    def module(self) -> str:
        """What is imported."""
        return self.value.partition("[")[0].partition(":")[0].strip()

    @property
    def third_party(self) -> bool:
        """Whether another distribution than adaptkit's own brings it."""
        return self.metadata is None or _project(self.metadata.name) != OWN

    def distribution(self) -> tuple[str, str]:
        """Name and version of the distribution that brings it; empty when it was made by hand."""
        return ("", "") if self.metadata is None else _distribution(self.metadata)


def installed(group: str, path: Sequence[str] | None = None) -> list[EntryPoint]:
    """The group's entry points on the import path; a distribution shadows one of its name further back.

    They are read again when a folder of the path changed, as it does when a distribution is installed or removed.
    """
    folders = tuple(sys.path if path is None else path)
    states = tuple(map(_state, folders))
    known = _READ.get((group, folders))
    if known is None or known[0] != states:
        known = states, tuple(_read(group, folders))
        newest = max((state[0] for state in states if state), default=0)
        if time.time_ns() - newest > _SETTLED:
            _READ[group, folders] = known
    return list(known[1])


def _state(folder: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(folder or ".")  # noqa: PTH116  (half the time of a Path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ino, status.st_dev


def _read(group: str, path: Sequence[str]) -> list[EntryPoint]:
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for folder, name in _metadata(path):
        project = _project(name)
        if project in seen:
            continue
        seen.add(project)
        try:
            text = _text(folder, f"{name}/entry_points.txt")
        except (OSError, KeyError, ValueError):  # it has none, or what it has is no text
            continue
        found += _points(text, group, folder / name)
    return found


def _text(folder: Folder, name: str) -> str:
    if not isinstance(folder, Path):
        return (folder / name).read_text("utf-8")
    with open(f"{folder}/{name}", encoding="utf-8") as file:  # noqa: PTH123  (half the time of a Path per file)
        return file.read()


def _points(text: str, group: str, metadata: Folder) -> Iterator[EntryPoint]:
    lines = list(_lines(text, group))
    kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for section, name, value in lines:
        if section != group:
            kinds[name, value].add(section.removeprefix(f"{group}."))
    for section, name, value in lines:
        if section == group:
            yield EntryPoint(name, value, metadata, frozenset(kinds[name, value]))


_READ: dict[
    tuple[str, tuple[str, ...]],
    tuple[tuple[tuple[int, int, int] | None, ...], tuple[EntryPoint, ...]],
] = {}
"""By group and path: how its folders were when they were read, and what was found."""


def qualified(entry_points: Iterable[EntryPoint]) -> list[tuple[str, EntryPoint]]:
    """Each under a name of its own, sorted: where two distributions use one name, it is DISTRIBUTION:NAME."""
    same: dict[str, list[EntryPoint]] = defaultdict(list)
    for entry in dict.fromkeys(entry_points):
        same[entry.name].append(entry)
    named: dict[str, EntryPoint] = {}
    for name, entries in same.items():
        for entry in entries:
            known = (
                name if len(entries) == 1 else f"{entry.distribution()[0] or entry.value}:{name}"
            )
            named[f"{known}={entry.value}" if known in named else known] = entry
    return sorted(named.items())


def _metadata(path: Iterable[str]) -> Iterator[tuple[Folder, str]]:
    """Every (folder of the import path, name of a metadata folder in it)."""
    for text in path:
        folder: Folder = Path(text)
        try:
            names = os.listdir(text or ".")  # noqa: PTH208  (half the time of a Path per name)
        except NotADirectoryError:
            import zipfile

            if not zipfile.is_zipfile(text):
                continue
            folder = zipfile.Path(text)
            names = [child.name for child in folder.iterdir()]
        except OSError:
            continue
        yield from (
            (folder, name) for name in sorted(names) if name.endswith((".dist-info", ".egg-info"))
        )


def _project(metadata: str) -> str:
    """`My_Plugin-1.0.dist-info` → `my-plugin`: the name by which one distribution shadows another."""
    name = metadata.rpartition(".")[0].partition("-")[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def _lines(text: str, group: str) -> Iterator[tuple[str, str, str]]:
    """(section, name, value) of a group and of those below it, such as `adaptkit.methods`.

    A line without `=` has no value, so that it fails alone, by name.
    """
    section, wanted = "", False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            wanted = section == group or section.startswith(f"{group}.")
        elif wanted and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield section, name.strip() or line, value.strip()


@cache
def _distribution(folder: Folder) -> tuple[str, str]:
    from importlib.metadata import Distribution

    stem, _, number = folder.name.rpartition(".")[0].partition("-")
    try:
        metadata = Distribution.at(folder).metadata  # type: ignore[arg-type]  # a zipfile.Path will do
        return metadata["Name"] or stem, metadata["Version"] or number
    except Exception:  # noqa: BLE001  (a half-removed distribution is listed all the same)
        return stem, number
