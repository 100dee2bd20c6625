"""Times as people read them: local, with the zone, and how long ago."""

from __future__ import annotations

from datetime import UTC, datetime

from adaptkit.cli.output.table import Cell

_UNITS = ((86400 * 365, "y"), (86400 * 30, "mo"), (86400, "d"), (3600, "h"), (60, "min"))


def local(recorded: str) -> str:
    """A recorded time in the zone of this machine: `2026-11-25 10:12 CET`; other text as it is."""
    moment = _read(recorded)
    return recorded if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"


def ago(recorded: str, now: datetime | None = None) -> str:
    """How long ago: `2 h ago`; empty for what is no time."""
    moment = _read(recorded)
    if moment is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def local_and_ago(recorded: str, now: datetime | None = None) -> str:
    """Both: `2026-11-25 10:12 CET (2 h ago)`."""
    since = ago(recorded, now)
    return f"{local(recorded)} ({since})" if since else recorded


def cell(recorded: str, now: datetime | None = None) -> Cell:
    """A cell that shows how long ago, and pipes the local time with its offset from UTC."""
    moment = _read(recorded)
    exact = recorded if moment is None else moment.astimezone().isoformat(timespec="seconds")
    return Cell(ago(recorded, now) or recorded, exact)


def _read(recorded: str) -> datetime | None:
    """The moment that a text is, in UTC where it names no zone; None for one that no clock here can show."""
    try:
        moment = datetime.fromisoformat(recorded)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment if moment.astimezone() else None
    except (ValueError, OverflowError, OSError):
        return None
