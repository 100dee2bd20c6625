"""What a request brings: its key, and a body of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.serving.api.keys import EVERY
from adaptkit.serving.api.refusals import HttpError, gone

if TYPE_CHECKING:
    from starlette.requests import Request

    from adaptkit.serving.api.keys import Keys

LARGEST_BODY = 4 << 20  # bytes; a prompt of a million characters
MOST_READ = 16 << 20
"""Bytes of a body that is refused which are still read, so that its sender reads why; then the connection ends."""


def spaces_of(request: Request, keys: Keys) -> frozenset[str]:
    """The namespaces that the request's key may ask for; 401 without a valid one."""
    spaces = keys.spaces(request.headers.get("authorization"))
    if spaces is None:
        text = "no valid API key; send it as 'Authorization: Bearer KEY'"
        close = "transfer-encoding" in request.headers or _declared(request) > MOST_READ
        raise HttpError(401, "authentication_error", text, close=close)
    request.state.sees_all = EVERY in spaces
    return spaces


def sees_all(request: Request) -> bool:
    """Whether the request has shown that it may ask for everything."""
    return bool(getattr(request.state, "sees_all", False))


async def body_of(request: Request, keys: Keys) -> bytes:
    """The body, if it is small enough; key and declared size are checked before anything is read."""
    from starlette.requests import ClientDisconnect

    spaces_of(request, keys)
    size, parts = 0, []
    text = f"the body is larger than {LARGEST_BODY:,} bytes"
    if (declared := _declared(request)) > LARGEST_BODY:
        raise HttpError(413, "invalid_request_error", text, close=declared > MOST_READ)
    try:
        async for part in request.stream():
            size += len(part)
            if size > MOST_READ:
                raise HttpError(413, "invalid_request_error", text, close=True)
            if size <= LARGEST_BODY:
                parts.append(part)
    except ClientDisconnect as error:
        raise gone() from error
    if size > LARGEST_BODY:
        raise HttpError(413, "invalid_request_error", text)
    return b"".join(parts)


def _declared(request: Request) -> int:
    """The size that a request says its body has; 0 where it says none."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0
