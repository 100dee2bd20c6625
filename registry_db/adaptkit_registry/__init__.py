"""The registry: who is called what, made of what, for which base, and where else it lies.

SQLAlchemy Core on SQLite, or on another database a URL away. Knows adaptkit.types and adaptkit.errors only.
"""

from __future__ import annotations

from adaptkit_registry.known_bases import Pair
from adaptkit_registry.registry import Registry

__all__ = ["Pair", "Registry"]
