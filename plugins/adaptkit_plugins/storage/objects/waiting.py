"""Waiting for obstore with a limit: its own calls cannot be interrupted, and watch no rate.

Its asynchronous calls run on an event loop in a thread of its own; a command that is interrupted does not wait for it.
A thread of obstore's that is still within Python when the interpreter ends would abort the process, so the end waits for
those (`_leave`).

obstore reads the page of a list whole before it shows anything of it, and has no limit for that. What can be seen from
outside is this process's memory, so that is watched while a page is on its way.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
PATIENCE = (
    10.0  # seconds for a response to begin, for a page of a list, for `CHUNK` bytes of a body
)
CHUNK = 64 << 10
_loops: dict[int, tuple[asyncio.AbstractEventLoop, threading.Thread]] = {}
# by process: a fork has no thread of its parent's
_lock = threading.Lock()

MOST_GROWTH = 48 << 20  # bytes of memory; a page of a thousand objects has half a million
_LOOK = 0.005  # seconds between two looks at the memory
_NOTICE = 0.05  # seconds in which obstore's threads learn that a call is given up
_AT_EXIT = 1.0  # seconds at most that the end of the process waits for them


class Flood(Exception):
    """The process grew by `MOST_GROWTH` while one page of a list came."""


class Silent(Exception):
    """The store sent nothing, or too little, for `PATIENCE` seconds."""


def wait(call: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
    """The result of an asynchronous call; `Silent` when it takes longer, by default than `PATIENCE`."""
    limit = PATIENCE if seconds is None else seconds

    async def limited() -> T:
        return await asyncio.wait_for(_awaited(call), limit)

    future = asyncio.run_coroutine_threadsafe(limited(), _loop())
    try:
        return future.result()
    except TimeoutError:
        time.sleep(_NOTICE)
        came = "no response" if seconds else f"less than {CHUNK >> 10} kB"
        raise Silent(f"{came} in {limit:.0f} seconds") from None
    except BaseException:
        future.cancel()
        raise


def wait_for_page(call: Callable[[], Awaitable[T]]) -> T:
    """The next page of a list; `Flood` as soon as it takes more memory than any page needs."""
    import psutil

    me = psutil.Process()
    before = me.memory_info().rss

    async def watched() -> T:
        task = asyncio.ensure_future(_awaited(call))
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK))[0]:
                if me.memory_info().rss - before > MOST_GROWTH:
                    raise Flood(f"a page of its list has more than {MOST_GROWTH >> 20} MB")
        finally:
            task.cancel()
        return task.result()

    return wait(watched)


async def _awaited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        here = os.getpid()
        if here not in _loops:
            _loops.clear()
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, daemon=True)
            _loops[here] = loop, thread
            thread.start()
            atexit.register(_leave)
        return _loops[here][0]


def _leave() -> None:
    """End the loop, then wait for the threads of obstore's that are handing it a result or learn that it is not wanted."""
    loop, thread = _loops.get(os.getpid(), (None, None))
    if loop is None or thread is None:
        return
    end = time.monotonic() + _AT_EXIT
    asyncio.run_coroutine_threadsafe(_cancel_all(), loop).add_done_callback(
        lambda _: loop.call_soon_threadsafe(loop.stop)
    )
    thread.join(_AT_EXIT)
    while _foreign_threads() and time.monotonic() < end:
        time.sleep(0.001)  # lets them have the interpreter


async def _cancel_all() -> None:
    pending = asyncio.all_tasks() - {asyncio.current_task()}
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.sleep(_NOTICE)


def _foreign_threads() -> set[int]:
    """The threads that run Python code and were not started by Python."""
    return sys._current_frames().keys() - {thread.ident for thread in threading.enumerate()}  # noqa: SLF001
