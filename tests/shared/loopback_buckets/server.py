"""What both stores have in common: objects with a generation, conditions, pages of a list, parts, and a server."""

from __future__ import annotations

import secrets
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PAGE = 3  # small, so that every list of a test has several


@dataclass(frozen=True)
class Object:
    """The bytes of a key, and what was noted with them."""

    data: bytes
    generation: int
    changed: datetime
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{md5(self.data, usedforsecurity=False).hexdigest()}-{self.generation}"'

    @property
    def when(self) -> str:
        """As an HTTP header says it."""
        return format_datetime(self.changed, usegmt=True)


@dataclass(frozen=True)
class Request:
    """One request, read whole."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Any
    body: bytes

    def notes(self, prefix: str) -> dict[str, str]:
        """The headers by which a client notes something with an object."""
        names = {name.lower(): value for name, value in self.headers.items()}
        return {
            name.removeprefix(prefix): value
            for name, value in names.items()
            if name.startswith(prefix)
        }


@dataclass(frozen=True)
class Response:
    """A status, headers and a body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Buckets:
    """A running store. Subclasses say in `respond` what its requests mean; every bucket exists."""

    scheme: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # for what its users keep in files
        self.objects: dict[tuple[str, str], Object] = {}  # by bucket and key
        self.parts: dict[tuple[str, str], bytes] = {}  # by upload and part
        self.asked: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        self._generation = 0
        buckets = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.command, unquote(parts.path), query, self.headers, body)
                with buckets.lock:
                    buckets.asked.append((self.command, self.path))
                    said = buckets.respond(request)
                self.send_response(said.status)
                for name, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(said.body)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):  # every other method
                    return self.do_GET
                raise AttributeError(name)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"

    def respond(self, request: Request) -> Response:
        """What the store does."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What a user sets to reach it."""
        raise NotImplementedError

    def root(self) -> str:
        """A place of nothing."""
        return f"team-{secrets.token_hex(6)}/adapters"

    def put(self, bucket: str, key: str, data: bytes, notes: Mapping[str, str]) -> Object:
        """Store an object under the next generation."""
        self._generation += 1
        made = self.objects[bucket, key] = Object(data, self._generation, datetime.now(UTC), notes)
        return made

    def page(self, bucket: str, prefix: str, after: str) -> tuple[list[tuple[str, Object]], str]:
        """Some of a bucket's objects in order, and after which the next ones come; empty at the end."""
        found = sorted(
            (key, one)
            for (where, key), one in self.objects.items()
            if where == bucket and key.startswith(prefix) and key > after
        )
        return found[:PAGE], found[PAGE - 1][0] if len(found) > PAGE else ""

    def part_of(self, request: Request, data: bytes) -> tuple[int, bytes, dict[str, str]]:
        """What a Range header asks for: status, bytes, headers."""
        asked = request.headers.get("Range")
        if not asked:
            return 200, data, {}
        begin, _, end = asked.removeprefix("bytes=").partition("-")
        first, last = int(begin), min(int(end) if end else len(data) - 1, len(data) - 1)
        if first >= len(data):
            return 416, b"", {"Content-Range": f"bytes */{len(data)}"}
        return (
            206,
            data[first : last + 1],
            {"Content-Range": f"bytes {first}-{last}/{len(data)}"},
        )

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Self]:
        """The store, until the block ends."""
        store = cls(folder)
        serve = threading.Thread(target=store._server.serve_forever, args=(0.05,), daemon=True)
        serve.start()
        try:
            yield store
        finally:
            store._server.shutdown()
            store._server.server_close()
