"""What a policy's file may hold. Imported when there is such a file: it takes msgspec."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct, field

from adaptkit.errors import nearest
from adaptkit.io.toml_file import BadToml, line_at, parse

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
