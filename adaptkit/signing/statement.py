"""What is signed of a version: its files and every fact of its `adaptkit.json`, in canonical form.

Left out is what is not of the artifact: the number (each place gives its own), message and author
(the registry's, and they may be corrected), and README.md, which places such as the Hub write anew
and no digest covers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from adaptkit.types import BaseIdentity, Manifest, canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.types import PlacedVersion

_OTHER = {
    "method": "method",
    "rank": "rank",
    "parents": "parents",
    "recipe": "recipe",
    "facts": "facts",
    "created": "time of making",
    "schema": "schema",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed of one version of one name."""

    name: str
    manifest: Manifest

    @classmethod
    def of(cls, placed: PlacedVersion) -> Statement:
        """What there is to sign of a version."""
        return cls(placed.name, placed.manifest)

    @classmethod
    def parse(cls, data: bytes) -> Statement:
        """The way back from `data`.

        KeyError, TypeError or ValueError when it is none, or not in canonical form.
        """
        table = json.loads(data)
        statement = cls(table["name"], Manifest.from_json(table))
        if not isinstance(statement.name, str) or statement.data != data:
            raise ValueError("it is not in canonical form")
        return statement

    def to_json(self) -> dict[str, Any]:
        """An `adaptkit.json` without what belongs to a registry or a place."""
        table = self.manifest.to_json() | {"name": self.name}
        del table["extras"]
        return table

    @property
    def data(self) -> bytes:
        """The bytes that are hashed into what is signed."""
        return canonical_json(self.to_json()).encode()

    @property
    def subject(self) -> str:
        """The name of what is signed: `naval@sha256:…`, with the hash of the statement."""
        return f"{self.name}@sha256:{sha256(self.data).hexdigest()}"

    def differences(self, signed: Statement) -> list[str]:
        """How this, the current state, differs from what was signed.

        Parts of an error message, the gravest first.
        """
        found = []
        if self.name != signed.name:
            found.append(f"it was signed as '{signed.name}' and is stored as '{self.name}'")
        now = {entry.path: entry for entry in self.manifest.files}
        then = {entry.path: entry for entry in signed.manifest.files}
        found += [
            f"the file '{path}' was added after it was signed"
            for path in sorted(now.keys() - then.keys())
        ]
        found += [
            f"the file '{path}' was removed after it was signed"
            for path in sorted(then.keys() - now.keys())
        ]
        found += [
            f"the file '{path}' was changed after it was signed"
            for path in sorted(now.keys() & then.keys())
            if now[path] != then[path]
        ]
        current, declared = self.to_json(), signed.to_json()
        if current["base"] != declared["base"]:
            found.append(
                f"it was signed for the base {_base(signed.manifest.base)} and says {_base(self.manifest.base)}"
            )
        changed = [label for key, label in _OTHER.items() if current[key] != declared[key]]
        if changed:
            found.append(
                f"its {', '.join(changed)} in adaptkit.json {'is' if len(changed) == 1 else 'are'} not what was signed"
            )
        if not found and self.data != signed.data:
            found.append("its adaptkit.json is not what was signed")
        return found


def _base(base: BaseIdentity) -> str:
    levels: Mapping[str, str] = {level.kind: level.value for level in base.levels}
    value = levels.get("tm1") or levels.get("fs1") or levels.get("as1")
    identity = f" ({value[:16]}…, {base.status})" if value else f" ({base.status})"
    return f"'{base.name or 'unnamed'}'{identity}"
