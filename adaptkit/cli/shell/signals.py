"""SIGTERM and Ctrl-C end a command: it clears away what it has begun, and after `PATIENCE` seconds it ends all the same.

A pool waits for its threads, and a thread may wait for a server; a library's own code may not look at signals at all.
So a thread of its own hears of them (`signal.set_wakeup_fd`), and ends the process when the command has not. Code that
has taken the signal over, as a trainer does to finish its step and save a checkpoint, has the time it needs: until the
second signal.
Nothing is lost by that: every write of adaptkit survives a kill (docs/reliability.md).
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

PATIENCE = 1.2  # seconds
_BEHIND = 0.02  # seconds, in which Python leaves a destructor
INTERRUPTED = "interrupted; what was finished is kept, run the command again to go on"


class Signals:
    """Holds the handlers while a command runs; `to_end` says whether it was SIGTERM."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.to_end = False
        self._message = json.dumps({"note": INTERRUPTED}) if as_json else INTERRUPTED
        self._before: Any = None
        self._finished = threading.Event()
        self._wakeup = -1
        self._old_hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        with suppress(ValueError):  # not the main thread
            self._before = signal.signal(signal.SIGTERM, self._end)
            heard, self._wakeup = os.pipe()
            os.set_blocking(self._wakeup, False)
            self._old_wakeup = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(heard,), daemon=True).start()

    def _end(self, *_: object) -> None:
        self.to_end = True
        raise KeyboardInterrupt

    def _unraisable(self, lost: Any) -> None:
        """A signal that came in a destructor, of a library's say, is Python's remark and lost: raise it again behind it."""
        if issubclass(lost.exc_type, KeyboardInterrupt):
            number = signal.SIGTERM if self.to_end else signal.SIGINT
            again = threading.Timer(_BEHIND, _thread.interrupt_main, (number,))
            again.daemon = True
            again.start()
        else:
            self._old_hook(lost)

    def _watch(self, heard: int) -> None:
        """Wait for a signal that ends the command, then for its end."""
        asked = 0
        try:
            while data := os.read(heard, 64):
                ends = [number for number in data if number in {signal.SIGINT, signal.SIGTERM}]
                asked += len(ends)
                if ends and asked == 1 and self._taken_over(ends[0]):
                    continue
                if ends and not self._finished.wait(PATIENCE):
                    _clear_staging()
                    with suppress(OSError):
                        os.write(2, f"{self._message}\n".encode())
                    os._exit(128 + ends[0])
        finally:
            os.close(heard)

    def _taken_over(self, number: int) -> bool:
        return signal.getsignal(number) not in {signal.default_int_handler, self._end}

    def give_back(self) -> None:
        """The command has ended: everything as it was."""
        self._finished.set()
        sys.unraisablehook = self._old_hook
        if self._wakeup >= 0:
            signal.set_wakeup_fd(self._old_wakeup)
            os.close(self._wakeup)
            self._wakeup = -1
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def _clear_staging() -> None:
    """Remove work in progress. What was never imported, which `--help` and `list` need not do, has begun none."""
    clear = getattr(sys.modules.get("adaptkit.io.staging"), "clear_all", None)
    if clear is not None:
        clear()
