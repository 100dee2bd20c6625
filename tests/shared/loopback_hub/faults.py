"""What can go wrong between a client and a Hub, as data: the loopback Hub consults a list of these."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Spoil = Literal[
    "", "drop", "hang", "truncate", "corrupt", "long", "no-range", "short-range", "trickle"
]


@dataclass
class Fault:
    """One thing that goes wrong, for the next `times` requests that match; counted down as it happens.

    `request` is a regular expression over `METHOD /path`. `before` is called first: somebody else's change that
    comes between. With `done`, the server does what it was asked and only then returns `status`; without, it
    does nothing. `spoil` breaks the answer itself:

    - drop: the connection ends without an answer; hang: nothing comes until the server is closed
    - truncate: half of the bytes, then the connection ends; trickle: they come a few at a time, without end
    - corrupt: as many bytes, other ones; long: more bytes than the file has
    - no-range: the whole file, whatever range was asked for; short-range: 416 to every range
    """

    request: str
    times: int = 1
    before: Callable[[], object] | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    done: bool = False
    spoil: Spoil = ""
    redirect: str = ""
    body: bytes | None = None
    """What is answered instead, such as what was true a while ago: the Hub's readers can lag behind its writer."""


class Faults:
    """The faults that are due, in order; safe to ask from many threads."""

    def __init__(self) -> None:
        self._due: list[Fault] = []
        self._lock = Lock()
        self.over = Event()
        """Set when the server closes, so that what hangs lets go."""

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._due.append(fault)

    def take(self, request: str) -> Fault:
        """The first fault that matches a request, one time less; one that does nothing when none does."""
        with self._lock:
            for fault in self._due:
                if fault.times > 0 and re.search(fault.request, request):
                    fault.times -= 1
                    return fault
        return Fault(request)

    def left(self) -> list[Fault]:
        """Those that did not happen as often as they should have."""
        with self._lock:
            return [fault for fault in self._due if fault.times > 0]
