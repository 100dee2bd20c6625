"""Where a Hub may send its readers: to web addresses that others can reach as well, and there without the login.

huggingface_hub sends the token to every address that a response names: the next page of a list (`Link`), the check of
an upload (`verify`). So every request is looked at: the token goes to endpoints that the user named, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from adaptkit.io.http.addresses import ip_of

if TYPE_CHECKING:
    import httpx2

_endpoints = dict[tuple[str, str | None, int | None], str]()
_HERE = {"127.0.0.1", "::1", "localhost"}


class Misled(Exception):
    """A response redirects to where no reader should be sent; the text says where."""


def unsafe(url: str, endpoint: str) -> str:
    """Why a redirect to `url` is refused, as a part of an error message; empty when it is fine."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return f"to a {parts.scheme or 'nameless'}: address"
    if (address := ip_of(parts.hostname)) is None:
        return ""
    if address.is_link_local or address.is_unspecified or address.is_multicast:
        return f"to {address}, which only this machine can reach"
    if address.is_loopback and urlsplit(endpoint).hostname not in _HERE:
        return f"to {address}, which is this machine"
    return ""


def origin(url: str) -> tuple[str, str | None, int | None]:
    """What has to be the same for a login to be sent along."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def name_endpoint(endpoint: str) -> None:
    """Let the login go to an endpoint: the environment, or the user's own configuration, names it."""
    _endpoints[origin(endpoint)] = endpoint


def keep_login(request: httpx2.Request) -> None:
    """A hook for requests: one that does not go to an endpoint has no login, and goes to no neighbour of this machine."""
    url = str(request.url)
    if origin(url) in _endpoints:
        return
    request.headers.pop("Authorization", None)
    reasons = [unsafe(url, endpoint) for endpoint in _endpoints.values()]
    if reasons and all(reasons):
        raise Misled(f"the Hub sends its readers {reasons[0]}")
