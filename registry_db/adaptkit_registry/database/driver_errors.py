"""Error messages for what a database driver raises: what failed, why, and what to type. A password is never shown."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import exc

from adaptkit.errors import NotARegistry, RegistryError, RegistryLocked, install_line
from adaptkit.types.passwords import without_passwords
from adaptkit_registry.database.checked import DamagedRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL


class Overtaken(RegistryLocked):
    """The database undid the whole transaction because of another one: it may be done again as it was."""


_AGAIN = {"40001", "40P01"}  # serialization failure, deadlock: nothing of the transaction stands
_READ_ONLY = {"25006"}
_DENIED = {"42501"}
_HELD = {"55P03", "57014"}  # lock or statement timeout
_GONE = ("57P", "08")  # shutdown, crash, broken connection
_FULL = {"53100"}


@contextmanager
def database_errors(url: URL) -> Iterator[None]:
    """Turn what the database driver raises inside the block into a `RegistryError`; a password is never shown."""
    try:
        yield
    except (exc.NoSuchModuleError, ImportError) as error:
        raise RegistryError(
            f"cannot open the registry {shown(url)}",
            why=f"no driver for '{url.drivername}'",
            fix=f"{install_line('postgres')} for postgresql+psycopg://…",
        ) from error
    except exc.DBAPIError as error:
        raise _from_driver(url, error) from error
    except sqlite3.Error as error:  # of a statement that SQLAlchemy did not send
        raise _of_sqlite(url, _plain(url, str(error))) from error
    except UnicodeDecodeError as error:  # a message of SQLite's that quotes a damaged file
        text = bytes(error.object).decode(errors="backslashreplace")
        raise _of_sqlite(url, _plain(url, text)) from error
    except exc.SQLAlchemyError as error:
        raise RegistryError(
            f"the registry {shown(url)} failed", why=_plain(url, str(error))
        ) from error


@contextmanager
def row_errors(url: URL) -> Iterator[None]:
    """Turn `DamagedRow` into a `RegistryError`: a database may be damaged, or somebody else's."""
    try:
        yield
    except DamagedRow as error:
        raise _damaged(
            f"the registry {shown(url)}", f"a row of it is not as adaptkit writes them: {error}"
        ) from error


def _damaged(what: str, why: str) -> RegistryError:
    return RegistryError(
        f"cannot use {what}",
        why=why,
        fix="restore a backup (adaptkit registry import FILE), or make it anew: adaptkit registry rebuild --from REMOTE",
    )


def shown(url: URL) -> str:
    """The database as it may be shown: without its password."""
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    return without_passwords(url.render_as_string(hide_password=False))


def busy_timeout() -> float:
    """How many seconds to wait for another writer."""
    setting = os.environ.get("ADAPTKIT_BUSY_TIMEOUT", "30")
    try:
        return float(setting)
    except ValueError:
        raise RegistryError(
            f"ADAPTKIT_BUSY_TIMEOUT is '{setting}'",
            why="it must be a number of seconds",
            fix="for example ADAPTKIT_BUSY_TIMEOUT=30",
        ) from None


def _from_driver(url: URL, error: exc.DBAPIError) -> RegistryError:
    message = _plain(url, str(error.orig))
    if url.get_backend_name() == "sqlite":
        return _of_sqlite(url, message)
    return _of_server(
        url,
        message,
        getattr(error.orig, "sqlstate", None) or "",
        broken=error.connection_invalidated,
    )


def _of_sqlite(url: URL, message: str) -> RegistryError:
    what, low = f"the registry {shown(url)}", message.lower()
    if "locked" in low or "busy" in low:
        return _held(what)
    if "_words" in low:
        return RegistryError(
            f"{what} has a damaged index of words",
            why=message,
            fix="adaptkit fsck --repair builds it again; no version is lost",
        )
    if "not a database" in low or "malformed" in low:
        return NotARegistry(
            f"{what} is not a database",
            why=message,
            fix="check --home; adaptkit fsck --repair, if only an index is damaged; or restore a backup",
        )
    if "no such module: fts5" in low or "no such tokenizer" in low:
        return RegistryError(
            f"{what} needs a newer SQLite than this Python has",
            why=f"SQLite {sqlite3.sqlite_version} here has no full-text index of trigrams: {message}",
            fix="use a Python whose sqlite3 is 3.34 or newer with FTS5, as python.org, conda and uv ship it",
        )
    if any(text in low for text in ("could not decode", "too big", "too complex")):
        return _damaged(what, f"a row of it is not as adaptkit writes them: {message}")
    if "full" in low:
        return _full(what)
    if "readonly" in low or "read-only" in low:
        return RegistryError(
            f"cannot write {what}", why="it is read-only", fix="check who owns the file"
        )
    if "unable to open" in low:
        return RegistryError(
            f"cannot open {what}",
            why="its folder is missing or cannot be written",
            fix="adaptkit init, or check --home",
        )
    if "disk i/o" in low:
        return RegistryError(
            f"cannot write {what}",
            why="the disk reports an error (or has no room left)",
            fix="look at the disk (dmesg, df); nothing of this change was written",
        )
    return RegistryError(f"{what} failed", why=message)


def _of_server(url: URL, message: str, state: str, *, broken: bool) -> RegistryError:
    what = f"the registry {shown(url)}"
    if state in _AGAIN:
        return Overtaken(
            f"{what} undid this change",
            why=f"it collided with another change: {message}",
            fix="try again",
        )
    if state in _HELD:
        return _held(what)
    if state in _FULL:
        return _full(what)
    if state in _READ_ONLY:
        return RegistryError(
            f"cannot write {what}",
            why="it is read-only (a standby server?)",
            fix="give ADAPTKIT_REGISTRY_URL the server that takes writes",
        )
    if state in _DENIED:
        return RegistryError(
            f"{what} does not let '{url.username or os.environ.get('PGUSER', 'you')}' do this",
            why=message,
            fix="ask for the role: docs/teams.md has the SQL that grants it",
        )
    if "authentication failed" in message or "no password supplied" in message:
        return RegistryError(
            f"{what} rejected your login",
            why=message,
            fix="check the user and the password in ADAPTKIT_REGISTRY_URL or ~/.pgpass",
        )
    if state == "3D000" or ("database" in message and "does not exist" in message):
        return RegistryError(
            f"there is no database at {shown(url)}",
            why=message,
            fix=f"createdb {url.database or 'adaptkit'}",
        )
    if broken or state.startswith(_GONE) or "server closed the connection" in message:
        return RegistryError(
            f"the connection to {what} broke",
            why=message,
            fix="the change stands whole or not at all: look (adaptkit log NAME), then type it again",
        )
    if not state and "connect" in message:
        return RegistryError(
            f"cannot reach {what}",
            why=message,
            fix="check that the server runs and the URL's host and port",
        )
    return RegistryError(f"{what} failed", why=message)


def _held(what: str) -> RegistryLocked:
    return RegistryLocked(
        f"{what} is locked",
        why=f"another process held it for more than {busy_timeout():g} s",
        fix="try again; if no other adaptkit runs, look for a process that is stuck",
    )


def _full(what: str) -> RegistryError:
    return RegistryError(
        f"cannot write {what}", why="disk full", fix="free some space, then try again"
    )


def _plain(url: URL, message: str) -> str:
    """The first line of a driver's message, without the password."""
    line = (message.strip() or "the driver gives no reason").splitlines()[0]
    return (
        line.replace(url.password, "***")
        if isinstance(url.password, str) and url.password
        else line
    )
