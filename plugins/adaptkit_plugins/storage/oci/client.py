"""Requests to one registry: logged in, sent again while that can help, redirected only to where it is safe."""

from __future__ import annotations

import time
import weakref
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adaptkit.errors import Unresponsive, requires_extra
from adaptkit.io.http.addresses import joined
from adaptkit.io.http.client import BUSY, retry
from adaptkit.io.http.environment import check_certificates, check_no_proxy, check_proxies
from adaptkit.io.http.limits import LARGEST_ERROR, TooLarge, TooSlow, body, bound
from adaptkit_plugins.storage.oci import auth, errors
from adaptkit_plugins.storage.oci.address import may_be_asked
from adaptkit_plugins.storage.oci.retries import transient, wait_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from adaptkit_plugins.storage.oci.address import Address

LARGEST = 4 << 20  # bytes of a response that is not a blob, as registries have it for manifests
_REDIRECTS = {301, 302, 303, 307, 308}


class Client:
    """Requests to one registry, for one repository."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.settle: Callable[[float], None] = time.sleep
        """How it waits for a registry to show what was written, in seconds."""
        self._authorisation: dict[str, str] = {}  # by scope
        self._login = Lock()

    @cached_property
    def http(self) -> httpx.Client:
        """The HTTP client; opened when first needed."""
        with requires_extra("oci", f"cannot open {self.address.url}"):
            import httpx
        check_proxies(self.address.url)
        check_no_proxy(self.address.url)
        check_certificates(self.address.url)
        client = httpx.Client(
            timeout=httpx.Timeout(60.0, connect=10.0),
            follow_redirects=False,
            headers={"User-Agent": "adaptkit"},
            limits=httpx.Limits(max_connections=16),
        )
        bound(client)
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
        """One request; the response if its status is one of `accept`, else an error: cannot `doing` this place.

        `repeat=False` is for what must not be sent twice: `Broken` is raised when it is unknown what became of it.
        """
        import httpx

        def once() -> httpx.Response:
            response = self._logged_in(method, url, scope or self._scope("pull"), **more)
            if response.status_code in accept:
                return response if stream else _whole(response, LARGEST)
            response = _whole(response, LARGEST_ERROR, cut=True)
            if response.status_code not in BUSY:
                raise errors.refused(doing, self.address, response)
            raise errors.Busy(response)

        try:
            return retry(once, transient=transient, wait_asked=wait_asked) if repeat else once()
        except errors.Busy as busy:
            if not repeat:
                raise errors.Broken(str(busy), busy.wait_asked) from None
            raise errors.refused(doing, self.address, busy.response) from None
        except TooSlow as error:
            raise Unresponsive(
                f"cannot {doing} {self.address.url}", why=str(error), fix="try again later"
            ) from None
        except TooLarge as error:
            raise errors.TooMuch(
                f"cannot {doing} {self.address.url}",
                why=f"its response is too large: {error}",
                fix="do not trust this registry",
            ) from None
        except httpx.TransportError as error:
            if not repeat:
                raise errors.Broken(type(error).__name__) from None
            raise errors.unreachable(doing, self.address, error) from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):
            raise errors.failed(doing, self.address, "what it returned is not HTTP") from None

    def _logged_in(self, method: str, url: str, scope: str, **more: Any) -> httpx.Response:
        used = self._authorisation.get(scope, "")
        response = self._redirected(method, url, used, **more)
        if response.status_code != 401 or not _same_origin(url, self.address.origin):
            return response
        with self._login:  # of several requests that are refused at once, one logs in
            if self._authorisation.get(scope, "") == used:
                challenge = response.headers.get("WWW-Authenticate", "")
                self._authorisation[scope] = auth.authorisation(
                    challenge, auth.find(self.address.host), scope, self.address.origin, self._ask
                )
            now = self._authorisation[scope]
        if not now or now == used:
            return response
        response.close()
        return self._redirected(method, url, now, **more)

    def _redirected(self, method: str, url: str, authorisation: str, **more: Any) -> httpx.Response:
        for _ in range(6):
            if not may_be_asked(url, self.address.origin):
                raise errors.failed(
                    "follow",
                    self.address,
                    f"it redirects to {_shown(url)}, which is not safe",
                    "do not trust this registry",
                )
            headers = dict(more.get("headers") or {})
            if authorisation and _same_origin(url, self.address.origin):
                headers["Authorization"] = authorisation
            content = more.get("content")
            request = self.http.build_request(
                method,
                url,
                headers=headers,
                params=more.get("params"),
                content=content() if callable(content) else content,
            )
            response = self.http.send(request, stream=True)
            if response.status_code not in _REDIRECTS or method not in {"GET", "HEAD"}:
                return response
            response.close()
            url, more = joined(url, response.headers.get("Location", "")), more | {"params": None}
        raise errors.failed(
            "follow", self.address, "it redirects in circles", "do not trust this registry"
        )

    def _ask(
        self, url: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> httpx.Response:
        if "refresh_token" in params:
            request = self.http.build_request("POST", url, data=dict(params), headers=headers)
        else:
            request = self.http.build_request("GET", url, params=dict(params), headers=headers)
        return _whole(self.http.send(request, stream=True), LARGEST_ERROR)

    def _scope(self, what: str) -> str:
        return f"repository:{self.address.repository}:{what}"

    @property
    def writing(self) -> str:
        """The scope that a push needs."""
        return self._scope("pull,push")


def _whole(response: httpx.Response, largest: int, *, cut: bool = False) -> httpx.Response:
    """The response with its body read, up to a limit; `cut` leaves out a body that is too large."""
    import httpx

    try:
        data = body(response.iter_raw(64 << 10), response.headers, largest)
    except TooLarge:
        if not cut:
            raise
        data = b""
    finally:
        response.close()
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name not in {"content-encoding", "transfer-encoding"}
    ]
    return httpx.Response(
        response.status_code, headers=headers, content=data, request=response.request
    )


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" if url else "what is no address"


def _same_origin(url: str, origin: str) -> bool:
    one, other = urlsplit(url), urlsplit(origin)
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)
