"""What a place does with its bucket: small objects, large ones in parts, copies, listings; every failure one of our errors."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from adaptkit.errors import Corrupt, StorageError, Unresponsive
from adaptkit_plugins.storage.objects import errors
from adaptkit_plugins.storage.objects.retries import persist
from adaptkit_plugins.storage.objects.waiting import CHUNK, Flood, Silent, wait, wait_for_page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from obstore import GetOptions, ObjectMeta, PutMode, PutResult

    from adaptkit.extend import Progress
    from adaptkit.types import FileEntry
    from adaptkit_plugins.storage.objects.address import Address, Store

T = TypeVar("T")
PART = 8 << 20  # bytes; what is larger goes up in parts, some at a time
_PARTS_AT_ONCE = 8
_PIECE = 1 << 20
_MOST_KEYS = 100_000
_LONGEST_LIST = 15.0  # seconds
_WRITE, _COPY = 30.0, 600.0  # seconds in which a small write, or a copy within the store, ends
_SLOWEST = 10_000  # bytes a second that a write may take longer by
_PANICS = {"PanicException", "RustPanic"}  # what Rust's own failures are to Python
BROKEN = "kind: Body"  # as obstore names a connection that broke in the middle


class Taken(Exception):
    """A conditional write lost: the object is there already, or is no longer what it was."""


class Bucket:
    """The objects below one place. Paths are relative to the place."""

    def __init__(self, address: Address) -> None:
        self.address = address
        # one client that leaves trying again to `persist`, and one that repeats a part by itself
        self._store: Store = address.store(retries=0)
        self._parts: Store = address.store(retries=5)

    def entries(self, prefix: str = "") -> dict[str, ObjectMeta]:
        """Everything below the place (or a folder of it), by path."""
        import obstore

        root = f"{self.address.prefix}/" if self.address.prefix else ""

        def work() -> dict[str, ObjectMeta]:
            found: dict[str, ObjectMeta] = {}
            below, begun = self.address.key(prefix), time.monotonic()
            pages = obstore.list(self._store, below or None, chunk_size=1000)
            while page := wait_for_page(lambda: _next(pages)):
                found.update((meta["path"].removeprefix(root), meta) for meta in page)
                if len(found) > _MOST_KEYS or time.monotonic() - begun > _LONGEST_LIST:
                    raise Unresponsive(
                        f"cannot list {self.address.url}",
                        why=f"the list does not end: it goes on after {len(found):,} objects",
                        fix="give the adapter a folder of its own",
                    )
            return found

        try:
            return self._explained("read", prefix, work)
        except FileNotFoundError:
            return {}

    def get(self, path: str, largest: int) -> tuple[bytes, PutMode]:
        """A small object, and what a conditional write that replaces it must name.

        `FileNotFoundError` when it is not there, `Corrupt` when it is larger.
        """
        import obstore

        too_large = Corrupt(
            f"{self.address.url}/{path} is too large", why=f"more than {largest:,} bytes"
        )

        def work() -> tuple[bytes, PutMode]:
            response = wait(lambda: obstore.get_async(self._store, self.address.key(path)))
            if response.meta["size"] > largest:
                raise too_large
            data, pieces = bytearray(), response.stream(CHUNK)
            while len(data) <= largest and (piece := wait(lambda: _next(pieces))):
                data += bytes(piece)
            if len(data) > largest:
                raise too_large
            if len(data) < response.meta["size"]:
                raise ConnectionError(BROKEN)
            return bytes(data), _named(response.meta)

        return self._explained("read", path, work)

    def attributes(self, path: str) -> Mapping[str, str]:
        """What was noted beside an object when it was put."""
        import obstore

        return self._explained(
            "read",
            path,
            lambda: {
                str(k): str(v)
                for k, v in wait(
                    lambda: obstore.get_async(self._store, self.address.key(path))
                ).attributes.items()
            },
        )

    def put(
        self,
        path: str,
        data: bytes,
        mode: PutMode = "overwrite",
        note: Mapping[str, str] | None = None,
    ) -> PutMode:
        """Put a small object; returns what a conditional write that replaces it must name. `Taken` when one lost."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def work() -> PutMode:
            try:
                done = wait(
                    lambda: obstore.put_async(
                        self._store,
                        self.address.key(path),
                        data,
                        mode=mode,
                        attributes=dict(note or {}),
                        use_multipart=False,
                    ),
                    _WRITE + len(data) / _SLOWEST,
                )
            except (AlreadyExistsError, PreconditionError):
                raise Taken(path) from None
            except FileNotFoundError as error:
                raise _vanished(error) from None
            return _named(done)

        return self._explained("write", path, work)

    def upload(self, path: str, entry: FileEntry, source: Path, progress: Progress) -> None:
        """Put a file, a large one in parts; bytes that differ from `entry` never become an object."""
        from concurrent.futures import Future, ThreadPoolExecutor, wait

        import obstore

        reported = 0

        def pieces() -> Iterator[bytes]:
            nonlocal reported
            hashed, sent = sha256(), 0
            with (
                source.open("rb") as file,
                ThreadPoolExecutor(1) as beside,
            ):  # hashing costs as much as sending
                hashing: deque[Future[None]] = deque()
                while piece := file.read(_PIECE):
                    hashing.append(beside.submit(hashed.update, piece))
                    if len(hashing) > _PARTS_AT_ONCE:
                        hashing.popleft().result()
                    sent += len(piece)
                    if sent >= entry.size:
                        wait(hashing)
                        _check(entry, sent, hashed.hexdigest())
                    yield piece
                    if sent > reported:  # a file that is sent again is counted once
                        progress(sent - reported)
                        reported = sent
                wait(hashing)
            _check(entry, sent, hashed.hexdigest())

        def work() -> None:
            key = self.address.key(path)
            try:
                if entry.size > PART:
                    obstore.put(
                        self._parts,
                        key,
                        pieces(),
                        use_multipart=True,
                        chunk_size=PART,
                        max_concurrency=_PARTS_AT_ONCE,
                    )
                    return
                data = source.read_bytes()
                _check(entry, len(data), sha256(data).hexdigest())
                obstore.put(self._store, key, data, use_multipart=False)
            except FileNotFoundError as error:
                raise _vanished(error) from None
            progress(entry.size)

        self._explained("write", path, work)

    def copy(self, source: str, target: str) -> bool:
        """Copy within the bucket, where the store can; False when it cannot, or the source is gone."""
        import obstore

        try:
            self._explained(
                "copy",
                target,
                lambda: wait(
                    lambda: obstore.copy_async(
                        self._store, self.address.key(source), self.address.key(target)
                    ),
                    _COPY,
                ),
            )
        except (StorageError, FileNotFoundError):
            return False
        return True

    def download(self, path: str, size: int, target: Path, progress: Progress) -> None:
        """Write an object to a file, going on where a broken connection stopped; never more than `size` bytes and one."""
        import obstore
        from obstore.exceptions import BaseError

        key, done, reported, ranges = self.address.key(path), 0, 0, True
        with target.open("xb") as file:

            def work() -> None:
                nonlocal done, reported, ranges
                if not ranges:
                    done = file.seek(0)
                    file.truncate()
                try:
                    options: GetOptions = {"range": {"offset": done}} if done else {}
                    response = wait(lambda: obstore.get_async(self._parts, key, options=options))
                    pieces = response.stream(CHUNK)
                    while piece := wait(lambda: _next(pieces)):
                        kept = bytes(piece)[: size + 1 - done]
                        done += file.write(kept)
                        if done > reported:  # what comes again is counted once
                            progress(done - reported)
                            reported = done
                        if done > size:
                            return
                except BaseError as error:
                    if not errors.ranges_unknown(error):
                        raise
                    ranges = False  # from the start, then
                    raise ConnectionError(BROKEN) from None
                if done < response.meta["size"]:
                    raise ConnectionError(BROKEN)

            self._explained("read", path, work)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; one that is gone already is no failure."""
        import obstore

        for path in paths:  # each by itself: not every store supports a request for many

            def work(path: str = path) -> None:
                wait(lambda: obstore.delete_async(self._store, [self.address.key(path)]), _WRITE)

            try:
                self._explained("delete from", path, work)
            except FileNotFoundError:
                continue

    def _explained(self, doing: str, path: str, work: Callable[[], T]) -> T:
        with self._errors_explained(doing):
            return persist(work, self._store, self.address.key(path))

    @contextmanager
    def _errors_explained(self, doing: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except Silent as error:
            raise Unresponsive(
                f"cannot {doing} {self.address.url}",
                why=f"the store is too slow: {error}",
                fix="try again later",
            ) from None
        except Flood as error:
            raise Unresponsive(
                f"cannot {doing} {self.address.url}",
                why=f"the list is too large: {error}",
                fix="do not trust this store, or try again while nothing else runs in this process",
            ) from None
        except BaseException as error:
            if type(error).__name__ in _PANICS:
                raise StorageError(
                    f"cannot {doing} {self.address.url}",
                    why="its client broke off (a panic in obstore)",
                    fix=f"check {self.address.endpoint_variable}, and that obstore is up to date",
                ) from None
            if not isinstance(error, (BaseError, FileNotFoundError, ConnectionError, ValueError)):
                raise
            if errors.missing_key(error):
                raise FileNotFoundError from None
            failed = errors.explain(doing, self.address, error)
            if errors.not_supported(error):
                raise Unsupported(failed.what, why=failed.why, fix=failed.fix) from None
            raise failed from None


def _named(meta: ObjectMeta | PutResult) -> PutMode:
    """What distinguishes this state of an object: S3 and Azure compare the ETag, Google its generation."""
    names = ("e_tag", "version")
    return {name: meta[name] for name in names if meta.get(name)}  # type: ignore[literal-required,return-value]


async def _next(stream: AsyncIterator[T]) -> T | None:
    """The next of a stream; None at its end."""
    return await anext(stream, None)


class Unsupported(StorageError):
    """The store reports that it does not support this."""


def _vanished(error: FileNotFoundError) -> Exception:
    """What a write that finds no place to write to means: rclone removes a folder that is empty for a moment."""
    here = error.errno is not None  # the file to send is gone
    return error if here or not errors.missing_key(error) else ConnectionError(BROKEN)


def _check(entry: FileEntry, size: int, digest: str) -> None:
    if (size, digest) != (entry.size, entry.sha256):
        raise Corrupt(
            f"the file '{entry.path}' changed while it was pushed",
            why=f"{size:,} bytes of {entry.size:,} came, or others than its manifest says",
            fix="push it again",
        )
