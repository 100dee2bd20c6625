"""Blobs of a repository: looked for, mounted, sent in pieces that go on where they broke, fetched likewise."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

from adaptkit.errors import Corrupt, StorageError, Unresponsive
from adaptkit.extend import no_progress
from adaptkit.io.http.addresses import joined
from adaptkit.io.http.client import retry
from adaptkit.io.http.limits import TooLarge, TooSlow, refuse_compressed
from adaptkit_plugins.storage.oci import images
from adaptkit_plugins.storage.oci.errors import (
    Broken,
    Expired,
    WrongDigest,
    codes,
    failed,
    refused,
    too_long,
)
from adaptkit_plugins.storage.oci.retries import download_transient, upload_transient, wait_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from adaptkit.extend import Progress
    from adaptkit_plugins.storage.oci.client import Client

SMALL = 8 << 20  # bytes; what is not larger goes in one PUT
PIECE = 64 << 20  # bytes of one PATCH; smaller ones cost a round trip each
_READ = 1 << 20
_DELETED, _NOT_ALLOWED = (200, 202, 204, 404), (400, 401, 403, 405, 501)
_seen: dict[tuple[str, str], str] = {}
"""(host, digest) → a repository there in which this process has seen the blob: it can be mounted from it."""


class Blobs:
    """The blobs of one repository; digests are `sha256:…`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._host, self._repository = client.address.host, client.address.repository

    def has(self, digest: str) -> bool:
        """Whether the registry reports that it has the blob in this repository."""
        return self.size(digest) is not None

    def size(self, digest: str) -> int | None:
        """The size of a blob as the registry reports it, 0 when it does not say; None when it has no such blob."""
        url = self._client.url(f"blobs/{images.checked(digest, self._client.address.url)}")
        response = self._client.send(
            "HEAD", url, doing="read", scope=self._client.writing, accept=(200, 404)
        )
        if response.status_code != 200:
            return None
        _seen[self._host, digest] = self._repository
        stated = str(response.headers.get("Content-Length", ""))
        return int(stated) if stated.isdecimal() and len(stated) < 19 else 0

    def put(
        self,
        digest: str,
        source: Path | bytes,
        size: int,
        progress: Progress,
        *,
        anew: bool = False,
    ) -> int:
        """Bring a blob there, unless it is; the bytes that were sent. `anew` sends it whatever the registry reports."""
        if not anew and self.has(digest):
            progress(size)
            return 0
        counted, wrong = 0, 0

        def report(done: int) -> None:  # what is sent again is counted once
            nonlocal counted
            if done > counted:
                progress(done - counted)
                counted = done

        mount = not anew

        def upload() -> int:
            nonlocal mount
            location = self._begin(digest, mount=mount)
            mount = False
            if location is None:  # it was mounted
                progress(size)
                return 0
            self._send(location, digest, source, size, report)
            _seen[self._host, digest] = self._repository
            return size

        def again(error: Exception) -> bool:
            nonlocal wrong
            wrong += isinstance(error, WrongDigest)
            return wrong == 1 if isinstance(error, WrongDigest) else upload_transient(error)

        try:
            return retry(upload, transient=again, wait_asked=wait_asked)
        except WrongDigest:
            raise self._failed(
                "write",
                "the registry got other bytes than were sent (DIGEST_INVALID)",
                "something on the way changes what is sent: a proxy, or a broken disk there",
            ) from None
        except (Expired, Broken) as error:
            raise self._failed(
                "write",
                f"the registry broke off every upload{too_long(wait_asked(error))}",
                "try again later; what was finished is kept",
            ) from None

    def small(self, digest: str, largest: int) -> bytes:
        """A small blob, verified; `Corrupt` when it is larger, or does not match its digest."""
        data = bytearray()
        self._read(digest, largest, data.extend)
        if len(data) > largest:
            raise Corrupt(
                f"a file of {self._client.address.url} is too large",
                why=f"more than {largest:,} bytes",
            )
        if f"sha256:{sha256(data).hexdigest()}" != digest:
            raise Corrupt(
                f"{digest[:19]}… of {self._client.address.url} is corrupt",
                why="its bytes do not match its digest",
                fix="ask who pushed it to push it again",
            )
        return bytes(data)

    def fetch(self, digest: str, size: int, target: Path, progress: Progress) -> None:
        """Write a blob to a file: never more than `size` bytes and one. The caller verifies it."""
        with target.open("xb") as file:

            def keep(piece: bytes) -> None:
                file.write(piece)
                progress(len(piece))

            self._read(digest, size, keep)

    def trial(self) -> bool:
        """Write a few random bytes, read them back, compare, and delete them; False when that is not allowed."""
        data = os.urandom(32)
        digest = f"sha256:{sha256(data).hexdigest()}"
        self.put(digest, data, len(data), no_progress)
        try:
            self.small(digest, len(data))  # compares
        finally:
            _seen.pop((self._host, digest), None)
            gone = self._client.send(
                "DELETE",
                self._client.url(f"blobs/{digest}"),
                doing="write",
                scope=self._client.writing,
                accept=_DELETED + _NOT_ALLOWED,
            )
        return gone.status_code in _DELETED

    # ------------------------------------------------------------ how

    def _begin(self, digest: str, *, mount: bool) -> str | None:
        """Where to send a blob; None when the registry took it from another repository."""
        url, other = self._client.url("blobs/uploads/"), _seen.get((self._host, digest))
        if mount and other and other != self._repository:
            url += f"?mount={quote(digest, safe='')}&from={quote(other, safe='')}"
        response = self._client.send(
            "POST", url, doing="write", scope=self._client.writing, accept=(201, 202)
        )
        if response.status_code == 201:
            _seen[self._host, digest] = self._repository
            return None
        return _location(response)

    def _send(
        self, location: str, digest: str, source: Path | bytes, size: int, report: Progress
    ) -> None:
        """Send a blob to an upload; a large one in pieces, each going on where the registry has got to."""
        if size <= SMALL:
            data = source if isinstance(source, bytes) else source.read_bytes()
            self._finish(location, digest, data)
            report(size)
            return
        done, lost = 0, False

        def go_on() -> None:
            nonlocal location, done, lost
            while done < size:
                count = min(PIECE, size - done)
                if lost:
                    location, done = self._reached(location, done + count)
                    lost = False
                    continue
                lost = True
                location, done = self._piece(location, source, done, count, report)
                lost = False

        try:
            retry(
                go_on,
                transient=lambda error: isinstance(error, Broken),
                wait_asked=wait_asked,
                advanced=lambda: done,
            )
        except Broken as error:
            raise self._failed(
                "write",
                f"the registry broke off every upload{too_long(error.wait_asked)}",
                "try again later; what was finished is kept",
            ) from None
        self._finish(location, digest, b"")

    def _piece(
        self, location: str, source: Path | bytes, start: int, count: int, report: Progress
    ) -> tuple[str, int]:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{start}-{start + count - 1}",
            "Content-Length": str(count),
        }
        response = self._client.send(
            "PATCH",
            location,
            doing="write",
            scope=self._client.writing,
            accept=(202, 201, 204, 404, 416),
            repeat=False,
            headers=headers,
            content=lambda: _bytes(source, start, count, report),
        )
        if response.status_code == 404:
            raise Expired
        if response.status_code == 416:
            raise Broken("416")
        return _location(response), start + count

    def _reached(self, location: str, most: int) -> tuple[str, int]:
        """How far an upload came whose last response was lost."""
        response = self._client.send(
            "GET",
            location,
            doing="write",
            scope=self._client.writing,
            accept=(204, 202, 200, 404),
        )
        first, dash, last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if response.status_code == 404 or not dash or first != "0" or not last.isdecimal():
            raise Expired
        done = int(last) + 1
        if done > most or done < 2:  # "0-0" means one byte or none
            raise Expired
        return _location(response), done

    def _finish(self, location: str, digest: str, data: bytes) -> None:
        """Finish an upload with its last bytes; `WrongDigest` when the registry got others."""
        url = f"{location}{'&' if '?' in location else '?'}digest={quote(digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))}
        try:
            response = self._client.send(
                "PUT",
                url,
                doing="write",
                scope=self._client.writing,
                accept=(201, 204, 400, 404, 416),
                repeat=False,
                headers=headers,
                content=data,
            )
        except Broken:
            if self.has(digest):  # only the response was lost
                return
            raise
        if response.status_code in {201, 204}:
            return
        if "DIGEST_INVALID" in codes(response):
            raise WrongDigest
        if response.status_code in {404, 416}:
            raise Expired
        raise refused("write", self._client.address, response)

    def _read(self, digest: str, most: int, keep: Callable[[bytes], object]) -> None:
        """Hand the bytes of a blob to `keep`, at most `most` and one, going on where a connection broke."""
        import httpx

        done = 0
        url = self._client.url(f"blobs/{images.checked(digest, self._client.address.url)}")

        def go_on() -> None:
            nonlocal done
            headers = {"Range": f"bytes={done}-"} if done else {}
            response = self._client.send(
                "GET",
                url,
                doing="read",
                accept=(200, 206, 404, 416),
                stream=True,
                headers=headers | {"Accept-Encoding": "identity"},
            )
            try:
                if response.status_code == 404:
                    raise StorageError(
                        f"{digest[:19]}… of {self._client.address.url} is missing",
                        why="the registry no longer has this blob",
                        fix="pull another version, or ask for a new push",
                    )
                if response.status_code == 416:
                    return
                resumed = done if response.status_code == 206 else 0
                skip = done - resumed  # a whole again: what is here already is passed over
                refuse_compressed(response.headers)
                stated = str(response.headers.get("Content-Length", ""))
                whole = (int(stated) if stated.isdecimal() and len(stated) < 19 else 0) + resumed
                for data in response.iter_raw(_READ):
                    kept = data[skip:][: most + 1 - done]
                    skip -= min(skip, len(data))
                    if kept:
                        keep(kept)
                        done += len(kept)
                    if done > most:
                        return
                if done < whole:
                    raise Broken("the response ended too early")
            finally:
                response.close()

        try:
            retry(go_on, transient=download_transient, advanced=lambda: done)
        except (TooSlow, TooLarge) as error:
            raise Unresponsive(
                f"cannot read {self._client.address.url}",
                why=str(error),
                fix="do not trust this registry",
            ) from None
        except (httpx.HTTPError, Broken):
            raise self._failed(
                "read", "the connection broke again and again", "check the network, then try again"
            ) from None

    def _failed(self, doing: str, why: str, fix: str) -> StorageError:
        return failed(doing, self._client.address, why, fix)


def _bytes(source: Path | bytes, start: int, count: int, report: Progress) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source[start : start + count]
        report(start + count)
        return
    with source.open("rb") as file:
        file.seek(start)
        done = 0
        while done < count and (piece := file.read(min(_READ, count - done))):
            yield piece
            done += len(piece)
            report(start + done)


def _location(response: httpx.Response) -> str:
    return joined(
        str(response.request.url), str(response.headers.get("Location") or response.request.url)
    )
