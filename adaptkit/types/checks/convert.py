"""msgspec's conversion, by one thread at a time.

msgspec 0.22 crashes the process when several threads are the first to use a type: one sees what another has half built.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, TypeVar

import msgspec
import msgspec.json

T = TypeVar("T")

_ALONE = Lock()


def convert(value: Any, kind: type[T]) -> T:
    """The value as a `kind` of `msgspec.Struct`; `msgspec.ValidationError` for what it does not allow."""
    with _ALONE:
        return msgspec.convert(value, kind)


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """A decoder of JSON texts to a `kind` of `msgspec.Struct`, for one thread."""
    with _ALONE:
        return msgspec.json.Decoder(kind)
