"""What a version is called in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptkit.types import Version


def names(version: Version | None) -> dict[str, Any]:
    """What a version is called, wherever JSON names one; nulls for what was not registered."""
    if version is None:
        return {"ref": None, "name": None, "version": None}
    return {"ref": version.ref, "name": version.name, "version": version.number}
