"""A server on loopback that means harm to whoever reads from it, whatever protocol they speak.

The first word of a path that is one of `MODES` chooses what it does: `oci://HOST/trickle/naval`, `hf://trickle/naval`
and `s3://trickle/naval` all meet the same. A path that says `elsewhere` is answered with nothing, and remembered.
"""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES = (
    "trickle",
    "headers",
    "bomb",
    "flood",
    "oversized",
    "endless",
    "digests",
    "redirects",
    "metadata",
)
_EVIL = "sha256:../../../../v2/private/secret/blobs/sha256:" + "0" * 64
_PER_PAGE = 1000


class HostileServer:
    """Running; `asked` are the paths of all requests, `with_login` those of them that came with a login."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.with_login: list[str] = []
        self.over = threading.Event()
        self.elsewhere = ""
        """Where `redirects` leads to: the `host` of another server."""
        self.other: HostileServer | None = None
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hostile.asked.append(self.path)
                if self.headers.get("Authorization") or "X-Amz-Signature" in self.path:
                    hostile.with_login.append(self.path)
                mode = next((word for word in MODES if f"/{word}" in self.path), "trickle")
                if "/elsewhere/" in self.path:
                    mode = "nothing"
                with suppress(OSError):
                    getattr(hostile, mode)(self)
                self.close_connection = True

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):  # every other method
                    return self.do_GET
                raise AttributeError(name)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"

    def trickle(self, to: BaseHTTPRequestHandler) -> None:
        """A byte every fifth of a second."""
        to.send_response(200)
        to.send_header("Content-Type", "application/json")
        to.send_header("Content-Length", "1000000")
        to.end_headers()
        self._drip(to)

    def headers(self, to: BaseHTTPRequestHandler) -> None:
        """Headers that never end."""
        to.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self._drip(to)

    def bomb(self, to: BaseHTTPRequestHandler) -> None:
        """6.4 GB as a few megabytes of gzip."""
        data = gzip.compress(bytes(64 << 20), 9)
        to.send_response(200)
        to.send_header("Content-Encoding", "gzip")
        to.send_header("Content-Length", str(len(data) * 100))
        to.end_headers()
        for _ in range(100):  # members of gzip, one after the other
            to.wfile.write(data)

    def flood(self, to: BaseHTTPRequestHandler) -> None:
        """A body without an end."""
        to.send_response(200)
        to.send_header("Transfer-Encoding", "chunked")
        to.end_headers()
        piece = b'"' + b"x" * (1 << 20)
        while not self.over.is_set():
            to.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def oversized(self, to: BaseHTTPRequestHandler) -> None:
        """A body of 8 GB, as its header says."""
        to.send_response(200)
        to.send_header("Content-Length", str(8 << 30))
        to.end_headers()
        piece = b" " * (1 << 20)
        for _ in range(8 << 10):
            if self.over.is_set():
                break
            to.wfile.write(piece)

    def endless(self, to: BaseHTTPRequestHandler) -> None:
        """Lists of which each page names another one: of registries, of the Hub, of buckets."""
        count = len(self.asked)
        names = [f"v{count * _PER_PAGE + one + 1}" for one in range(_PER_PAGE)]
        data = json.dumps({"tags": names, "repositories": names}).encode()
        if "/api/" in to.path:
            listed = [
                {"id": name, "title": "", "message": "", "authors": [], "date": ""}
                for name in names
            ]
            data = json.dumps(listed).encode()
        elif "list-type=2" in to.path:
            data = _bucket_page(names, count)
        elif "comp=list" in to.path:
            data = _container_page(names, count)
        to.send_response(200)
        to.send_header("Connection", "close")  # a client would meet it closed only now and then
        to.send_header("Content-Length", str(len(data)))
        address = f"http://{self.host}{to.path.partition('?')[0]}?p={count}"
        to.send_header("Link", f'<{address}>; rel="next"')
        to.end_headers()
        to.wfile.write(data)

    def digests(self, to: BaseHTTPRequestHandler) -> None:
        """An image whose layer is a path to another repository."""
        body: dict[str, object] = {"tags": ["v1"]}
        if "manifests/" in to.path:
            title = {"org.opencontainers.image.title": "adaptkit.json"}
            body = {"layers": [{"digest": _EVIL, "size": 2, "annotations": title}]}
        self._send(to, json.dumps(body).encode())

    def redirects(self, to: BaseHTTPRequestHandler) -> None:
        """To another server, which is with_login nothing of whoever asks."""
        self._redirect(to, f"http://{self.elsewhere}/elsewhere/{to.path.lstrip('/')}")

    def metadata(self, to: BaseHTTPRequestHandler) -> None:
        """To the address at which a cloud gives credentials to its machines."""
        self._redirect(to, "http://169.254.169.254/latest/meta-data/")

    def nothing(self, to: BaseHTTPRequestHandler) -> None:
        """What another server has for whoever was sent there."""
        self._send(to, b"{}")

    def _send(self, to: BaseHTTPRequestHandler, data: bytes) -> None:
        to.send_response(200)
        to.send_header("Content-Length", str(len(data)))
        to.end_headers()
        to.wfile.write(data)

    def _redirect(self, to: BaseHTTPRequestHandler, address: str) -> None:
        to.send_response(307)
        to.send_header("Location", address)
        to.send_header("Content-Length", "0")
        to.end_headers()

    def _drip(self, to: BaseHTTPRequestHandler) -> None:
        while not self.over.wait(0.2):
            to.wfile.write(b"x")
            to.wfile.flush()


def _bucket_page(names: list[str], count: int) -> bytes:
    objects = "".join(
        f"<Contents><Key>endless/{name}</Key><Size>1</Size>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for name in names
    )
    return (
        "<ListBucketResult><IsTruncated>true</IsTruncated>"
        f"<NextContinuationToken>{count}</NextContinuationToken>{objects}</ListBucketResult>"
    ).encode()


def _container_page(names: list[str], count: int) -> bytes:
    blobs = "".join(
        f"<Blob><Name>endless/{name}</Name><Properties><Content-Length>1</Content-Length>"
        "<Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Content-Type>x</Content-Type>"
        "</Properties></Blob>"
        for name in names
    )
    return (
        f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{count}</NextMarker>"
        "</EnumerationResults>"
    ).encode()


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    """A hostile server, until the block ends."""
    server = HostileServer()
    server.elsewhere = server.host
    thread = threading.Thread(target=server.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.server.shutdown()
        server.server.server_close()
