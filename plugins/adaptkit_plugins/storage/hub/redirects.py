"""Where a Hub may send its readers: to web addresses that others can reach as well."""

from __future__ import annotations

from urllib.parse import urlsplit

from adaptkit.io.http.addresses import ip_of

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
