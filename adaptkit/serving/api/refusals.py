"""Errors as OpenAI's clients expect them: a status, a type, and our message with what to do."""

from __future__ import annotations

from typing import Any

from adaptkit.errors import (
    AdaptkitError,
    BadAdapter,
    BadReference,
    BakeError,
    BaseMismatch,
    MergeError,
    NoRoom,
    NotFound,
    Refused,
)
from adaptkit.serving.bank.memory import out_of_memory

RETRY_AFTER = 1
"""Seconds; a queue of short completions has moved by then."""
_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (NotFound, 404, "not_found_error"),
    (NoRoom, 429, "rate_limit_error"),
    (BadReference, 400, "invalid_request_error"),
    (BaseMismatch, 400, "invalid_request_error"),
    (Refused, 400, "invalid_request_error"),
    (BadAdapter, 400, "invalid_request_error"),
    (MergeError, 400, "invalid_request_error"),
    (BakeError, 400, "invalid_request_error"),
)


class HttpError(Exception):
    """A refusal with a status of its own; `close` ends the connection with it, unread bytes and all."""

    def __init__(self, status: int, kind: str, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.close = status, kind, message, close


def gone() -> HttpError:
    """The client hung up before its answer; 499 in the log and the metrics, as nginx counts it."""
    return HttpError(499, "invalid_request_error", "the client hung up")


def refusal(error: Exception, *, names: bool = True) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers; what is not ours is a 500 that gives nothing away.

    `names` says whether who asks may learn what other names there are.
    """
    if isinstance(error, HttpError):
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        if error.close:
            headers["Connection"] = "close"
        return error.status, body(error.kind, error.message), headers
    if out_of_memory(error):
        text = "the device has no memory left for this request; ask again in a moment"
        return 503, body("server_error", text), {"Retry-After": str(RETRY_AFTER)}
    if not isinstance(error, AdaptkitError):
        return 500, body("server_error", "the server failed; its log says why"), {}
    for kind, status, name in _STATUS:
        if isinstance(error, kind):
            headers = {"Retry-After": str(RETRY_AFTER)} if status == 429 else {}
            message = error.what if status == 404 and not names else str(error)
            return status, body(name, message), headers
    return 503, body("server_error", error.summary), {}


def body(kind: str, message: str) -> dict[str, Any]:
    """The object that OpenAI's clients read the message from."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
