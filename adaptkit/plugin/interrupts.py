"""Ctrl-C pressed, or a `KeyboardInterrupt` that a plugin raised by itself: the second must not end the program."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts() -> Iterator[Callable[[BaseException], bool]]:
    """Inside, signals are noticed; the function returns whether an error is an interrupt that the user asked for."""
    seen: list[int] = []

    def asked(error: BaseException) -> bool:
        return isinstance(error, KeyboardInterrupt) and (bool(seen) or not watched)

    watched = threading.current_thread() is threading.main_thread()
    if not watched:  # another thread gets no signals, and cannot look for them
        yield asked
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    ours = {
        number: _noticing(seen, handler) for number, handler in before.items() if callable(handler)
    }
    for number, handler in ours.items():
        signal.signal(number, handler)
    try:
        yield asked
    finally:
        for number, handler in ours.items():
            if signal.getsignal(number) is handler:  # the plugin may have set one of its own
                signal.signal(number, before[number])


def _noticing(seen: list[int], before: Callable[[int, Any], Any]) -> Callable[[int, Any], None]:
    def handle(number: int, frame: Any) -> None:
        seen.append(number)
        before(number, frame)

    return handle
