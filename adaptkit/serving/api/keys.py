"""API keys, and the namespaces that each may ask for."""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.serving.composition import Composition

NO_TEAM = "default"
"""The namespace of names without a team."""
EVERY = "*"


class Keys:
    """Who may ask for what. Without any key everybody on this address may ask for everything."""

    def __init__(self, keys: Mapping[str, Sequence[str]]) -> None:
        self._keys = {key.encode(): frozenset(spaces) for key, spaces in keys.items()}

    @classmethod
    def from_table(cls, table: Mapping[str, Any], label: str) -> Keys:
        """Read `KEY = ["team", …]`, the table `[keys]` of a TOML file."""
        for key, spaces in table.items():
            if not key.isascii() or not key.isprintable() or " " in key:
                raise Refused(
                    f"cannot use a key of {label}",
                    why="it has a character that a header of a request cannot bring",
                    fix="letters, digits and signs of ASCII, without spaces",
                )
            if (
                len(key) < 16
                or not isinstance(spaces, list)
                or not all(isinstance(s, str) for s in spaces)
            ):
                raise Refused(
                    f"cannot use a key of {label}",
                    why="a key has at least 16 characters and a list of namespaces",
                    fix=f'for example "a-long-random-text" = ["team", "{NO_TEAM}"], or ["{EVERY}"]',
                )
        return cls(table)

    def spaces(self, header: str | None) -> frozenset[str] | None:
        """The namespaces of a request by its Authorization header; None when it has no valid key."""
        if not self._keys:
            return frozenset({EVERY})
        header = header or ""
        scheme, _, brought = header.partition(" ")
        given = (brought.strip() if scheme.lower() == "bearer" else header).encode()
        found = None
        for key, spaces in self._keys.items():  # all of them, so that time says nothing
            if compare_digest(key, given):
                found = spaces
        return found


def space_of(name: str) -> str:
    """The namespace of a name: `team` of `team/naval`."""
    team, slash, _ = name.partition("/")
    return team if slash else NO_TEAM


def allowed(composition: Composition, spaces: frozenset[str]) -> bool:
    """Whether every part is in a namespace of the key; a bare digest is in none, nor is what a remote has."""
    names = [
        part.ref.name if isinstance(part.ref, refs.NameRef) else None for part in composition.parts
    ]
    return EVERY in spaces or all(name and space_of(name) in spaces for name in names)
