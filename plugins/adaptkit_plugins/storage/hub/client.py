"""Requests to one repository of a Hub: every call bounded in time and tries, every failure one of our errors.

Notable choices:
- reading is tried again when the Hub is busy; writing never blindly: a writer first checks whether its commit landed
- files come over plain HTTP with our own redirects, because huggingface_hub neither bounds a slow response nor
  returns where it was redirected; nothing goes through its cache, which anybody who may write there can poison
- a redirect to another origin loses the token, one to a machine's own neighbourhood is refused
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from adaptkit.errors import AdaptkitError, Corrupt, StorageError
from adaptkit.io.http.addresses import joined
from adaptkit.io.http.client import POLICY, RetryPolicy, retry
from adaptkit.io.http.environment import (
    check_certificates,
    check_proxies,
    check_secret,
    check_token_file,
    check_web_address,
    check_whole_number,
)
from adaptkit.io.http.limits import LARGEST_ERROR, bound
from adaptkit_plugins.storage.hub.budget import Budget, budget, count_response, read_counted
from adaptkit_plugins.storage.hub.errors import cause, explain
from adaptkit_plugins.storage.hub.redirects import keep_login, name_endpoint, origin, unsafe
from adaptkit_plugins.storage.hub.retries import transient, wait_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2
    from huggingface_hub import HfApi

    from adaptkit.extend import Progress

T = TypeVar("T")
_REDIRECTS = 5
_CONNECT, _SILENCE = 10.0, 60.0  # seconds to connect, and without a byte
_MOST_BYTES = (
    16 << 20
)  # of all responses to one call of huggingface_hub's, which may go through pages
_MOST_RESPONSES = 2000
_LONGEST = 60.0  # seconds of one such call


class Client:
    """One repository of the Hub at HF_ENDPOINT, else at a configured endpoint, else huggingface_hub's own."""

    def __init__(self, url: str, repo: str, endpoint: str = "") -> None:
        self.url, self.repo = url, repo
        _check_environment(url)
        from huggingface_hub import constants

        # else it asks the endpoint that it read at import, whichever one is configured here, for a list of
        # agents to name in its user agent, and keeps that in its own cache
        constants.HF_HUB_DISABLE_TELEMETRY = True
        configured = os.environ.get("HF_ENDPOINT") or endpoint or constants.ENDPOINT
        check_web_address(
            url, "endpoints.hf in config.toml" if endpoint else "HF_ENDPOINT", configured
        )
        self.endpoint = configured.rstrip("/")
        name_endpoint(self.endpoint)
        self._silence = float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or _SILENCE)

    @property
    def host(self) -> str:
        """The endpoint as it may be shown: without a user's name or password."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def api(self) -> HfApi:
        """huggingface_hub's client for this endpoint; it finds the token where everybody keeps it."""
        from huggingface_hub import HfApi

        self._session()
        return HfApi(endpoint=self.endpoint, library_name="adaptkit")

    def ask(
        self,
        doing: str,
        call: Callable[[], T],
        advanced: Callable[[], int] = int,
        policy: RetryPolicy = POLICY,
    ) -> T:
        """A call that may be made again, tried again while the Hub is busy (`adaptkit.io.http.client.retry`)."""

        def counted() -> T:
            with budget(_allowed(doing)):
                return call()

        with self.os_errors(doing):
            return retry(
                counted,
                transient=transient,
                wait_asked=wait_asked,
                advanced=advanced,
                policy=policy,
            )

    @contextmanager
    def os_errors(self, doing: str) -> Iterator[None]:
        """Turn what huggingface_hub and the network raise into our errors, and keep them from printing bars."""
        from huggingface_hub.utils import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )

        loud = not are_progress_bars_disabled()
        if loud:
            disable_progress_bars()
        try:
            yield
        except AdaptkitError:
            raise
        except Exception as error:
            raise explain(doing, self.url, self.repo, self.host, cause(error)) from error
        finally:
            if loud:
                enable_progress_bars()

    def xet(self, revision: str) -> bool:
        """Whether large files go to Xet: hf_xet is here and not switched off, and this Hub has it for this repository."""
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers

        if constants.HF_HUB_DISABLE_XET or find_spec("hf_xet") is None:
            return False
        url = f"{self.endpoint}/api/models/{self.repo}/xet-write-token/{quote(revision, safe='')}"
        return bool(self._session().get(url, headers=build_hf_headers()).status_code == 200)

    # ------------------------------------------------------------ files

    def read(self, commit: str, path: str, largest: int) -> bytes:
        """A small file of a commit."""

        def call() -> bytes:
            kept = bytearray()
            with self._stream(commit, path, 0) as response:
                for piece in response.iter_bytes():
                    kept.extend(piece)
                    if len(kept) > largest:
                        raise Corrupt(
                            f"{path} of {self.url} is too large", why=f"more than {largest:,} bytes"
                        )
                self._whole(path, response, len(kept))
            return bytes(kept)

        return self.ask("read", call)

    def begin(self, commit: str, path: str, count: int) -> bytes:
        """The first bytes of a file, as many as there are up to `count`; no more of it crosses than that, or little."""

        def call() -> bytes:
            kept = bytearray()
            with self._stream(commit, path, 0, count) as response:
                for piece in response.iter_bytes():
                    kept.extend(piece)
                    if len(kept) >= count:
                        break
            return bytes(kept[:count])

        return self.ask("read", call)

    def fetch(self, commit: str, path: str, size: int, target: Path, progress: Progress) -> None:
        """A file of a commit, of a known size; what breaks off is resumed. The caller verifies the bytes."""
        with self.os_errors("save what comes from"), target.open("xb") as file:

            def call() -> None:
                with self._stream(commit, path, file.tell()) as response:
                    if (
                        file.tell() and response.status_code != 206
                    ):  # it gives the whole file, whatever was asked for
                        progress(-file.tell())
                        file.seek(0)
                        file.truncate()
                    for (
                        piece
                    ) in response.iter_bytes():  # as they come: of what breaks off nothing is lost
                        if file.tell() + len(piece) > size:
                            raise Corrupt(
                                f"'{path}' of {self.url} is longer than it should be",
                                why=f"more than {size:,} bytes came",
                                fix="ask who pushed it to push it again as a new version",
                            )
                        file.write(piece)
                        progress(len(piece))
                if file.tell() < size:
                    raise _broke_off(f"{size - file.tell():,} of {size:,} bytes are missing")

            self.ask("read", call, file.tell)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _stream(
        self, commit: str, path: str, begin: int, end: int | None = None
    ) -> Iterator[httpx2.Response]:
        """The response to a GET of a file from some byte on, wherever the Hub redirects for it."""
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = f"{self.endpoint}/{self.repo}/resolve/{quote(commit, safe='')}/{quote(path)}"
        headers = build_hf_headers(library_name="adaptkit") | {"Accept-Encoding": "identity"}
        if begin or end:
            headers["Range"] = f"bytes={begin}-{end - 1 if end else ''}"
        for _ in range(_REDIRECTS):
            with (
                budget(None),  # of a file the caller knows how large it may be
                self._session().stream(
                    "GET", url, headers=headers, follow_redirects=False
                ) as response,
            ):
                where = response.headers.get("Location")
                if response.status_code not in {301, 302, 303, 307, 308} or where is None:
                    if response.status_code == 416 and headers.get(
                        "Range"
                    ):  # so it will not resume: from the beginning, then
                        del headers["Range"]
                        continue
                    if response.status_code >= 400:
                        with budget(Budget(LARGEST_ERROR, 1, _LONGEST)):
                            read_counted(response)
                    hf_raise_for_status(response)
                    yield response
                    return
                moved = joined(url, where)
                if origin(moved) != origin(url):
                    headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
                    self._refuse_neighbours(moved)
                url = moved
        raise StorageError(
            f"cannot read {self.url}",
            why="the Hub redirects from one address to the next without end",
            fix="try again later",
        )

    def _refuse_neighbours(self, url: str) -> None:
        """Refuse a redirect to a file, or to what only this machine can reach."""
        if why := unsafe(url, self.endpoint):
            raise StorageError(
                f"cannot read {self.url}",
                why=f"the Hub redirects {why}",
                fix="do not trust that Hub",
            )

    def _whole(self, path: str, response: httpx2.Response, came: int) -> None:
        length = response.headers.get("Content-Length")
        if length is not None and came < int(length):
            raise _broke_off(f"{path} broke off")

    def _session(self) -> httpx2.Client:
        """huggingface_hub's own client (hooks for offline mode, proxies), which by itself waits forever."""
        import httpx2
        from huggingface_hub.utils import get_session

        session = get_session()
        if session.timeout.read is None:
            session.timeout = httpx2.Timeout(self._silence, connect=_CONNECT)
        bound(session)
        hooks = session.event_hooks["response"]
        if count_response not in hooks:
            hooks.append(count_response)
            session.event_hooks["request"].append(keep_login)
        return session


def _allowed(doing: str) -> Budget:
    """What responses to one call may bring; how long a person's own upload takes is not the Hub's doing."""
    if doing == "write":
        return Budget(_MOST_BYTES, sys.maxsize, float("inf"))
    return Budget(_MOST_BYTES, _MOST_RESPONSES, _LONGEST)


def _check_environment(url: str) -> None:
    """What huggingface_hub reads when it is imported, and would fail on without a name."""
    if os.environ.get("HF_ENDPOINT"):
        check_web_address(url, "HF_ENDPOINT", os.environ["HF_ENDPOINT"])
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        check_whole_number(url, name)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        check_secret(url, name)
    if not (os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")):
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
        check_token_file(url, "HF_TOKEN_PATH", f"{home}/token")
    check_proxies(url)
    check_certificates(url)


def _broke_off(text: str) -> Exception:
    """A response that ended too early, as the network library itself calls it: it may be whole next time."""
    import httpx2

    return httpx2.RemoteProtocolError(text)
