"""`adaptkit.lock`: the digest, the place and the base of each adapter of a project.

Notable choices:
- each entry has a checksum of its content, so two branches that lock different adapters merge without a
  conflict, and an edit by hand is detected in its entry
- the same entries give the same bytes; the file is replaced in one step
- the number in a place is recorded to find the version again; only the digest identifies it
"""

from __future__ import annotations

import difflib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadProject, BadReference, install_line
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.toml_file import line_of
from adaptkit.project.requirements import LOCK, PROJECT, parse_toml, read_text
from adaptkit.refs import check_name
from adaptkit.types import BaseIdentity, Level, digest_of
from adaptkit.types.checks.schema import check_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from adaptkit.project.requirements import Project

FORMAT = 1
HEAD = f"# Written by `adaptkit lock` from {PROJECT}. Keep it in version control; do not edit it.\n"
_AGAIN = (
    f"take it back as it was (git checkout {LOCK}), or delete it and write it anew: adaptkit lock"
)


@dataclass(frozen=True, slots=True)
class Locked:
    """The version that one line of `adaptkit.toml` was resolved to.

    `asked` is that line, `adapter` its name in a registry, `place` and `number` where it is stored; an adapter that
    was never pushed has no place, and the number is the registry's.
    """

    name: str
    asked: str
    adapter: str
    digest: str
    method: str
    base: BaseIdentity = field(default_factory=BaseIdentity)
    place: str = ""
    number: int = 0

    @property
    def where(self) -> str:
        """For people: `file:///mnt/team/naval@3`, or `naval@3` in the registry."""
        return f"{self.place or self.adapter}@{self.number}"

    def to_json(self) -> dict[str, Any]:
        base: dict[str, Any] = {"name": self.base.name} if self.base.name else {}
        base |= {
            level.kind: level.value
            for level in sorted(self.base.levels, key=lambda level: level.kind)
        }
        return {
            "asked": self.asked,
            "adapter": self.adapter,
            "digest": self.digest,
            "place": self.place,
            "number": self.number,
            "method": self.method,
            "base": base,
        }


def read_lock(file: Path) -> dict[str, Locked]:
    """The entries of a lock by name; `BadProject` names the line of a merge conflict or an edit by hand."""
    if not file.is_file():
        return {}
    text = read_text(file)
    table = parse_toml(file, text, _AGAIN)
    if table.get("format") != FORMAT:
        raise BadProject(
            f"{file.name}, line {line_of(text, 'format') or 1}",
            why=f"its format is {table.get('format')!r}, and this adaptkit reads {FORMAT}",
            fix=install_line(upgrade=True),
        )
    adapters = table.get("adapters", {})
    entries = {
        name: _entry(file, text, name, value)
        for name, value in (adapters.items() if isinstance(adapters, dict) else ())
    }
    _check_form(file, text, lock_bytes(entries).decode())
    return entries


def write_lock(file: Path, entries: Mapping[str, Locked]) -> bool:
    """Replace the lock in one step; False when it has these entries already."""
    data = lock_bytes(entries)
    if file.is_file() and file.read_bytes() == data:
        return False
    atomic_write(file, data)
    return True


def lock_bytes(entries: Mapping[str, Locked]) -> bytes:
    """The lock of these entries: the same entries, the same bytes."""
    lines = [HEAD, f"format = {FORMAT}\n"]
    for name in sorted(entries):
        entry = entries[name].to_json()
        lines.append(f"\n[adapters.{_key(name)}]\n")
        lines += [
            f"{key} = {_value(value)}\n"
            for key, value in (entry | {"check": _checksum(name, entry)}).items()
        ]
    return "".join(lines).encode()


@contextmanager
def alone(project: Project, notify: Callable[[str], None]) -> Iterator[None]:
    """Inside, no other adaptkit writes this project's lock. The file locked is `adaptkit.toml` itself, so no other is left behind."""
    from filelock import lock_descriptor

    with os_errors("open", project.file):
        descriptor = os.open(project.file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not lock_descriptor(descriptor, blocking=False):
            notify(f"waiting for another adaptkit that writes {project.lock.name}")
            lock_descriptor(descriptor)
        yield
    finally:
        os.close(descriptor)


def _entry(file: Path, text: str, name: str, value: Any) -> Locked:
    fields = dict(value) if isinstance(value, dict) else {}
    check = fields.pop("check", "")

    def wrong(why: str) -> BadProject:
        line = line_of(text, f"adapters.{name}")
        return BadProject(f"{file.name}, line {line}", why=why, fix=_AGAIN)

    try:
        whole = check == _checksum(name, fields)
    except (TypeError, ValueError):  # of what no JSON holds, such as a date or an infinity
        whole = False
    if not whole:
        raise wrong(f"the entry '{name}' was changed by hand: its checksum does not fit")
    try:
        check_locked(fields)
        check_name(fields["adapter"])
    except BadReference as error:
        raise wrong(error.what) from error
    except (TypeError, ValueError) as error:
        raise wrong(f"the entry '{name}' cannot be read: {error}") from error
    base = dict(fields["base"])
    levels = (Level(value, measured=False) for kind, value in base.items() if kind != "name")
    return Locked(
        name,
        fields["asked"],
        fields["adapter"],
        fields["digest"],
        fields["method"],
        BaseIdentity(base.get("name"), tuple(levels)),
        fields["place"],
        fields["number"],
    )


def _check_form(file: Path, text: str, wanted: str) -> None:
    """Refuse changes that no checksum covers: comments, order, unknown keys."""
    if text == wanted:
        return
    for tag, begin, _, _, _ in difflib.SequenceMatcher(
        None, text.split("\n"), wanted.split("\n"), autojunk=False
    ).get_opcodes():
        if tag != "equal":
            raise BadProject(
                f"{file.name}, line {begin + 1}",
                why="it was changed by hand: adaptkit would not write it so",
                fix=_AGAIN,
            )


def _checksum(name: str, fields: Mapping[str, Any]) -> str:
    return digest_of([name, dict(fields)])


def _key(name: str) -> str:
    from tomlkit import key

    return key(name).as_string()


def _value(value: str | int | Mapping[str, str]) -> str:
    from tomlkit import item

    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
        )
    return item(value).as_string()
