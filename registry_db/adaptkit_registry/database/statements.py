"""The SQL that statements become, kept for the whole process.

SQLAlchemy keeps it for one engine (https://docs.sqlalchemy.org/en/20/core/connections.html#sql-caching), and a
registry is an engine each time it is opened: the first use of each statement took more than its execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.util import LRUCache

if TYPE_CHECKING:
    from sqlalchemy.engine import Compiled


class _Statements(LRUCache[Any, "Compiled"]):
    """A cache for the execution option `compiled_cache`, shared by all engines of one kind of database."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_any_engine(key), default)

    def __setitem__(self, key: Any, value: Compiled) -> None:
        super().__setitem__(_of_any_engine(key), value)


def _of_any_engine(key: Any) -> tuple[Any, ...]:
    """SQLAlchemy's key begins with the engine's own dialect; what the SQL depends on is its kind and version."""
    dialect, *rest = key
    return (type(dialect), dialect.server_version_info, *rest)


STATEMENTS = _Statements(1000)
