"""Requests to one registry: logged in, repeated while that can help, redirected only to where it is safe."""

from __future__ import annotations

import random
import re
import time
import weakref
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from adaptkit.errors import StorageError, requires_extra
from adaptkit.io.http import retry_after
from adaptkit_plugins.storage.oci import login
from adaptkit_plugins.storage.oci.address import Address, may_be_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

TRIES = 6
_FIRST, _LONGEST, _ASKED_LONGEST = 0.2, 30.0, 120.0  # seconds
_BUSY = {408, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_CODE = re.compile(r"[A-Z_]{1,40}")


class Broken(Exception):
    """The connection broke, or the server was busy, in something that cannot simply be repeated."""


class Requests:
    """One registry, as one repository's user."""

    def __init__(self, address: Address, pause: Callable[[float], None] = time.sleep) -> None:
        self.address, self.pause = address, pause
        self._authorisation: dict[str, str] = {}  # by scope
        self._login = Lock()

    @cached_property
    def client(self) -> httpx.Client:
        """The HTTP client; opened when first needed."""
        with requires_extra("oci", f"cannot open {self.address.url}"):
            import httpx
        client = httpx.Client(
            timeout=httpx.Timeout(60.0, connect=10.0),
            follow_redirects=False,
            headers={"User-Agent": "adaptkit"},
            limits=httpx.Limits(max_connections=16),
        )
        weakref.finalize(self, client.close)  # a place has no end of its own
        return client

    def url(self, path: str) -> str:
        """The URL of a path of this repository, such as `blobs/sha256:…`."""
        return f"{self.address.origin}/v2/{self.address.repository}/{path}"

    def send(
        self,
        method: str,
        url: str,
        *,
        doing: str,
        scope: str = "",
        accept: tuple[int, ...] = (200,),
        repeat: bool = True,
        stream: bool = False,
        **more: Any,
    ) -> httpx.Response:
        """One request; the answer if its status is one of `accept`, else a sentence: cannot `doing` this place.

        `repeat=False` is for what must not be sent twice: `Broken` says that nobody knows what became of it.
        """
        import httpx

        for attempt in range(1, TRIES + 1):
            try:
                answer = self._logged_in(
                    method, url, scope or self._scope("pull"), stream=stream, **more
                )
            except httpx.TransportError as error:
                if not repeat:
                    raise Broken(type(error).__name__) from None
                if attempt == TRIES:
                    raise self._unreachable(doing, error) from None
                self.pause(self._wait(attempt))
                continue
            except httpx.HTTPError:
                raise self._failed(doing, "it answered what is no HTTP") from None
            if answer.status_code in accept:
                return answer
            if answer.status_code not in _BUSY:
                raise self.refusal(doing, answer)
            asked = retry_after(answer.headers.get("Retry-After"))
            answer.close()
            if not repeat:
                self.pause(min(asked or 0.0, _ASKED_LONGEST))
                raise Broken(str(answer.status_code))
            if attempt == TRIES or (asked or 0.0) > _ASKED_LONGEST:
                raise self.refusal(doing, answer)
            self.pause(self._wait(attempt) if asked is None else asked)
        raise AssertionError("the last try returns or raises")

    def refusal(self, doing: str, answer: httpx.Response) -> StorageError:
        """The sentence for an answer that is not what was hoped for; its body is not repeated but for its code."""
        host, status, codes = self.address.host, answer.status_code, self.codes(answer)
        said = f" ({', '.join(codes)})" if codes else ""
        if status == 401:
            known = bool(login.find(host))
            why = (
                "your login is not accepted there"
                if known
                else "it wants a login, and docker's configuration has none"
            )
            return self._failed(doing, f"{why}{said}", f"docker login {host}")
        if status == 403:
            return self._failed(
                doing,
                f"you may not do that there{said}",
                f"ask who runs {host} for the right to {self.address.repository}",
            )
        if status == 404:
            return self._failed(
                doing,
                f"it is not there{said}",
                "check the name; see what is there: adaptkit remote check",
            )
        if status in {429, 503}:
            return self._failed(
                doing,
                f"it is too busy ({status}) and stayed so",
                "try again later; what was sent is kept",
            )
        return self._failed(
            doing, f"{host} answered {status}{said}", "try again later, or ask who runs it"
        )

    @staticmethod
    def codes(answer: httpx.Response) -> tuple[str, ...]:
        """A registry's own names for what is wrong, such as BLOB_UNKNOWN."""
        try:
            answer.read()
            told = [str(error["code"]) for error in answer.json()["errors"]]
        except Exception:  # noqa: BLE001 - whatever a server sends in place of an error
            return ()
        return tuple(code for code in told if _CODE.fullmatch(code))[:4]

    def _logged_in(
        self, method: str, url: str, scope: str, *, stream: bool, **more: Any
    ) -> httpx.Response:
        used = self._authorisation.get(scope, "")
        answer = self._redirected(method, url, used, stream=stream, **more)
        if answer.status_code != 401 or not _same_origin(url, self.address.origin):
            return answer
        with self._login:  # of several requests that are turned away at once, one logs in
            if self._authorisation.get(scope, "") == used:
                challenge = answer.headers.get("WWW-Authenticate", "")
                self._authorisation[scope] = login.authorisation(
                    challenge, login.find(self.address.host), scope, self.address.origin, self._ask
                )
            now = self._authorisation[scope]
        if not now or now == used:
            return answer
        answer.close()
        return self._redirected(method, url, now, stream=stream, **more)

    def _redirected(
        self, method: str, url: str, authorisation: str, *, stream: bool, **more: Any
    ) -> httpx.Response:
        for _ in range(6):
            if not may_be_asked(url, self.address.origin):
                raise self._failed(
                    "follow",
                    f"it sends us to {urlsplit(url).scheme}://{urlsplit(url).hostname}, which is not safe",
                    "do not trust this registry",
                )
            headers = dict(more.get("headers") or {})
            if authorisation and _same_origin(url, self.address.origin):
                headers["Authorization"] = authorisation
            content = more.get("content")
            request = self.client.build_request(
                method,
                url,
                headers=headers,
                params=more.get("params"),
                content=content() if callable(content) else content,
            )
            answer = self.client.send(request, stream=stream)
            if answer.status_code not in _REDIRECTS or method not in {"GET", "HEAD"}:
                return answer
            answer.close()
            url, more = urljoin(url, answer.headers.get("Location", "")), more | {"params": None}
        raise self._failed("follow", "it sends us in circles", "do not trust this registry")

    def _ask(
        self, url: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> httpx.Response:
        if "refresh_token" in params:
            return self.client.post(url, data=dict(params), headers=headers)
        return self.client.get(url, params=dict(params), headers=headers)

    def _scope(self, what: str) -> str:
        return f"repository:{self.address.repository}:{what}"

    @property
    def writing(self) -> str:
        """The scope that a push needs."""
        return self._scope("pull,push")

    def _wait(self, attempt: int) -> float:
        return min(_FIRST * 2.0**attempt, _LONGEST) * random.uniform(0.5, 1.0)  # noqa: S311

    def _unreachable(self, doing: str, error: Exception) -> StorageError:
        import httpx

        told = (
            "no answer in time"
            if isinstance(error, httpx.TimeoutException)
            else "cannot connect"
            if isinstance(error, httpx.ConnectError)
            else "the connection broke"
        )
        return self._failed(
            doing, f"{told} at {self.address.host}", "check the name and the network"
        )

    def _failed(self, doing: str, why: str, fix: str = "") -> StorageError:
        return StorageError(f"cannot {doing} {self.address.url}", why=why, fix=fix)


def _same_origin(url: str, origin: str) -> bool:
    one, other = urlsplit(url), urlsplit(origin)
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)
