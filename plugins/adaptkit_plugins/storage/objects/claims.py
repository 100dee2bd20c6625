"""Who may write below `vN/`: those who hold its claim, which names the files that it will hold.

Where the store creates only what is new, the claim is one key that is created once; somebody who pushes just the
same files joins it, for what both write is the same, and so does the push that follows a killed one. Where the
store ignores conditions, each writer puts a key of its own and lists: whoever sees another withdraws, so of two at
once at most one goes on.

A claim is taken away once `adaptkit.json` is there. A writer that comes late creates the claim anew, but then sees
`adaptkit.json` and writes nothing.
"""

from __future__ import annotations

import json
import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit.errors import Corrupt, StorageError
from adaptkit.extend.versioned_storage import MANIFEST
from adaptkit.types import digest_of
from adaptkit_plugins.storage.objects.bucket import Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore import ObjectMeta

    from adaptkit.extend import Bundle
    from adaptkit_plugins.storage.objects.bucket import Bucket

CLAIM = ".adaptkit-claim"
JOINABLE = (
    12 * 3600
)  # seconds; half of what makes a claim stale, so that no push joins what is being swept
STALE = 24 * 3600
_LARGEST = 4096
_PATIENCE = 12  # times that another writer of the same files is waited for
_WAIT = 0.1  # seconds, growing


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write below `vN/`, and what is stored there already."""

    path: str
    content: str
    there: Mapping[str, ObjectMeta]


def content_of(bundle: Bundle) -> str:
    """What distinguishes two pushes of the same files from two of different ones."""
    return digest_of([[entry.path, entry.size, entry.sha256] for entry in sorted(bundle.files)])


def take(
    bucket: Bucket,
    number: int,
    content: str,
    *,
    create_only: bool,
    pause: Callable[[float], None] = time.sleep,
) -> Claim | None:
    """Claim a number; None when somebody else has it."""
    return (
        _create(bucket, number, content)
        if create_only
        else _compete(bucket, number, content, pause)
    )


def begun(bucket: Bucket, entries: Mapping[str, ObjectMeta], content: str) -> list[int]:
    """The unfinished versions that hold, or will hold, just these files; old ones are left to the sweep."""
    numbers = {}
    for path, meta in entries.items():
        folder, _, name = path.partition("/")
        young = time.time() - meta["last_modified"].timestamp() < JOINABLE
        if name.startswith(CLAIM) and young and f"{folder}/{MANIFEST}" not in entries:
            numbers[path] = int(folder[1:]) if folder[1:].isdecimal() else 0
    return sorted(
        {
            number
            for path, number in numbers.items()
            if number and _content(bucket, path)[0] == content
        }
    )


def release(bucket: Bucket, claim: Claim, *, create_only: bool) -> None:
    """A push that failed: its files stay for the next one, which need not wait for this writer."""
    if not create_only:
        with suppress(StorageError):
            bucket.put(claim.path, _body(claim.content, released=True))


def stale(entries: Mapping[str, ObjectMeta], now: float) -> list[str]:
    """What to sweep, in this order: unfinished versions that were not touched for a day, claims that were left behind."""
    folders: dict[str, list[str]] = {}
    for path in entries:
        folders.setdefault(path.partition("/")[0], []).append(path)
    swept: list[str] = []
    for folder, paths in folders.items():
        claims = [path for path in paths if path.startswith(f"{folder}/{CLAIM}")]
        newest = max(entries[path]["last_modified"].timestamp() for path in paths)
        if claims and now - newest > STALE:
            payload = (
                []
                if f"{folder}/{MANIFEST}" in entries
                else [path for path in paths if path not in claims]
            )
            swept += (
                payload + claims
            )  # a claim goes last: it is what names the folder as ours to sweep
    return swept


def _create(bucket: Bucket, number: int, content: str) -> Claim | None:
    path = f"v{number}/{CLAIM}"
    try:
        bucket.put(path, _body(content), "create")
    except Taken:
        if _content(bucket, path)[0] != content:
            return None
    there = bucket.entries(f"v{number}")
    if f"v{number}/{MANIFEST}" in there:
        bucket.delete([path])
        return None
    return Claim(path, content, there)


def _compete(
    bucket: Bucket, number: int, content: str, pause: Callable[[float], None]
) -> Claim | None:
    for attempt in range(_PATIENCE):
        path = f"v{number}/{CLAIM}-{os.urandom(8).hex()}"
        bucket.put(path, _body(content))
        there = bucket.entries(f"v{number}")
        others = [p for p in there if p.startswith(f"v{number}/{CLAIM}") and p != path]
        claims = [_content(bucket, other) for other in others]
        if f"v{number}/{MANIFEST}" not in there and all(
            of == content and free for of, free in claims
        ):
            return Claim(path, content, there)
        bucket.delete([path])
        pause(random.uniform(0.3, 1.0) * _WAIT * min(attempt + 1, 8))  # noqa: S311
        if f"v{number}/{MANIFEST}" in there or any(of not in {content, ""} for of, _ in claims):
            return None
    return None


def _body(content: str, *, released: bool = False) -> bytes:
    return json.dumps({"content": content, "released": released}).encode()


def _content(bucket: Bucket, path: str) -> tuple[str, bool]:
    """What a claim holds, and whether its writer has let go of it; nothing when it is gone or none."""
    try:
        body = json.loads(bucket.get(path, _LARGEST)[0])
        return str(body["content"]), body["released"] is True
    except (FileNotFoundError, Corrupt, ValueError, KeyError, TypeError, RecursionError):
        return "", False
