"""`adaptkit.toml`: which adapters a project needs, and where each comes from.

    [remotes]
    team = "s3://adapters/fleet"

    [adapters]
    naval = "hf://fleet/naval@3"                         # one version of a place
    medic = "team:medic@prod"                            # what an alias points at when the lock is written
    polite = ">=3"                                       # of the registry's adapter of that name
    bridge = {from = "team:bridge", version = ">=2,<5"}  # the highest of these

A person writes this file; `adaptkit.lock` beside it records the digest of each line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import AdaptkitError, BadProject, BadReference
from adaptkit.io.files import read_plain
from adaptkit.io.safe_paths import user_path
from adaptkit.io.toml_file import BadToml, line_of, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.specifiers import SpecifierSet

PROJECT, LOCK = "adaptkit.toml", "adaptkit.lock"
EXAMPLE = 'for example:\n    [adapters]\n    naval = "hf://fleet/naval@3"\n    medic = {from = "team:medic", version = ">=3"}'
_CONDITION = re.compile(r"\s*(>=|<=|!=|==|>|<|=)?\s*([1-9][0-9]{0,8})\s*")
_BEHIND = re.compile(r"(.*?)@?\s*((?:[<>=!]=|[<>])[\s0-9<>=!,]+)")
_LARGEST = 64 << 20  # bytes of a project file or a lock: 100,000 adapters
_MARKER = re.compile(r"(<{7}|\|{7}|={7}|>{7})(\s|$)")


@dataclass(frozen=True, slots=True)
class Numbers:
    """Which numbers match, such as `>=3,<6`; all of them when `text` is empty."""

    text: str = ""

    def allow(self, number: int) -> bool:
        """Whether this number matches."""
        return str(number) in specifiers(self.text)

    def best(self, numbers: Iterable[int]) -> int | None:
        """The highest number that matches."""
        allowed = specifiers(self.text)
        return max((number for number in numbers if str(number) in allowed), default=None)


@dataclass(frozen=True, slots=True)
class Asked:
    """One adapter that a project asks for: what the project calls it, where it is, and which numbers match."""

    name: str
    source: str
    numbers: Numbers
    line: int = 0

    @property
    def ref(self) -> refs.NameRef | refs.DigestRef | refs.UrlRef | refs.RemoteRef:
        """What `source` means; never a path."""
        parsed = refs.parse(self.source)
        assert not isinstance(parsed, refs.PathRef)
        return parsed

    def __str__(self) -> str:
        """The spelling that a lock records."""
        return f"{self.source}@{self.numbers.text}" if self.numbers.text else self.source


@dataclass(frozen=True, slots=True)
class Project:
    """The content of an `adaptkit.toml`, and its path."""

    file: Path
    adapters: Mapping[str, Asked]
    remotes: Mapping[str, str]

    @property
    def lock(self) -> Path:
        """The lock file that belongs to it."""
        return self.file.with_name(LOCK)

    @classmethod
    def find(cls, given: Path | None = None) -> Project:
        """The project in a folder (or a file), else the nearest `adaptkit.toml` upward."""
        if given is not None:
            path = user_path(given)
            return cls.read(path / PROJECT if path.is_dir() else path)
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / PROJECT).is_file():
                return cls.read(folder / PROJECT)
        raise BadProject(
            f"there is no {PROJECT} in {here} or above",
            why="a project lists the adapters it needs in it",
            fix=EXAMPLE,
        )

    @classmethod
    def read(cls, file: Path) -> Project:
        """Read one; `BadProject` names the line that is wrong."""
        if not file.is_file():
            raise BadProject(
                f"there is no {file}",
                why="a project lists the adapters it needs in it",
                fix=EXAMPLE,
            )
        text = read_text(file)
        table = parse_toml(file, text, fix="fix that line")
        if unknown := sorted(set(table) - {"adapters", "remotes"}):
            raise _wrong(
                file,
                text,
                unknown[0],
                f"'{unknown[0]}' is unknown",
                "it has [adapters] and [remotes]",
            )
        asked, remotes = table.get("adapters", {}), table.get("remotes", {})
        for name, value in (("adapters", asked), ("remotes", remotes)):
            if not isinstance(value, dict):
                raise _wrong(file, text, name, f"'{name}' is not a table", EXAMPLE)
        return cls(
            file.absolute(),
            {name: _asked(file, text, name, value) for name, value in sorted(asked.items())},
            {name: _remote(file, text, name, value) for name, value in sorted(remotes.items())},
        )


def read_text(file: Path) -> str:
    """The text of a file that people and git edit; `BadProject` when it contains merge markers."""
    data = read_plain(file, _LARGEST)
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadProject(
            f"{file.name}, line {line}", why="it is not UTF-8", fix="save it as UTF-8"
        ) from error
    lines = text.split("\n")
    marked = [number for number, line in enumerate(lines, 1) if _MARKER.match(line)]
    if marked:
        begun = [number for number in marked if lines[number - 1].startswith("<")] or marked
        fix = (
            f"resolve {PROJECT} first; then take one side and lock again: git checkout --ours {LOCK} && adaptkit lock"
            if file.name == LOCK
            else "keep the lines you want from both sides and delete the markers"
        )
        raise BadProject(f"{file.name}, line {begun[0]}", why=_conflicts(begun), fix=fix)
    return text


def parse_toml(file: Path, text: str, fix: str) -> dict[str, Any]:
    """Parse TOML; `BadProject` names the line of a mistake."""
    try:
        return load(text)
    except BadToml as error:
        what = f"{file.name}, line {error.line}" if error.line else f"{file.name} cannot be read"
        raise BadProject(what, why=error.why.strip(), fix=fix) from error


def specifiers(text: str) -> SpecifierSet:
    """The conditions of a version such as `>=3,<6`; whole numbers only, and `3` and `=3` mean `==3`."""
    from packaging.specifiers import SpecifierSet

    conditions = [_CONDITION.fullmatch(part) for part in text.split(",")] if text else []
    if None in conditions:
        raise BadReference(
            f"cannot read the version '{text}'",
            why="it is made of numbers with >=, >, <=, <, = or != before",
            fix="for example >=3 or >=3,<6",
        )
    return SpecifierSet(
        ",".join(
            f"{'==' if match[1] in {None, '='} else match[1]}{match[2]}"
            for match in conditions
            if match
        )
    )


def _asked(file: Path, text: str, name: str, value: Any) -> Asked:
    line = line_of(text, name, "adapters") or line_of(text, f"adapters.{name}")
    try:
        refs.check_name(name)
        source, version = _spelled(name, value)
        if not version and (found := _BEHIND.fullmatch(source)):
            source, version = found[1] or name, found[2]
        numbers = Numbers(",".join(part.strip() for part in version.split(",")) if version else "")
        specifiers(numbers.text)
        parsed = refs.parse(source)
        if isinstance(parsed, refs.PathRef):
            raise BadReference(
                f"'{source}' is a folder",
                why="others do not have it",
                fix=f"adaptkit add {source} --name {name}, push it, and name the place here",
            )
        if numbers.text and (isinstance(parsed, refs.DigestRef) or parsed.selector):
            raise BadReference(
                f"'{source}' with the version '{numbers.text}' gives two versions",
                why="what follows the @ is one version already",
                fix="remove one of them",
            )
    except AdaptkitError as error:
        raise BadProject(
            f"{file.name}, line {line}: {error.what}", why=error.why, fix=error.fix
        ) from error
    return Asked(name, source, numbers, line)


def _spelled(name: str, value: Any) -> tuple[str, str]:
    if isinstance(value, str):
        return value, ""
    if isinstance(value, dict) and set(value) <= {"from", "version"} and value:
        source, version = value.get("from", name), value.get("version", "")
        if (
            isinstance(source, str)
            and isinstance(version, (str, int))
            and not isinstance(version, bool)
        ):
            return source, str(version)
    raise BadReference(
        f"cannot read what '{name}' is",
        why="it is a reference, or a table with `from` and `version`",
        fix=EXAMPLE,
    )


def _remote(file: Path, text: str, name: str, value: Any) -> str:
    if not isinstance(value, str) or "://" not in value:
        raise _wrong(
            file,
            text,
            name,
            f"the remote '{name}' is not a URL",
            'for example team = "s3://adapters/fleet"',
            "remotes",
        )
    return value.rstrip("/")


def _wrong(file: Path, text: str, key: str, why: str, fix: str, within: str = "") -> BadProject:
    line = line_of(text, key, within) or line_of(text, key)
    return BadProject(f"{file.name}, line {line}", why=why, fix=fix)


def _conflicts(begun: list[int]) -> str:
    more = f" (and others at {', '.join(map(str, begun[1:]))})" if len(begun) > 1 else ""
    return f"a merge conflict begins here and was not resolved{more}"
