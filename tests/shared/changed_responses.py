"""A proxy on loopback in front of a real server, which changes its responses at random: what a hostile one could say."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

VALUES = (
    *(None, True, -1, 0, 10**30, float("inf"), float("nan"), 2**63, "", "\ud800", "../../x"),
    *("\x1b[2J", [], {}, [[]], {"a": {}}, "x" * 100_000, "9" * 5000, "http://[", "file:///etc"),
)
"""What may stand in the place of any value of JSON."""
BODIES = (b"", b"[", b"null", b"1", b'"x"', b"\xff\xfe", b"[" * 200_000, b'{"a":' * 5000, b"<a><b>")
HEADERS = {
    "Content-Encoding": ("gzip", "zstd"),
    "Content-Length": ("-1", "x", "9" * 20, "5"),
    "Content-Range": ("bytes 0-1/2", "x"),
    "Docker-Content-Digest": ("", "sha256:zz"),
    "ETag": ("", '"', "W/"),
    "Link": (
        '<http://[>; rel="next"',
        '<file:///etc/passwd>; rel="next"',
        '<//x:99999/>; rel="next"',
    ),
    "Location": ("", "http://[", "file:///etc/passwd", "http://127.0.0.1:1/", "//", "/\x00"),
    "Retry-After": ("1000000000", "-5", "Fri, 31 Dec 9999 23:59:59 GMT", "x", "nan", "9" * 30),
    "RateLimit": ('"api";r=0;t=999999999', '"x";r=0;t='),
    "Transfer-Encoding": ("chunked", "x"),
    "WWW-Authenticate": ("", "Bearer", 'Bearer realm="file:///x"', 'Bearer realm="http://["'),
    "X-Linked-Size": ("-1", "x", "9" * 400),
    "X-Repo-Commit": ("", "../../..", "\x1b[2J"),
}
STATUSES = (100, 204, 206, 301, 304, 307, 400, 401, 403, 404, 409, 412, 416, 429, 500, 503, 999)
RAW = (
    *(b"\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 -5 x\r\n\r\n", b"SSH-2.0\r\n"),
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n",
)


@dataclass
class Response:
    """A status, headers and a body; `raw` is sent as it is instead, `cut` says of the body that it goes on."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    raw: bytes = b""
    cut: bool = False


@dataclass
class Changes:
    """From response number `first` on, responses are changed by `choice`; None changes nothing."""

    url: str
    choice: Random | None = None
    first: int = 0
    count: int = field(default=0)

    def start(self, choice: Random) -> None:
        self.choice, self.first, self.count = choice, choice.choice([0, 0, 1, 2, 3]), 0

    def apply(self, response: Response) -> Response:
        self.count += 1
        at, choice = self.count - 1, self.choice
        if choice is None or at < self.first or (at > self.first and choice.random() < 0.7):
            return response
        return changed(response, choice)


def changed(response: Response, choice: Random) -> Response:
    """The response with one thing about it that no honest server says."""
    kind = choice.choice(
        ["json", "json", "json", "bytes", "body", "header", "status", "cut", "raw"]
    )
    if kind == "json":
        with suppress(ValueError):
            text = json.dumps(_with_a_wrong_value(json.loads(response.body), choice))
            response.body = text.encode(errors="surrogatepass")
    elif kind == "bytes" and response.body:
        data = bytearray(response.body)
        for _ in range(choice.choice([1, 5, 50])):
            data[choice.randrange(len(data))] = choice.randrange(256)
        response.body = bytes(data)
    elif kind == "body":
        response.body = choice.choice(BODIES)
    elif kind == "header":
        name = choice.choice(sorted(HEADERS))
        kept = [one for one in response.headers if one[0].lower() != name.lower()]
        response.headers = [*kept, (name, choice.choice(HEADERS[name]))]
    elif kind == "status":
        response.status = choice.choice(STATUSES)
        name = choice.choice(["Location", "Retry-After", "WWW-Authenticate", "RateLimit"])
        response.headers.append((name, choice.choice(HEADERS[name])))
    elif kind == "raw":
        response.raw = choice.choice(RAW)
    response.cut = kind == "cut"
    return response


def _with_a_wrong_value(value: Any, choice: Random) -> Any:
    if isinstance(value, (dict, list)) and value and choice.random() < 0.75:
        copied: Any = value.copy()
        at = choice.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copied[at] = _with_a_wrong_value(value[at], choice)
        return copied
    return choice.choice(VALUES)


@contextmanager
def changing(upstream: str) -> Iterator[Changes]:
    """A proxy in front of a server until the block ends."""
    behind = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self._response
            raise AttributeError(name)

        def handle_one_request(self) -> None:
            with suppress(OSError, ValueError):
                super().handle_one_request()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _response(self) -> None:
            self.close_connection = True
            response = changes.apply(_asked(self, behind, changes.url))
            if response.raw:
                self.wfile.write(response.raw)
                return
            lines = [f"HTTP/1.1 {response.status} X"]
            lines += [f"{name}: {value}" for name, value in response.headers]
            named = {name.lower() for name, _ in response.headers}
            if not named & {"content-length", "transfer-encoding"}:
                lines.append(f"Content-Length: {len(response.body) + 100 * response.cut}")
            lines += ["Connection: close", "", ""]
            self.wfile.write("\r\n".join(lines).encode("latin-1", errors="replace"))
            if self.command != "HEAD":
                self.wfile.write(response.body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    changes = Changes(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield changes
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_OWN = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


def _asked(client: BaseHTTPRequestHandler, behind: str, url: str) -> Response:
    """What the server behind says to a request; its addresses are the proxy's."""
    body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
    upstream = HTTPConnection(behind, timeout=30)
    try:
        upstream.putrequest(client.command, client.path, skip_host=True, skip_accept_encoding=True)
        for name, value in client.headers.items():
            if name.lower() not in _OWN:
                upstream.putheader(name, value)
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body)
        response = upstream.getresponse()
        data = response.read()
        headers = [
            (name, value.replace(behind, urlsplit(url).netloc))
            for name, value in response.getheaders()
            if name.lower() not in _OWN
        ]
        if client.command == "HEAD" and (size := response.getheader("Content-Length")):
            headers.append(("Content-Length", size))
        return Response(response.status, headers, data)
    finally:
        upstream.close()
