"""The registry: adapters, versions and aliases, what they were made from, their base, and where else they are stored.

SQLAlchemy Core on SQLite, or on another database a URL away. Knows adaptkit.types and adaptkit.errors only.
The names below are loaded when first used: `adaptkit_registry.glance` needs no SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptkit_registry.known_bases import Pair as Pair
    from adaptkit_registry.registry import Registry as Registry

__all__ = ["Pair", "Registry"]

_HOMES = {"Pair": "adaptkit_registry.known_bases", "Registry": "adaptkit_registry.registry"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'adaptkit_registry' has no attribute {name!r}")
