"""What every storage backend that speaks HTTP must hold to when the server means harm."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest

from adaptkit.errors import AdaptkitError
from adaptkit.testing.hostile_server import HostileServer, hostile_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptkit.extend import StorageBackend

MOST_SECONDS, MOST_MEMORY = 20.0, 200 << 20


class HttpBoundsConformance:
    """Inherit, and give the fixture `place`: your backend at `server.host`, on a place called after `mode`.

    Every request to it has `mode` in its path, and the server does by that what it says: a byte at
    a time, headers without an end, gzip that stands for gigabytes, a body without an end, one of 8
    GB, lists that go on, a redirect to another server, one to a cloud's metadata. Reading ends with
    one of adaptkit's errors, within 20 seconds and 200 MB, and no login goes to another server.

    The bounds are kept by `adaptkit.io.http.limits`: `bound(client)` for an httpx client's time, and
    `body(pieces, headers, largest)` for what is read.
    """

    modes: ClassVar[tuple[str, ...]] = (
        "trickle",
        "headers",
        "bomb",
        "flood",
        "oversized",
        "endless",
        "redirects",
        "metadata",
    )
    """What is tried; leave out `endless` where your protocol's lists are other ones."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each mode is a test of its own."""
        if "mode" in metafunc.fixturenames:
            metafunc.parametrize("mode", self.modes)

    @pytest.fixture
    def server(self) -> Iterator[HostileServer]:
        """The server; `asked` are the paths that were asked for, `told` those with a login."""
        with hostile_server() as running, hostile_server() as other:
            running.elsewhere, running.other = other.host, other
            yield running

    @pytest.fixture
    def place(self, server: HostileServer, mode: str) -> StorageBackend:
        """Your backend on this server."""
        raise NotImplementedError(
            "give your test class a fixture `place` that returns your StorageBackend at server.host"
        )

    def test_reading_from_a_hostile_server_ends_with_an_error_within_bounds(
        self, place: StorageBackend, server: HostileServer, mode: str
    ) -> None:
        begun = time.monotonic()
        with _growth() as grown, pytest.raises(AdaptkitError) as caught:
            place.version()
        assert time.monotonic() - begun < MOST_SECONDS
        assert max(grown) < MOST_MEMORY
        assert caught.value.what
        assert [path for path in server.asked if f"/{mode}" in path], "it asks the server"
        assert server.other is not None
        assert server.other.with_login == [], "a login was sent to another server"


@contextmanager
def _growth() -> Iterator[list[int]]:
    """How much larger this process was at each moment of the block than before it, in bytes."""
    import psutil

    me, over = psutil.Process(), threading.Event()
    before, grown = me.memory_info().rss, [0]

    def look() -> None:
        while not over.wait(0.02):
            grown.append(me.memory_info().rss - before)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield grown
    finally:
        over.set()
        watching.join()
