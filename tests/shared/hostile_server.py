"""A server on loopback that means harm to whoever reads from it, whatever protocol they speak.

The first word of a path that is one of `MODES` chooses what it does: `oci://HOST/trickle/naval`, `hf://trickle/naval`
and `s3://trickle/naval` all meet the same.
"""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES = ("trickle", "headers", "bomb", "flood", "endless", "digests", "redirects")
_EVIL = "sha256:../../../../v2/private/secret/blobs/sha256:" + "0" * 64


class HostileServer:
    """Running; `asked` are the paths of all requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = threading.Event()
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hostile.asked.append(self.path)
                mode = next((word for word in MODES if f"/{word}" in self.path), "trickle")
                with suppress(OSError):
                    getattr(hostile, mode)(self)
                self.close_connection = True

            def __getattr__(self, name: str):
                if name.startswith("do_"):
                    return self.do_GET
                raise AttributeError(name)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"

    def trickle(self, to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Content-Type", "application/json")
        to.send_header("Content-Length", "1000000")
        to.end_headers()
        self._drip(to)

    def headers(self, to: BaseHTTPRequestHandler) -> None:
        to.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self._drip(to)

    def bomb(self, to: BaseHTTPRequestHandler) -> None:
        data = gzip.compress(bytes(64 << 20), 9)
        to.send_response(200)
        to.send_header("Content-Encoding", "gzip")
        to.send_header("Content-Length", str(len(data) * 100))
        to.end_headers()
        for _ in range(100):  # members of gzip, one after the other: 6.4 GB
            to.wfile.write(data)

    def flood(self, to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Transfer-Encoding", "chunked")
        to.end_headers()
        piece = b'"' + b"x" * (1 << 20)
        while not self.over.is_set():
            to.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def endless(self, to: BaseHTTPRequestHandler) -> None:
        count = len(self.asked)
        names = [f"v{count * 50 + one + 1}" for one in range(50)]
        data = json.dumps({"tags": names, "repositories": names}).encode()
        if "/api/" in to.path:
            data = json.dumps(
                [
                    {"id": name, "title": "", "message": "", "authors": [], "date": ""}
                    for name in names
                ]
            ).encode()
        to.send_response(200)
        to.send_header("Content-Length", str(len(data)))
        to.send_header(
            "Link", f'<http://{self.host}{to.path.partition("?")[0]}?p={count}>; rel="next"'
        )
        to.end_headers()
        to.wfile.write(data)

    def digests(self, to: BaseHTTPRequestHandler) -> None:
        body = {"tags": ["v1"]}
        if "manifests/" in to.path:
            title = {"org.opencontainers.image.title": "adaptkit.json"}
            body = {"layers": [{"digest": _EVIL, "size": 2, "annotations": title}]}
        data = json.dumps(body).encode()
        to.send_response(200)
        to.send_header("Content-Length", str(len(data)))
        to.end_headers()
        to.wfile.write(data)

    def redirects(self, to: BaseHTTPRequestHandler) -> None:
        to.send_response(307)
        to.send_header("Location", "http://169.254.169.254/latest/meta-data/")
        to.send_header("Content-Length", "0")
        to.end_headers()

    def _drip(self, to: BaseHTTPRequestHandler) -> None:
        while not self.over.wait(0.2):
            to.wfile.write(b"x")
            to.wfile.flush()


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    """A hostile server, until the block ends."""
    server = HostileServer()
    thread = threading.Thread(target=server.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.server.shutdown()
        server.server.server_close()
