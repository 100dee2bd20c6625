"""What an object store answered, as a sentence; nothing of its text is repeated, for keys and signatures stand in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.errors import StorageError

if TYPE_CHECKING:
    from adaptkit_plugins.storage.objects.address import Address

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_KIND = re.compile(r"kind: (Connect|Timeout|Request|Body|Decode|Interrupted|Unknown)\b")
_BUSY = {408, 429, 500, 502, 503, 504}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_WRONG_KEY = {"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"}
_WRONG_SECRET = {"SignatureDoesNotMatch", "AuthenticationFailed", "InvalidToken"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestTimeTooSkewed"}
_NO_CREDENTIALS = re.compile(
    r"169\.254\.|metadata\.google|metadata/identity|computeMetadata|latest/api/token|iam/security-credentials"
)


def status(error: BaseException) -> int | None:
    """The HTTP status that the store's last answer had."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def code(error: BaseException) -> str:
    """The store's own name for what went wrong, such as NoSuchBucket; empty when it gave none."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def passing(error: BaseException) -> bool:
    """Whether trying again can help: the store is busy, or the connection broke."""
    if isinstance(error, FileNotFoundError) or _NO_CREDENTIALS.search(str(error)):
        return False
    answered = status(error)
    return answered in _BUSY if answered is not None else _KIND.search(str(error)) is not None


def missing_key(error: BaseException) -> bool:
    """Whether an object is not there, though its bucket is. Some stores say so of an empty folder, too."""
    gone = isinstance(error, FileNotFoundError) or status(error) == 404
    return gone and code(error) not in _NO_BUCKET


def not_supported(error: BaseException) -> bool:
    """Whether the store says that it knows no conditional requests."""
    return (
        type(error).__name__ == "NotSupportedError"
        or status(error) == 501
        or code(error) == "NotImplemented"
    )


def ranges_unknown(error: BaseException) -> bool:
    """Whether the store answers a request for a part with the whole, or not at all."""
    return (
        status(error) == 416
        or "non-partial response" in str(error)
        or "Content-Range" in str(error)
    )


def sentence(doing: str, address: Address, error: BaseException) -> StorageError:
    """Cannot `doing` (such as "write") this place: why, and what to do."""
    why, fix = _reason(address, error)
    return StorageError(f"cannot {doing} {address.url}", why=why, fix=fix)


def _reason(address: Address, error: BaseException) -> tuple[str, str]:
    said, answered, text = code(error), status(error), str(error)
    names = ", ".join(address.credentials)
    if _NO_CREDENTIALS.search(text):
        return "no credentials were found", f"set {names}"
    if said in _NO_BUCKET:
        return f"there is no {address.noun} '{address.bucket}'{address.at}", (
            f"make it with your provider's tool, or check the name and {address.endpoint_variable}"
        )
    if said in _WRONG_KEY:
        return f"the access key is not known there ({said})", f"check {names}"
    if said in _WRONG_SECRET:
        return f"the secret does not fit the access key ({said})", f"check {names}"
    if said in _EXPIRED:
        return (
            f"the credentials have expired, or this machine's clock is wrong ({said})",
            f"renew {names}",
        )
    if type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"} or answered in {
        401,
        403,
    }:
        why = "who you are is not known there" if answered == 401 else "you may not do that there"
        return (
            f"{why} ({said or answered})",
            f"check {names}, and what they may do in '{address.bucket}'",
        )
    if answered in {429, 503}:
        return (
            f"it is too busy ({answered}) and stayed so",
            "try again later; what was sent is kept",
        )
    kind = _KIND.search(text)
    if answered is None and kind:
        told = {"Connect": "cannot connect", "Timeout": "no answer in time"}.get(
            kind[1], "the connection broke"
        )
        return f"{told}{address.at}", f"check the network and {address.endpoint_variable}"
    answer = " ".join(filter(None, [str(answered or ""), said])) or type(error).__name__
    return f"the store answered {answer}", f"check {address.endpoint_variable}, then try again"
