"""The registry: adapters, versions and aliases, what they were made from, their base, and where else they are stored.

SQLAlchemy Core on SQLite, or on another database a URL away. Knows adaptkit.types and adaptkit.errors only.
"""

from __future__ import annotations

from adaptkit_registry.known_bases import Pair
from adaptkit_registry.registry import Registry

__all__ = ["Pair", "Registry"]
