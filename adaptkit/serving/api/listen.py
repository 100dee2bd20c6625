"""The server's socket, bound before the model is loaded: a port in use is refused at once, and 0 is a real port."""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from adaptkit.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 4096
"""Connections that may wait to be accepted; Linux cuts it to net.core.somaxconn."""

MOST_OPEN = 65_536
"""Files and connections that a server asks for at most."""


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket of this address, not yet listening; port 0 takes a free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _refused(host, port, error) from error
    with made:
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except OSError as error:
            raise _refused(host, port, error) from error
        yield made


def url_of(listener: socket.socket) -> str:
    """Where clients of a bound socket connect to."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def raise_open_files() -> int:
    """Let this process have as many files and connections open as the system allows it; returns how many."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems have a lower limit than they name
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def _refused(host: str, port: int, error: OSError) -> Refused:
    return Refused(
        f"cannot listen on {host}, port {port}",
        why=error.strerror or str(error),
        fix="another --port, or --port 0 for a free one",
    )
