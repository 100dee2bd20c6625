"""Waiting for obstore with a limit: its own calls cannot be interrupted, and watch no rate.

Its asynchronous calls run on an event loop in a thread of its own; a command that is interrupted does not wait for it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
PATIENCE = (
    15.0  # seconds for a response to begin, for a page of a list, for `CHUNK` bytes of a body
)
CHUNK = 128 << 10
_loops: dict[
    int, asyncio.AbstractEventLoop
] = {}  # by process: a fork has no thread of its parent's
_lock = threading.Lock()


class Silent(Exception):
    """The store sent nothing, or too little, for `PATIENCE` seconds."""


def wait(call: Callable[[], Awaitable[T]], seconds: float = PATIENCE) -> T:
    """The result of an asynchronous call; `Silent` when it takes longer."""

    async def limited() -> T:
        return await asyncio.wait_for(_awaited(call), seconds)

    future = asyncio.run_coroutine_threadsafe(limited(), _loop())
    try:
        return future.result()
    except TimeoutError:
        raise Silent(f"less than {CHUNK >> 10} kB in {seconds:.0f} seconds") from None
    except BaseException:
        future.cancel()
        raise


async def _awaited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        here = os.getpid()
        if here not in _loops:
            _loops.clear()
            _loops[here] = asyncio.new_event_loop()
            threading.Thread(target=_loops[here].run_forever, daemon=True).start()
        return _loops[here]
