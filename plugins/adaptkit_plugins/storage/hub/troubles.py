"""What a Hub, or the way there, says when something goes wrong, as sentences; and what is worth another try."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import NotFound, StorageError

if TYPE_CHECKING:
    from adaptkit.errors import AdaptkitError

_BUSY = {408, 425, 429, 500, 502, 503, 504}
LONGEST_WAIT = 30.0  # seconds; a Retry-After beyond it is answered by an error that names it
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


class NoRepository(StorageError):
    """There is no such repository, or none that this token may see: the Hub does not tell these apart."""


class NoFile(StorageError):
    """A file that was asked for is not in that commit."""


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error of huggingface_hub carries; None when there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def passing(error: BaseException) -> bool:
    """Whether it may be gone in a moment: a busy server, or an answer that never came."""
    import httpx2

    status = status_of(error)
    if status is not None:
        return status in _BUSY
    return isinstance(error, httpx2.TransportError) and not isinstance(
        error, httpx2.UnsupportedProtocol
    )


def wait_for(error: BaseException, attempt: int) -> float:
    """Seconds to wait before the next try: what the server asks for, else twice as long each time."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = str(headers.get("Retry-After", ""))
    return (
        float(said) if said.replace(".", "", 1).isdigit() else min(0.25 * 2**attempt, LONGEST_WAIT)
    )


def sentence(doing: str, url: str, repo: str, host: str, error: BaseException) -> AdaptkitError:
    """The error a person reads: what failed, why, what to type next. Never a token, never a server's page."""
    import httpx2
    from huggingface_hub import errors as hub

    what, status = f"cannot {doing} {url}", status_of(error)
    page = f"{host}/{repo}"
    if isinstance(error, hub.OfflineModeIsEnabled):
        return StorageError(
            what,
            why="HF_HUB_OFFLINE is set, so nothing is asked of the Hub",
            fix="unset HF_HUB_OFFLINE",
        )
    if isinstance(error, hub.GatedRepoError):
        return StorageError(
            what,
            why="it is gated: its owners let in whom they choose",
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
            fix=f"take one with write access to {repo.partition('/')[0]}: {LOGIN}",
        )
    if status == 429:
        return StorageError(
            what, why=f"the Hub asks for patience (429){_patience(error)}", fix="try again later"
        )
    if status is not None and status >= 500:
        return StorageError(
            what,
            why=f"the Hub answers {status}, again and again",
            fix="try again later, or look at https://status.huggingface.co",
        )
    if isinstance(error, hub.HfHubHTTPError):
        return StorageError(
            what, why=f"the Hub answers {status}{_worded(error)}", fix=f"look at {page}"
        )
    if isinstance(error, httpx2.TimeoutException):
        return StorageError(
            what,
            why=f"{host} took too long to answer",
            fix="try again; HF_HUB_DOWNLOAD_TIMEOUT=60 waits longer",
        )
    if isinstance(error, httpx2.UnsupportedProtocol):
        return StorageError(
            what,
            why="the Hub sends us to something that is no web address",
            fix="do not trust that Hub",
        )
    if isinstance(error, httpx2.TransportError):
        return StorageError(
            what,
            why=f"the way to {host} is broken ({type(error).__name__})",
            fix="check the network, then try again",
        )
    if isinstance(error, ValueError) and "README.md" in str(error):
        return StorageError(
            what,
            why=_printable(str(error)),
            fix=f"mend the front matter of README.md: {page}/edit/main/README.md",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return StorageError(
            what,
            why=error.strerror or str(error),
            fix="see that the disk has room and may be written to",
        )
    return StorageError(
        what,
        why=f"{host} answers what no Hub answers ({type(error).__name__})",
        fix="check HF_ENDPOINT",
    )


def _patience(error: BaseException) -> str:
    wait = wait_for(error, 0)
    return f": {wait:,.0f} seconds" if wait > LONGEST_WAIT else ""


def _worded(error: BaseException) -> str:
    """The server's own short word for it, printable and not long."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = _printable(str(headers.get("X-Error-Message", "")))
    return f": {said}" if said else ""


def _printable(text: str) -> str:
    """One short line of what a server said, without what a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:200]
