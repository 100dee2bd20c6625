"""Small things that belong to a version and come after it, such as signatures: where places of folders keep them.

A version never changes, so what is attached to `v3/` lies beside it, in `v3.attached/KIND/ID/`, where ID is made of
the content: to attach the same twice is to attach it once. What is read back is hostile until checked.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from adaptkit.errors import StorageError
from adaptkit.types import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNATURE = "application/vnd.adaptkit.signature.v1+json"
MOMENTS = "application/vnd.adaptkit.moments.v1"
TRAVEL = (SIGNATURE, MOMENTS)
"""The kinds that adaptkit itself attaches: they go wherever their version is mirrored to."""
LARGEST = 4 << 20  # bytes of one file
MOST = 64  # of one kind that are read; a place could hold any number to keep its readers busy
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ID = re.compile(r"[0-9a-f]{32}")


def folder(number: int, kind: str) -> str:
    """Where what is attached to a version lies, relative to its place; `kind` is a media type."""
    return f"v{number}.attached/{re.sub('[^a-z0-9.]+', '-', kind.lower())}"


def identity(files: Mapping[str, bytes]) -> str:
    """The name of one attachment: of its files and their bytes."""
    return digest_of({name: sha256(data).hexdigest() for name, data in files.items()}).removeprefix(
        "sha256:"
    )[:32]


def check(url: str, files: Mapping[str, bytes]) -> None:
    """Refuse to attach what could not be read back; `StorageError` says why."""
    for name, data in files.items():
        if not allowed(name) or len(data) > LARGEST:
            raise StorageError(
                f"cannot attach {name[:64]!a} to a version in {url}",
                why=f"an attached file has a plain name and at most {LARGEST:,} bytes",
            )
    if not files:
        raise StorageError(
            f"cannot attach nothing to a version in {url}",
            why="an attachment has at least one file",
        )


def allowed(name: str) -> bool:
    """Whether a file of an attachment may be called so."""
    return _NAME.fullmatch(name) is not None and not name.endswith(".")


def absent(url: str, number: int) -> StorageError:
    """The sentence for attaching to a version that a place does not hold."""
    return StorageError(
        f"cannot attach to v{number} in {url}", why="it is not there", fix="push the version first"
    )
