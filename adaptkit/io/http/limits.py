"""How much and how slowly a server may send: one set of bounds for every HTTP client, httpx and huggingface_hub's alike.

Notable choices:
- the rate is watched where bytes are read from the network, so that it holds for headers, bodies and errors, and for
  what a library does by itself: once a response has begun, it comes at `SLOWEST` after `GRACE`, or it ends
- only the time spent waiting for the server counts, not the time that we take between two reads
- nothing compressed is asked for, and nothing compressed is taken: a few kilobytes of gzip may stand for gigabytes
- a body is read up to its limit, never first and then measured
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOWEST = 1024  # bytes a second, counted from the first byte of a response
GRACE = 8.0  # seconds of waiting in which it may be slower
LARGEST_ERROR = 64 << 10  # bytes of an error's body that are read


class TooSlow(Exception):
    """A response came more slowly than `SLOWEST`; the text says at what rate."""

    def __init__(self, came: int, waited: float) -> None:
        super().__init__(f"its response comes at {came / max(waited, 0.001):,.0f} bytes a second")


class TooLarge(Exception):
    """A body is larger than its limit, or compressed without having been asked for."""


def bound(client: Any) -> None:
    """Hold an `httpx.Client` (or one of httpx2) to the bounds on time; done once, however often it is asked for.

    Neither library has a public place for a network backend of one's own, so its pools are changed.
    """
    client.headers["Accept-Encoding"] = "identity"
    for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if pool is not None and backend is not None and not isinstance(backend, _Backend):
            pool._network_backend = _Backend(backend)  # noqa: SLF001


def body(pieces: Iterable[bytes], headers: Any, largest: int) -> bytes:
    """The bytes of a response, at most `largest`; `TooLarge` as soon as there are more, or when they are compressed."""
    refuse_compressed(headers)
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > largest:
            raise TooLarge(f"more than {largest:,} bytes")
    return bytes(data)


def refuse_compressed(headers: Any) -> None:
    """`TooLarge` when a response is compressed: that was not asked for, and its size says nothing."""
    encoding = str(headers.get("Content-Encoding", "identity")).strip().lower()
    if encoding not in {"", "identity"}:
        raise TooLarge("it is compressed, which was not asked for")


class _Backend:
    """A network backend of httpcore whose connections are watched."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def connect_tcp(self, *args: Any, **more: Any) -> _Stream:
        return _Stream(self._backend.connect_tcp(*args, **more))

    def connect_unix_socket(self, *args: Any, **more: Any) -> _Stream:
        return _Stream(self._backend.connect_unix_socket(*args, **more))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _Stream:
    """A connection: what is read since the last write is one response."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._came, self._waited = 0, 0.0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = GRACE + self._came / SLOWEST - self._waited if self._came else None
        watched = left is not None and (timeout is None or left < timeout)
        if left is not None and left <= 0:
            raise TooSlow(self._came, self._waited)
        begun = time.monotonic()
        try:
            data: bytes = self._stream.read(max_bytes, timeout=left if watched else timeout)
        except Exception as error:
            if watched and type(error).__name__ == "ReadTimeout":
                raise TooSlow(self._came, self._waited + time.monotonic() - begun) from None
            raise
        if self._came:  # how long a server thinks before its first byte is its own timeout's matter
            self._waited += time.monotonic() - begun
        self._came += len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._came, self._waited = 0, 0.0
        self._stream.write(buffer, timeout=timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *args: Any, **more: Any) -> _Stream:
        return _Stream(self._stream.start_tls(*args, **more))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
