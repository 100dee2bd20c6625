"""adaptkit.io.http.limits: a server that is too slow, or sends too much, is left; tried on a real one."""

from __future__ import annotations

import time

import httpx
import pytest

from adaptkit.io.http import limits as http_limits
from adaptkit.io.http.limits import TooLarge, TooSlow, body, bound
from adaptkit.testing.hostile_server import hostile_server


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setattr(http_limits, "GRACE", 0.6)
    with httpx.Client(trust_env=False, timeout=30) as opened:
        bound(opened)
        bound(opened)  # twice is once
        yield opened


@pytest.mark.parametrize("mode", ["trickle", "headers"])
def test_a_response_that_trickles_ends_after_the_grace(client, mode):
    begun = time.monotonic()
    with hostile_server() as server, pytest.raises(TooSlow, match="bytes a second"):
        client.get(f"http://{server.host}/{mode}")
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("mode", "message"),
    [("flood", "more than 1,000,000 bytes"), ("bomb", "it is compressed, which was not asked for")],
)
def test_a_body_ends_at_its_limit_and_compressed_at_once(client, mode, message):
    with (
        hostile_server() as server,
        client.stream("GET", f"http://{server.host}/{mode}") as response,
        pytest.raises(TooLarge, match=message),
    ):
        body(response.iter_raw(), response.headers, 1_000_000)
