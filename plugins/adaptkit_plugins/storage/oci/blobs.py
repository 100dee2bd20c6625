"""Blobs of a repository: looked for, mounted, sent in pieces that go on where they broke, fetched likewise."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from adaptkit.errors import Corrupt, StorageError
from adaptkit.extend import no_progress
from adaptkit_plugins.storage.oci.requests import TRIES, Broken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from adaptkit.extend import Progress
    from adaptkit_plugins.storage.oci.requests import Requests

SMALL = 8 << 20  # bytes; what is not larger goes in one PUT
PIECE = 64 << 20  # bytes of one PATCH; smaller ones cost a round trip each
_READ = 1 << 20
_DELETED, _NOT_ALLOWED = (200, 202, 204, 404), (400, 401, 403, 405, 501)
_seen: dict[tuple[str, str], str] = {}
"""(host, digest) → a repository there in which this process has seen the blob: it can be mounted from it."""


class Expired(Exception):
    """The registry has forgotten an upload."""


class Blobs:
    """The blobs of one repository; digests are `sha256:…`."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._host, self._repository = requests.address.host, requests.address.repository

    def has(self, digest: str) -> bool:
        """Whether the registry says that it holds the blob in this repository."""
        url = self._requests.url(f"blobs/{digest}")
        answer = self._requests.send(
            "HEAD", url, doing="read", scope=self._requests.writing, accept=(200, 404)
        )
        if answer.status_code == 200:
            _seen[self._host, digest] = self._repository
        return answer.status_code == 200

    def put(
        self,
        digest: str,
        source: Path | bytes,
        size: int,
        progress: Progress,
        *,
        anew: bool = False,
    ) -> int:
        """Bring a blob there, unless it is; the bytes that crossed. `anew` sends it whatever the registry says."""
        if not anew and self.has(digest):
            progress(size)
            return 0
        told = 0

        def tell(done: int) -> None:  # what is sent again is counted once
            nonlocal told
            if done > told:
                progress(done - told)
                told = done

        for attempt in range(1, TRIES + 1):
            location = self._begin(digest, mount=not anew and attempt == 1)
            if location is None:  # it was mounted
                progress(size)
                return 0
            try:
                if self._send(location, digest, source, size, tell):
                    _seen[self._host, digest] = self._repository
                    return size
            except (Expired, Broken):
                if attempt < TRIES:
                    self._requests.pause(0.1 * attempt)
                continue
            if attempt == 2:  # twice other bytes than were sent
                raise StorageError(
                    f"cannot write {self._requests.address.url}",
                    why="the registry got other bytes than were sent (DIGEST_INVALID)",
                    fix="something on the way changes what is sent: a proxy, or a broken disk there",
                )
        raise StorageError(
            f"cannot write {self._requests.address.url}",
            why=f"the registry broke off {TRIES} uploads",
            fix="try again later; what was finished is kept",
        )

    def small(self, digest: str, largest: int) -> bytes:
        """A small blob, verified; `Corrupt` when it is larger, or is not what its digest says."""
        data = bytearray()
        for piece in self._pieces(digest, largest):
            data += piece
        if len(data) > largest:
            raise Corrupt(
                f"a file of {self._requests.address.url} is too large",
                why=f"more than {largest:,} bytes",
            )
        if f"sha256:{sha256(data).hexdigest()}" != digest:
            raise Corrupt(
                f"{digest[:19]}… of {self._requests.address.url} is corrupt",
                why="its bytes are not what its digest says",
                fix="ask who pushed it to push it again",
            )
        return bytes(data)

    def fetch(self, digest: str, size: int, target: Path, progress: Progress) -> None:
        """Write a blob to a file: never more than `size` bytes and one. The caller verifies it."""
        with target.open("xb") as file:
            for piece in self._pieces(digest, size):
                file.write(piece)
                progress(len(piece))

    def trial(self) -> bool:
        """Write a few bytes nobody else has, read them back, compare, and delete them; False when that is not allowed."""
        data = os.urandom(32)
        digest = f"sha256:{sha256(data).hexdigest()}"
        self.put(digest, data, len(data), no_progress)
        try:
            self.small(digest, len(data))  # compares
        finally:
            _seen.pop((self._host, digest), None)
            gone = self._requests.send(
                "DELETE",
                self._requests.url(f"blobs/{digest}"),
                doing="write",
                scope=self._requests.writing,
                accept=_DELETED + _NOT_ALLOWED,
            )
        return gone.status_code in _DELETED

    # ------------------------------------------------------------ how

    def _begin(self, digest: str, *, mount: bool) -> str | None:
        """Where to send a blob; None when the registry took it from another repository."""
        url, other = self._requests.url("blobs/uploads/"), _seen.get((self._host, digest))
        if mount and other and other != self._repository:
            url += f"?mount={quote(digest, safe='')}&from={quote(other, safe='')}"
        answer = self._requests.send(
            "POST", url, doing="write", scope=self._requests.writing, accept=(201, 202)
        )
        if answer.status_code == 201:
            _seen[self._host, digest] = self._repository
            return None
        return _location(answer)

    def _send(
        self, location: str, digest: str, source: Path | bytes, size: int, tell: Progress
    ) -> bool:
        """Send a blob to an upload; False when the registry finds that its digest is not the one."""
        if size > SMALL:
            done = 0
            while done < size:
                location, done = self._piece(location, source, done, min(PIECE, size - done), tell)
            return self._finish(location, digest, b"")
        data = source if isinstance(source, bytes) else source.read_bytes()
        finished = self._finish(location, digest, data)
        tell(size)
        return finished

    def _piece(
        self, location: str, source: Path | bytes, start: int, count: int, tell: Progress
    ) -> tuple[str, int]:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{start}-{start + count - 1}",
            "Content-Length": str(count),
        }
        try:
            answer = self._requests.send(
                "PATCH",
                location,
                doing="write",
                scope=self._requests.writing,
                accept=(202, 201, 204, 404, 416),
                repeat=False,
                headers=headers,
                content=lambda: _bytes(source, start, count, tell),
            )
        except Broken:
            return self._reached(location, start + count)
        if answer.status_code == 404:
            raise Expired
        if answer.status_code == 416:
            return self._reached(location, start + count)
        return _location(answer), start + count

    def _reached(self, location: str, most: int) -> tuple[str, int]:
        """How far an upload came whose last answer was lost."""
        answer = self._requests.send(
            "GET",
            location,
            doing="write",
            scope=self._requests.writing,
            accept=(204, 202, 200, 404),
        )
        first, dash, last = answer.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if answer.status_code == 404 or not dash or first != "0" or not last.isdecimal():
            raise Expired
        done = int(last) + 1
        if done > most or done < 2:  # "0-0" is said of one byte and of none
            raise Expired
        return _location(answer), done

    def _finish(self, location: str, digest: str, data: bytes) -> bool:
        url = f"{location}{'&' if '?' in location else '?'}digest={quote(digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))}
        try:
            answer = self._requests.send(
                "PUT",
                url,
                doing="write",
                scope=self._requests.writing,
                accept=(201, 204, 400, 404, 416),
                repeat=False,
                headers=headers,
                content=data,
            )
        except Broken:
            if self.has(digest):  # only the answer was lost
                return True
            raise
        if answer.status_code in {201, 204}:
            return True
        if "DIGEST_INVALID" in self._requests.codes(answer):
            return False
        if answer.status_code in {404, 416}:
            raise Expired
        raise self._requests.refusal("write", answer)

    def _pieces(self, digest: str, most: int) -> Iterator[bytes]:
        """The bytes of a blob, at most `most` and one, going on where a connection broke."""
        import httpx

        done = 0
        for attempt in range(1, TRIES + 1):
            headers = {"Range": f"bytes={done}-"} if done else {}
            answer = self._requests.send(
                "GET",
                self._requests.url(f"blobs/{digest}"),
                doing="read",
                accept=(200, 206, 404, 416),
                stream=True,
                headers=headers | {"Accept-Encoding": "identity"},
            )
            try:
                if answer.status_code == 404:
                    raise StorageError(
                        f"{digest[:19]}… of {self._requests.address.url} is missing",
                        why="the registry no longer has this blob",
                        fix="pull another version, or ask for a new push",
                    )
                skip = (
                    0 if answer.status_code == 206 else done
                )  # a whole again: what is here already is passed over
                whole = int(answer.headers.get("Content-Length") or 0) + (
                    done if answer.status_code == 206 else 0
                )
                if answer.status_code == 416:
                    return
                for data in answer.iter_raw(_READ):
                    piece = data[skip:]
                    skip -= min(skip, len(data))
                    kept = piece[: most + 1 - done]
                    done += len(kept)
                    if kept:
                        yield kept
                    if done > most:
                        return
                if done >= whole:
                    return
            except httpx.HTTPError:
                pass
            finally:
                answer.close()
            self._requests.pause(0.1 * attempt)
        raise StorageError(
            f"cannot read {self._requests.address.url}",
            why=f"the connection broke {TRIES} times",
            fix="check the network, then try again",
        )


def _bytes(source: Path | bytes, start: int, count: int, tell: Progress) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source[start : start + count]
        tell(start + count)
        return
    with source.open("rb") as file:
        file.seek(start)
        done = 0
        while done < count and (piece := file.read(min(_READ, count - done))):
            yield piece
            done += len(piece)
            tell(start + done)


def _location(answer: httpx.Response) -> str:
    return urljoin(
        str(answer.request.url), str(answer.headers.get("Location") or answer.request.url)
    )
