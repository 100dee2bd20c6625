"""Names for shell completion, read from SQLite with the standard library alone.

The registry itself takes 200 ms to import; a person who presses Tab waits 150 ms in all. Only a
SQLite file can be read so; the names in another database are not completed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_QUERIES = {
    "names": "SELECT DISTINCT a.name FROM adapters a JOIN versions v ON v.adapter_id = a.id "
    "WHERE v.deleted IS NULL ORDER BY a.name",
    "aliases": "SELECT a.name || '@' || s.alias FROM aliases s JOIN adapters a ON a.id = s.adapter_id "
    "ORDER BY 1",
    "versions": "SELECT a.name || '@' || v.number FROM versions v JOIN adapters a "
    "ON a.id = v.adapter_id WHERE v.deleted IS NULL ORDER BY a.name, v.number DESC",
    "trash": "SELECT a.name || '@' || v.number FROM versions v JOIN adapters a "
    "ON a.id = v.adapter_id WHERE v.deleted IS NOT NULL ORDER BY a.name, v.number",
    "tags": "SELECT DISTINCT tag FROM tags ORDER BY tag",
    "bases": "SELECT name FROM base_names ORDER BY name",
    "places": "SELECT DISTINCT place FROM placements ORDER BY place",
}


def glance(database: Path, what: str) -> list[str]:
    """One of `names`, `aliases`, `versions`, `trash`, `tags`, `bases`, `places`; sqlite3's errors are raised."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=0.1)) as connection:
        return [row[0] for row in connection.execute(_QUERIES[what])]
