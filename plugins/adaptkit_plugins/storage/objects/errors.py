"""What goes wrong at an object store, as adaptkit's errors; its own text is never repeated: it holds keys and signatures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.errors import StorageError
from adaptkit_plugins.storage.objects.redirects import NOWHERE

if TYPE_CHECKING:
    from adaptkit_plugins.storage.objects.address import Address

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_KIND = re.compile(r"kind: (Connect|Timeout|Request|Body|Decode|Interrupted|Unknown)\b")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_WRONG_KEY = {"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"}
_WRONG_SECRET = {"SignatureDoesNotMatch", "AuthenticationFailed", "InvalidToken"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestTimeTooSkewed"}
_NO_CREDENTIALS = re.compile(
    r"169\.254\.|metadata\.google|metadata/identity|computeMetadata|latest/api/token|iam/security-credentials"
)


def status(error: BaseException) -> int | None:
    """The HTTP status of the store's last response; None without one."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def code(error: BaseException) -> str:
    """The store's own name for what went wrong, such as NoSuchBucket; empty when it gave none."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def no_credentials(error: BaseException) -> bool:
    """Whether obstore looked for credentials in vain, at last from a cloud's metadata service."""
    return _NO_CREDENTIALS.search(str(error)) is not None


def misled(error: BaseException) -> bool:
    """Whether the store redirected to another host, which is not asked."""
    return f"{NOWHERE}," in str(error)


def broken(error: BaseException) -> bool:
    """Whether the connection could not be made, or ended too early."""
    return not misled(error) and _KIND.search(str(error)) is not None


def missing_key(error: BaseException) -> bool:
    """Whether an object is not there, though its bucket is. Some stores report an empty folder so, too."""
    gone = isinstance(error, FileNotFoundError) or status(error) == 404
    return gone and code(error) not in _NO_BUCKET


def not_supported(error: BaseException) -> bool:
    """Whether the store reports that it does not support conditional requests."""
    return (
        type(error).__name__ == "NotSupportedError"
        or status(error) == 501
        or code(error) == "NotImplemented"
    )


def ranges_unknown(error: BaseException) -> bool:
    """Whether the store returns the whole for a request for a part, or refuses it."""
    return (
        status(error) == 416
        or "non-partial response" in str(error)
        or "Content-Range" in str(error)
    )


def explain(doing: str, address: Address, error: BaseException) -> StorageError:
    """The error "cannot `doing` (such as write) this place": why, and what to do."""
    why, fix = _reason(address, error)
    return StorageError(f"cannot {doing} {address.url}", why=why, fix=fix)


def _reason(address: Address, error: BaseException) -> tuple[str, str]:
    name, returned, text = code(error), status(error), str(error)
    names = ", ".join(address.credentials)
    if misled(error):
        return "it redirects to another host, which is not asked", (
            f"do not trust this store, or name the right one in {address.endpoint_variable}"
        )
    if no_credentials(error):
        return "no credentials were found", f"set {names}"
    if name in _NO_BUCKET:
        return f"there is no {address.noun} '{address.bucket}'{address.at}", (
            f"create it with your provider's tool, or check the name and {address.endpoint_variable}"
        )
    if name in _WRONG_KEY:
        return f"the access key is not known there ({name})", f"check {names}"
    if name in _WRONG_SECRET:
        return f"the secret does not match the access key ({name})", f"check {names}"
    if name in _EXPIRED:
        return (
            f"the credentials have expired, or this machine's clock is wrong ({name})",
            f"renew {names}",
        )
    if type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"} or returned in {
        401,
        403,
    }:
        why = (
            "your credentials are not accepted there"
            if returned == 401
            else "you may not do that there"
        )
        return (
            f"{why} ({name or returned})",
            f"check {names}, and what they may do in '{address.bucket}'",
        )
    if returned in {429, 503}:
        return (
            f"it is too busy ({returned}) and stayed so",
            "try again later; what was sent is kept",
        )
    kind = _KIND.search(text)
    if returned is None and kind:
        failure = {"Connect": "cannot connect", "Timeout": "no response in time"}.get(
            kind[1], "the connection broke"
        )
        return f"{failure}{address.at}", f"check the network and {address.endpoint_variable}"
    response = " ".join(filter(None, [str(returned or ""), name])) or type(error).__name__
    return f"the store returned {response}", f"check {address.endpoint_variable}, then try again"
