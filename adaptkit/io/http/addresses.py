"""Addresses that a server gives its readers, in redirects and challenges: read as the network would, and never an exception."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urljoin, urlsplit


def joined(asked: str, given: str) -> str:
    """The URL that a response to `asked` gives, which may be relative; empty when it is no URL."""
    try:
        url = urljoin(asked, given)
        _ = urlsplit(url).port
    except ValueError:
        return ""
    return url


def ip_of(host: str | None) -> IPv4Address | IPv6Address | None:
    """The IP address that a host is; None for a name.

    Also in the forms that resolvers still read, such as `2852039166`, and of IPv6 the IPv4 address within.
    """
    try:
        address = ip_address(host or "")
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host or ""))
        except (OSError, ValueError):
            return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
