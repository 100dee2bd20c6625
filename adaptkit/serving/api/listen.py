"""The server's socket, bound before the model is loaded: a port in use is refused at once, and 0 is a real port."""

from __future__ import annotations

import logging
import socket
from asyncio import CancelledError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from adaptkit.errors import Refused, requires_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

    import uvicorn

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


def web_server(app: Any, listener: socket.socket, *, drain: float) -> uvicorn.Server:
    """A server of an application on a bound socket, which listens from now on.

    When it is ended, requests have `drain` seconds to end; then they are cancelled.
    """
    with requires_extra("serve", "cannot serve"):
        import uvicorn

    logging.getLogger("uvicorn.error").addFilter(_not_cancelled)
    raise_open_files()
    listener.listen(BACKLOG)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=max(1, int(drain)),
        )
    )


def _not_cancelled(record: logging.LogRecord) -> bool:
    """Leave out a traceback for each request that is cancelled: one line says how many there were."""
    return not (record.exc_info and isinstance(record.exc_info[1], CancelledError))


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
