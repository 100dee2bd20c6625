"""How much a Hub may send in response to one call of huggingface_hub's, which reads whole bodies and follows pages by itself."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.io.http.addresses import joined
from adaptkit.io.http.limits import TooLarge, refuse_compressed
from adaptkit_plugins.storage.hub.redirects import Misled, unsafe

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

_here = threading.local()


@dataclass
class Budget:
    """What is left for a call: bytes, responses, seconds."""

    bytes: int
    responses: int
    seconds: float
    begun: float = field(default_factory=time.monotonic)

    def spend(self, count: int) -> None:
        """Count bytes that came; `TooLarge` when it was too much, or took too long altogether."""
        self.bytes -= count
        if self.bytes < 0 or self.responses < 0:
            raise TooLarge("its response has no end")
        if time.monotonic() - self.begun > self.seconds:
            raise TooLarge(f"after {self.seconds:.0f} seconds it has not ended")


@contextmanager
def budget(limit: Budget | None) -> Iterator[None]:
    """Count the responses to requests of this thread inside the block; None counts nothing."""
    before = getattr(_here, "budget", None)
    _here.budget = limit
    try:
        yield
    finally:
        _here.budget = before


def count_response(response: httpx2.Response) -> None:
    """A hook for responses whose body was not read yet: nothing compressed, and no more than the budget."""
    refuse_compressed(response.headers)
    if response.has_redirect_location:
        asked = str(response.request.url)
        if why := unsafe(joined(asked, response.headers["Location"]), asked):
            raise Misled(f"the Hub redirects {why}")
    limit: Budget | None = getattr(_here, "budget", None)
    if limit is None:
        return
    limit.responses -= 1
    limit.spend(0)
    response.stream = _counted(response.stream, limit)


def _counted(stream: Any, limit: Budget) -> httpx2.SyncByteStream:
    import httpx2

    class Counted(httpx2.SyncByteStream):
        """The same body, counted as it comes."""

        def __iter__(self) -> Iterator[bytes]:
            for piece in stream:
                limit.spend(len(piece))
                yield piece

        def close(self) -> None:
            stream.close()

    return Counted()


def read_counted(response: httpx2.Response) -> None:
    """Read a body that no budget counted when it began."""
    count_response(response)
    response.read()
