"""A Hugging Face Hub on loopback: real HTTP, which the real huggingface_hub drives, with switches for what goes wrong.

```python
with LoopbackHub() as hub:
    hub.create("fleet/naval")
    hub.faults.add(
        Fault(r"POST .*/commit/", done=True, spoil="drop")
    )  # it commits, and its answer is lost
    api = HfApi(endpoint=hub.url, token="hf_write")
```

Notable choices:
- weights lie on a second origin, as on the real Hub: uploads and downloads are sent there, and whoever brings
  an Authorization header along can be seen in `hub.seen`
- every request is written down, with the size of what it brought, so that "sends nothing" can be asserted
- repositories are plain objects (`hub.repos["fleet/naval"]`), which a test changes as a teammate would
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from adaptkit.io.closing import Closing
from loopback_hub.faults import Fault, Faults
from loopback_hub.repository import Blob, Repository
from loopback_hub.routes import ROUTES, Answer, Refusal, Request

__all__ = ["Fault", "HubBehind", "LoopbackHub", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    origin: str  # hub | store
    method: str
    path: str
    authorization: str
    body: int
    range: str


class LoopbackHub(Closing):
    """The server. `url` is what HF_ENDPOINT is set to; tokens are `hf_write`, `hf_read` and nothing else."""

    def __init__(self) -> None:
        self.repos: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.multipart_from = 1 << 40  # bytes; files of at least that size are uploaded in parts
        self._servers = {origin: _serve(self, origin) for origin in ("hub", "store")}

    @property
    def url(self) -> str:
        return self.address("hub")

    def address(self, origin: str) -> str:
        """Where the Hub (`hub`) or the store of large files (`store`) listens."""
        return f"http://127.0.0.1:{self._servers[origin].server_address[1]}"

    def create(self, name: str, **how: Any) -> Repository:
        """A repository, as it is just after somebody made it on the website."""
        self.repos[name] = Repository(name, **how)
        return self.repos[name]

    def lag(self, name: str, times: int) -> None:
        """For the next `times` questions about its branches and tags, answer what is true now."""
        body = json.dumps(self.repos[name].refs()).encode()
        self.faults.add(Fault(rf"GET /api/models/{name}/refs", times=times, status=200, body=body))

    def uploaded(self) -> int:
        """Bytes of large files that were sent here."""
        return sum(seen.body for seen in self.seen if seen.origin == "store")

    def close(self) -> None:
        self.faults.over.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()


class HubBehind:
    """`adaptkit.testing.Behind` for a repository: `v3/config.json` is a file of the commit that the tag v3 names."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo

    def write(self, path: str, data: bytes) -> None:
        """Other bytes for a file of a version; a version that is not there becomes a tag on a commit of that file."""
        tag, _, name = path.partition("/")
        if tag not in self._repo.tags:
            self._repo.tags[tag] = self._repo.commit({name: data})
        else:
            self._repo.rot(tag, name, data)

    def paths(self) -> set[str]:
        """Every file of every branch and tag."""
        names = [*self._repo.branches, *self._repo.tags]
        return {f"{name}/{path}" for name in names for path in self._repo.files(name)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    hub: LoopbackHub
    origin: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


def _serve(hub: LoopbackHub, origin: str) -> _Server:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub, server.origin = hub, origin
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    ).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, injects faults, returns what a route returns."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # or each answer waits 40 ms for the client's acknowledgement of its headers
    )
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is inherited)
        """Servers of tests are quiet."""

    def _run(self) -> None:
        hub, origin = self.server.hub, self.server.origin
        body = self._body()
        path, _, query = self.path.partition("?")
        bearer = self.headers.get("Authorization", "")
        hub.seen.append(
            Seen(origin, self.command, self.path, bearer, len(body), self.headers.get("Range", ""))
        )
        fault = hub.faults.take(f"{self.command} {path}")
        if fault.before:
            fault.before()
        request = Request(
            hub, origin, self.command, path, query, bearer.removeprefix("Bearer "), body
        )
        injected = fault.status or fault.redirect or fault.spoil in {"drop", "hang"}
        answer = self._routed(request) if fault.done or not injected else Answer()
        if fault.status or fault.redirect:
            answer = Answer(
                fault.status or 302,
                fault.body or b'{"error": "the loopback Hub was asked to fail"}',
                dict(fault.headers) | ({"Location": fault.redirect} if fault.redirect else {}),
            )
        if fault.spoil == "hang":
            hub.faults.over.wait()
        if fault.spoil in {"drop", "hang"}:
            self.close_connection = True
            return
        self._answer(answer, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _run  # noqa: N815  (names of http.server)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _routed(self, request: Request) -> Answer:
        for origin, methods, pattern, route in ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and origin == request.origin and request.method in methods:
                try:
                    return route(request, *match.groups())
                except Refusal as refusal:
                    return refusal.answer
        return Answer(404, b'{"error": "no such route"}', {"X-Error-Message": "no such route"})

    def _answer(self, answer: Answer, fault: Fault) -> None:
        body, status, headers = answer.body, answer.status, dict(answer.headers)
        asked = self.headers.get("Range")
        if answer.ranged and asked and fault.spoil != "no-range":
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or len(body) - 1), len(body) - 1)
            if first >= len(body) or fault.spoil == "short-range":
                status, body = 416, b""
                headers["Content-Range"] = f"bytes */{len(answer.body)}"
            else:
                status, body = 206, body[first : last + 1]
                headers["Content-Range"] = f"bytes {first}-{last}/{len(answer.body)}"
        if fault.spoil == "corrupt":
            body = bytes(byte ^ 0xFF for byte in body)
        elif fault.spoil == "long":
            body += b"and more"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.spoil == "truncate":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault.spoil == "trickle":
            for byte in body:
                if self.server.hub.faults.over.wait(0.05):
                    break
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(body)


def blob(data: bytes, *, lfs: bool = False) -> Blob:
    """Bytes for `Repository.commit` that lie beside git, or not, whatever their name says."""
    return Blob(data, lfs)
