"""A proxy on loopback between a client and a real server, which harms chosen requests."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date"}


class Later(int):
    """The value of a Retry-After header: a date so many seconds after the response's own `Date`."""

    def after(self, date: str) -> str:
        return format_datetime(parsedate_to_datetime(date) + timedelta(seconds=self), usegmt=True)


@dataclass
class Harm:
    """What is done to requests of `method` whose path (with query) contains `where`, the first `times` times."""

    method: str
    where: str
    status: int = 0
    """Answer this, and do not pass the request on."""
    lose: int = 0
    """Pass it on, then return this instead of the server's response."""
    cut: int = 0
    """Break the connection after this many bytes of the answer."""
    change: Callable[[bytes], bytes] | None = None
    """Change the body of the answer."""
    whole: bool = False
    """Ignore the request's Range."""
    without: tuple[str, ...] = ()
    """Headers that are taken from the answer."""
    headers: dict[str, str | Later] = field(default_factory=dict)
    body: bytes = b""
    times: int = 1_000_000
    hits: int = 0

    def fits(self, method: str, path: str) -> bool:
        return self.hits < self.times and self.method in {method, "*"} and self.where in path


class Proxy:
    """Passes requests on to `upstream`; `harms` are looked at in order, `seen` are (method, path, status)."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.harms: list[Harm] = []
        self.seen: list[tuple[str, str, int]] = []
        self.sent: dict[str, int] = {}
        """Bytes of request bodies by method."""
        self.authorisations: set[str | None] = set()
        self.needs = ""
        """An Authorization without which nothing is answered (basic)."""
        self.tokens: set[str] = set()
        """Logins (an Authorization, or a refresh token) that get a token from `/token`; then nothing goes without one."""
        self.given: list[str] = []
        self.valid: dict[str, str] = {}
        self.subjects = False
        """Answer as a registry that keeps referrers by itself."""
        self.resumes = False
        """Answer how far an upload came, as the distribution spec says (Debian's registry has forgotten it)."""
        self.uploads: dict[str, list[tuple[str, str]]] = {}
        self.lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with suppress(ConnectionError, TimeoutError, socket.timeout):
                    super().handle_one_request()

            def __getattr__(self, name: str):
                if name.startswith("do_"):
                    return lambda: proxy.answer(self)
                raise AttributeError(name)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def harm(self, method: str, where: str, **what) -> Harm:
        self.harms.append(Harm(method, where, **what))
        return self.harms[-1]

    def answer(self, client: BaseHTTPRequestHandler) -> None:
        body = _body(client)
        with self.lock:
            self.sent[client.command] = self.sent.get(client.command, 0) + len(body)
            self.authorisations.add(client.headers.get("Authorization"))
            harm = next((one for one in self.harms if one.fits(client.command, client.path)), None)
            if harm:
                harm.hits += 1
        refusal = self._refusal(client, body)
        if refusal:
            return self._reply(client, *refusal)
        if harm and harm.status:
            return self._reply(client, harm.status, list(harm.headers.items()), harm.body)
        status, headers, data = self._pass_on(client, body, whole=bool(harm and harm.whole))
        upload = client.path.partition("?")[0]
        if client.command == "PATCH":
            self.uploads[upload] = [
                (n, v) for n, v in headers if n.lower() in {"location", "range"}
            ]
        if client.command == "GET" and self.resumes and upload in self.uploads:
            return self._reply(client, 204, self.uploads[upload], b"")
        if harm and harm.lose:
            return self._reply(client, harm.lose, [], b"")
        if self.subjects and b'"subject"' in body:
            headers.append(("OCI-Subject", "yes"))
        if harm:
            headers = [
                (n, v) for n, v in headers if n.lower() not in {w.lower() for w in harm.without}
            ]
            data = harm.change(data) if harm.change else data
        return self._reply(client, status, headers, data, cut=harm.cut if harm else 0)

    def _refusal(self, client, body: bytes) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """What somebody gets who is not logged in as this proxy wants, or who asks for a token."""
        credentials = client.headers.get("Authorization")
        if self.needs and credentials != self.needs:
            return 401, [("WWW-Authenticate", 'Basic realm="tests"')], b""
        if not self.tokens:
            return None
        if client.path.startswith("/token"):
            asked = parse_qs(
                body.decode() if client.command == "POST" else urlsplit(client.path).query
            )
            if (
                credentials not in self.tokens
                and asked.get("refresh_token", [""])[0] not in self.tokens
            ):
                return 401, [], b""
            token = secrets.token_hex(8)
            self.given.append(asked["scope"][0])
            self.valid[f"Bearer {token}"] = asked["scope"][0]
            return 200, [], json.dumps({"token": token}).encode()
        if credentials in self.valid and (
            client.command in {"GET", "HEAD"} or self.valid[credentials].endswith("push")
        ):
            return None
        return 401, [("WWW-Authenticate", f'Bearer realm="{self.url}/token",service="tests"')], b""

    def _pass_on(
        self, client, body: bytes, *, whole: bool
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {
            n: v
            for n, v in client.headers.items()
            if n.lower() not in _HOP and not (whole and n.lower() == "range")
        }
        headers["Content-Length"] = str(len(body))
        upstream = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            upstream.request(client.command, client.path, body, headers)
            answer = upstream.getresponse()
            data = answer.read()
            kept = [(n, v) for n, v in answer.getheaders() if n.lower() not in _HOP]
            if client.command == "HEAD":
                kept.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            return answer.status, kept, data
        finally:
            upstream.close()

    def _reply(self, client, status: int, headers, data: bytes, cut: int = 0) -> None:
        with self.lock:
            self.seen.append((client.command, client.path, status))
        date = client.date_time_string()
        client.send_response_only(status)
        client.send_header("Date", date)
        for name, value in headers:
            client.send_header(name, value.after(date) if isinstance(value, Later) else value)
        if client.command != "HEAD":
            client.send_header("Content-Length", str(len(data)))
        client.end_headers()
        if client.command != "HEAD":
            client.wfile.write(data[:cut] if cut else data)
        if cut:
            client.wfile.flush()
            client.close_connection = True
            with suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)


def _body(client) -> bytes:
    if client.headers.get("Transfer-Encoding", "").lower() == "chunked":
        pieces = []
        while size := int(client.rfile.readline().split(b";")[0], 16):
            pieces.append(client.rfile.read(size))
            client.rfile.readline()
        client.rfile.readline()
        return b"".join(pieces)
    return client.rfile.read(int(client.headers.get("Content-Length") or 0))


@contextmanager
def between(upstream: str) -> Iterator[Proxy]:
    """A proxy in front of a server, until the block ends."""
    proxy = Proxy(upstream)
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()
