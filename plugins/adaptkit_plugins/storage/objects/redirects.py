"""A bucket's client asks no host but the endpoint that the user named, as far as obstore lets that be said.

obstore (0.12.1) follows every redirect and has no option against it. What it has is a proxy, and hosts that need none: with
a proxy at which nobody listens, every other host is out of reach. That cannot be where requests to the endpoint go through
the user's own proxy, or where a service gives the credentials. There its client still follows no redirect from https://
to http://, where clouds keep their metadata services, and sends no `Authorization` to another host; an endpoint by plain
http:// has no such limit, and is refused.
"""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from adaptkit.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import ClientConfig


NOWHERE = "127.0.0.1:9"  # the port `discard`, at which nobody listens
_GIVEN = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SKIP_SIGNATURE"),
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_SKIP_SIGNATURE",
    ),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_SKIP_SIGNATURE"),
}
"""With one of these no service is asked for credentials; of Azure an account's name alone says nothing of them."""
_TOKENS = {"gs": ",googleapis.com,accounts.google.com"}
"""Where a service account's key is exchanged for a token."""


class Endpoint(Protocol):
    """What must be known of a bucket's address."""

    @property
    def url(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def endpoint_variable(self) -> str: ...
    @property
    def credentials(self) -> tuple[str, ...]: ...


def no_other_host(address: Endpoint, *, signs: bool) -> ClientConfig:
    """The client's settings for an endpoint of the user's own; `StorageError` where nothing could hold it back.

    `signs` says that credentials were found here already, so that no service is asked for them.
    """
    endpoint = address.endpoint
    host = urlsplit(endpoint).hostname
    if not host:
        return {}
    proxy = _proxy(endpoint, host)
    if not proxy and address.scheme in _TOKENS:  # a token is fetched through the user's proxy
        proxy = _proxy("https://", "")
    service = not signs and not any(os.environ.get(name) for name in _GIVEN[address.scheme])
    if not proxy and not service:
        others = _TOKENS.get(address.scheme, "")
        return {"proxy_url": f"http://{NOWHERE}", "proxy_excludes": f"{host}{others}"}
    if endpoint.startswith("http://") and not _this_machine(host):
        raise StorageError(
            f"cannot open {address.url}",
            why=f"{address.endpoint_variable} is http://, and "
            + (f"requests go through {proxy}" if proxy else "a service gives the credentials")
            + ": wherever that server redirects to would be asked",
            fix=f"use https://, or add {host} to NO_PROXY"
            if proxy
            else f"use https://, or set {', '.join(address.credentials)}",
        )
    return {}


def _proxy(endpoint: str, host: str) -> str:
    """The variable that names the proxy for a host; empty when it is asked directly."""
    scheme = endpoint.partition("://")[0].upper()
    names = (f"{scheme}_PROXY", f"{scheme.lower()}_proxy", "ALL_PROXY", "all_proxy")
    named = next((name for name in names if os.environ.get(name)), "")
    return "" if named and _excluded(host) else named


def _excluded(host: str) -> bool:
    """Whether NO_PROXY names a host: itself, a domain above it, its network, or `*`."""
    for entry in (os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "").split(","):
        rule = entry.strip().lower().lstrip(".")
        if not rule or not host:
            continue
        if rule == "*" or host.lower() == rule or host.lower().endswith(f".{rule}"):
            return True
        try:
            if ip_address(host) in ip_network(rule, strict=False):
                return True
        except ValueError:  # one of them is a name
            continue
    return False


def _this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
