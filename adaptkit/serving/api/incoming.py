"""What a request brings: its key, and a body of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.serving.api.keys import EVERY
from adaptkit.serving.api.refusals import HttpError, gone

if TYPE_CHECKING:
    from starlette.requests import Request

    from adaptkit.serving.api.keys import Keys

LARGEST_BODY = 4 << 20  # bytes; a prompt of a million characters


def spaces_of(request: Request, keys: Keys) -> frozenset[str]:
    """The namespaces that the request's key may ask for; 401 without a valid one."""
    spaces = keys.spaces(request.headers.get("authorization"))
    if spaces is None:
        text = "no valid API key; send it as 'Authorization: Bearer KEY'"
        raise HttpError(401, "authentication_error", text)
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
    declared = request.headers.get("content-length", "0")
    text = f"the body is larger than {LARGEST_BODY:,} bytes"
    too_large = HttpError(413, "invalid_request_error", text)
    if declared.isdigit() and int(declared) > LARGEST_BODY:
        raise too_large
    try:
        async for part in request.stream():
            size += len(part)
            if size > LARGEST_BODY:
                raise too_large
            parts.append(part)
    except ClientDisconnect as error:
        raise gone() from error
    return b"".join(parts)
