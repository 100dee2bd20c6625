"""What goes wrong at a Hub or on the way to it, as adaptkit's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import NotFound, StorageError, Unresponsive
from adaptkit.io.http.client import POLICY, retry_after
from adaptkit.io.http.limits import TooLarge, TooSlow
from adaptkit_plugins.storage.hub.redirects import Misled

if TYPE_CHECKING:
    import httpx2

    from adaptkit.errors import AdaptkitError

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


class NoRepository(StorageError):
    """There is no such repository, or none that this token may see: the Hub does not distinguish them."""


class NoFile(StorageError):
    """A file that was asked for is not in that commit."""


def response_of(error: BaseException) -> httpx2.Response | None:
    """The response that an error of huggingface_hub carries; None when none came."""
    return getattr(error, "response", None)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error of huggingface_hub carries; None when no response came."""
    return getattr(response_of(error), "status_code", None)


def cause(error: Exception) -> Exception:
    """What is behind an error that only says that something failed."""
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def explain(doing: str, url: str, repo: str, host: str, error: BaseException) -> AdaptkitError:
    """The error a person reads: what failed, why, what to type next. Never a token, never a server's page."""
    import httpx2
    from huggingface_hub import errors as hub

    what, status = f"cannot {doing} {url}", status_of(error)
    page = f"{host}/{repo}"
    if isinstance(error, TooSlow):
        return Unresponsive(what, why=str(error), fix="try again later")
    if isinstance(error, Misled):
        return StorageError(what, why=str(error), fix="do not trust that Hub")
    if isinstance(error, TooLarge):
        return Unresponsive(
            what, why=f"what {host} returns is too large: {error}", fix="do not trust that Hub"
        )
    if isinstance(error, hub.OfflineModeIsEnabled):
        return StorageError(
            what,
            why="HF_HUB_OFFLINE is set, so no request is sent to the Hub",
            fix="unset HF_HUB_OFFLINE",
        )
    if isinstance(error, hub.GatedRepoError):
        return StorageError(
            what,
            why="it is gated: its owners decide who may read it",
            fix=f"ask for access at {page}, then {LOGIN}",
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return NotFound(
            f"revision in {url}", "that", (), fix=f"look at {page}/tree/main for what there is"
        )
    if isinstance(error, hub.EntryNotFoundError):
        return NoFile(
            what, why="a file that should be there is not", fix=f"look at {page}/tree/main"
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return NoRepository(
            what,
            why=f"there is no repository {repo}, or it is private and your token may not see it",
            fix=f"check the name; {LOGIN}; or push with --create to make it",
        )
    if status == 401:
        return StorageError(what, why="the Hub does not accept the token (401)", fix=LOGIN)
    if status == 403:
        return StorageError(
            what,
            why="your token may not do that (403)",
            fix=f"use one with write access to {repo.partition('/')[0]}: {LOGIN}",
        )
    if status == 429:
        return StorageError(
            what, why=f"too many requests (429){_asked(error)}", fix="try again later"
        )
    if status is not None and status >= 500:
        return StorageError(
            what,
            why=f"the Hub returned {status} again and again",
            fix="try again later, or look at https://status.huggingface.co",
        )
    if isinstance(error, hub.HfHubHTTPError):
        return StorageError(
            what, why=f"the Hub returned {status}{_worded(error)}", fix=f"look at {page}"
        )
    if isinstance(error, httpx2.TimeoutException):
        return StorageError(
            what,
            why=f"{host} took too long to respond",
            fix="try again; HF_HUB_DOWNLOAD_TIMEOUT=60 waits longer",
        )
    if isinstance(error, httpx2.UnsupportedProtocol):
        return StorageError(
            what,
            why="the Hub redirects to something that is no web address",
            fix="do not trust that Hub",
        )
    if isinstance(error, httpx2.TransportError):
        return StorageError(
            what,
            why=f"cannot reach {host} ({type(error).__name__})",
            fix="check the network, then try again",
        )
    if isinstance(error, ValueError) and "README.md" in str(error):
        return StorageError(
            what,
            why=_printable(str(error)),
            fix=f"fix the front matter of README.md: {page}/edit/main/README.md",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return StorageError(
            what,
            why=error.strerror or str(error),
            fix="check that the disk has room and that you may write to it",
        )
    return StorageError(
        what,
        why=f"what {host} returned is not what a Hub returns ({type(error).__name__})",
        fix="check HF_ENDPOINT",
    )


def _asked(error: BaseException) -> str:
    """How long the Hub asks to wait, where that is longer than we do."""
    response = response_of(error)
    asked = None if response is None else retry_after(response.headers)
    if asked is None or asked <= POLICY.longest_retry_after:
        return ""
    return f", and the Hub asks to wait {asked:,.0f} seconds"


def _worded(error: BaseException) -> str:
    """The server's own short explanation, printable and not long."""
    response = response_of(error)
    text = "" if response is None else _printable(str(response.headers.get("X-Error-Message", "")))
    return f": {text}" if text else ""


def _printable(text: str) -> str:
    """One short line of what a server sent, without what a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:200]
