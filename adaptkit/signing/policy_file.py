"""What a policy's file may hold. Imported when there is such a file: it takes msgspec."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct, field

from adaptkit.errors import nearest
from adaptkit.io.safe_paths import user_path
from adaptkit.io.toml_file import BadToml, line_at, parse, text_of

if TYPE_CHECKING:
    from pathlib import Path

Text = Annotated[str, Meta(min_length=1)]
Texts = Annotated[tuple[Text, ...], Meta(min_length=1)]
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")


class RuleTable(Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[rules]]`."""

    names: Texts
    keys: Texts
    places: Texts = ("*",)


class PolicyFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; every part may be missing."""

    require: bool = True
    keys: dict[str, Text] = field(default_factory=dict)
    rules: tuple[RuleTable, ...] = ()


def parse_policy(text: str) -> PolicyFile:
    """The file's text, checked; `BadToml` says what is wrong, and where."""
    found = parse(text, PolicyFile)
    for name, value in found.keys.items():
        if value.startswith("sha256:") and not _FINGERPRINT.fullmatch(value):
            raise BadToml(
                line_at(text, ("keys", name)),
                f"the fingerprint of '{name}' has not 64 hexadecimal digits",
                "sha256sum KEY.pub prints it; ",
            )
    for number, rule in enumerate(found.rules):
        for key in rule.keys:
            if key not in found.keys:
                known = ", ".join(nearest(key, found.keys)) or "none yet"
                raise BadToml(
                    line_at(text, ("rules", number, "keys")),
                    f"no key in [keys] is called '{key}': known are {known}",
                )
    return found


def key_files(policy: Path, data: bytes) -> tuple[Path, ...]:
    """The files of public keys that a policy's text names; none when it cannot be read."""
    try:
        values = parse_policy(text_of(data)).keys.values()
    except BadToml:
        return ()
    return tuple(key_file(policy, value) for value in values if not value.startswith("sha256:"))


def key_file(policy: Path, value: str) -> Path:
    """The file of a key, which a policy names relative to itself."""
    return policy.parent / user_path(value)
