"""Garbage collection, put off while a process loads what it works with."""

from __future__ import annotations

import gc

LOADED = 1_000_000
"""Loading SQLAlchemy and our modules makes 65,000 objects, with numpy 100,000; torch and PEFT 850,000."""


def put_off_collection(objects: int = LOADED) -> None:
    """Let the first garbage collection wait until so many objects were made; then the usual thresholds hold."""
    usual = gc.get_threshold()

    def as_usual(phase: str, _: object) -> None:
        if phase == "stop":
            gc.callbacks.remove(as_usual)
            gc.set_threshold(*usual)

    gc.callbacks.append(as_usual)
    gc.set_threshold(objects, *usual[1:])
