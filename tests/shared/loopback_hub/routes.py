"""What the loopback Hub returns, route by route; the shapes are those that huggingface_hub reads."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

from loopback_hub.repository import WEIGHTS, Blob, Commit, Repository

_PART = 1 << 20  # bytes of a part, when a file is uploaded in several


@dataclass(frozen=True)
class Answer:
    """What is sent back. `ranged` bodies honour a Range header."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    ranged: bool = False


class Refusal(Exception):
    """Answers with an error, as the Hub words it."""

    def __init__(self, status: int, code: str, message: str, **body: Any) -> None:
        super().__init__(message)
        headers = {
            "X-Error-Code": code,
            "X-Error-Message": message,
            "Content-Type": "application/json",
        }
        self.answer = Answer(status, json.dumps({"error": message} | body).encode(), headers)


class Hub(Protocol):
    """What the routes use of the server."""

    repos: dict[str, Repository]
    large: dict[str, bytes]
    multipart_from: int

    @property
    def url(self) -> str: ...
    def address(self, origin: str) -> str: ...
    def create(self, name: str, **how: Any) -> Repository: ...


@dataclass(frozen=True)
class Request:
    """One request, its body read."""

    hub: Hub
    origin: str
    method: str
    path: str
    query: str
    token: str
    body: bytes

    def query_value(self, name: str) -> str:
        """A parameter of the query; empty when it is not there."""
        return parse_qs(self.query).get(name, [""])[0]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def repo(self, name: str, *, write: bool = False) -> Repository:
        """A repository that the bearer may read (or write), or the refusal the Hub would give."""
        found = self.hub.repos.get(name)
        if self.token and self.token not in {"hf_write", "hf_read"}:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        if found is None or (found.private and not self.token):
            raise Refusal(404 if self.token else 401, "RepoNotFound", "Repository not found")
        if write and self.token != "hf_write":
            raise Refusal(403 if self.token else 401, "", "Forbidden: this token may only read")
        return found


def commit_at(repo: Repository, revision: str) -> Commit:
    """The commit a revision means; 404 as the Hub says it."""
    oid = repo.find(unquote(revision))
    if oid is None:
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {unquote(revision)}")
    return repo.commits[oid]


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def whoami(request: Request) -> Answer:
    if request.token not in {"hf_write", "hf_read"}:
        raise Refusal(401, "", "Invalid credentials in Authorization header")
    return _json({"type": "user", "name": "ada", "orgs": [{"name": "fleet"}]})


def validate_yaml(_: Request) -> Answer:
    return _json({"errors": [], "warnings": []})


def create(request: Request) -> Answer:
    if request.token != "hf_write":
        raise Refusal(
            403 if request.token else 401, "", "You don't have the rights to create a model here"
        )
    asked = request.json
    name = f"{asked.get('organization') or 'ada'}/{asked['name']}"
    url = f"{request.hub.url}/{name}"
    if name in request.hub.repos:
        raise Refusal(409, "", "You already created this model repo", url=url)
    request.hub.create(
        name, private=asked.get("visibility") == "private" or bool(asked.get("private"))
    )
    return _json({"url": url, "id": "1"})


def models(request: Request) -> Answer:
    author, wanted = request.query_value("author"), parse_qs(request.query).get("filter", [])
    found = [repo for name, repo in request.hub.repos.items() if name.startswith(f"{author}/")]
    fitting = [repo for repo in found if set(wanted) <= set(_tags(repo))]
    return _json(
        [{"id": repo.id, "tags": _tags(repo), "private": repo.private} for repo in fitting]
    )


def info(request: Request, name: str, revision: str | None = None) -> Answer:
    repo = request.repo(name)
    commit = commit_at(repo, revision or "main")
    siblings = [
        {"rfilename": path}
        | ({"size": len(blob.data), "blobId": blob.oid} if request.query_value("blobs") else {})
        | (
            {
                "lfs": {
                    "size": len(blob.data),
                    "sha256": blob.sha256,
                    "pointerSize": len(blob.pointer),
                }
            }
            if blob.lfs and request.query_value("blobs")
            else {}
        )
        for path, blob in commit.files.items()
    ]
    return _json(
        {
            "id": repo.id,
            "sha": commit.oid,
            "private": repo.private,
            "siblings": siblings,
            "tags": _tags(repo),
            "gated": "manual" if repo.gated else False,
        }
    )


def _tags(repo: Repository) -> list[str]:
    card = repo.files().get("README.md", b"").decode(errors="replace")
    return ["adaptkit"] if "- adaptkit" in card.partition("\n---")[0].splitlines() else []


def refs(request: Request, name: str) -> Answer:
    return _json(request.repo(name).refs())


def commits(request: Request, name: str, revision: str) -> Answer:
    repo = request.repo(name)
    commit_at(repo, revision)
    return _json(
        [
            {
                "id": c.oid,
                "title": c.title,
                "message": c.message,
                "authors": [{"user": "ada"}],
                "date": f"2026-01-01T00:{c.number // 60 % 60:02}:{c.number % 60:02}.000Z",
            }
            for c in repo.history(unquote(revision))
        ]
    )


def tree(request: Request, name: str, revision: str) -> Answer:
    commit = commit_at(request.repo(name), revision)
    return _json([blob.described(path) for path, blob in commit.files.items()])


def preupload(request: Request, name: str, revision: str) -> Answer:
    repo = request.repo(name, write=True)
    held = commit_at(repo, revision).files
    return _json(
        {
            "files": [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(WEIGHTS) else "regular",
                    "shouldIgnore": False,
                    **({"oid": held[f["path"]].oid} if f["path"] in held else {}),
                }
                for f in request.json["files"]
            ]
        }
    )


def xet_token(request: Request, name: str, _: str) -> Answer:
    if not request.repo(name, write=True).xet:
        raise Refusal(404, "", "Xet is not enabled here")
    return _json({"accessToken": "x", "casUrl": "http://127.0.0.1:1", "exp": 4102444800})


def lfs_batch(request: Request, name: str) -> Answer:
    request.repo(name, write=True)
    return _json(
        {"transfer": "basic", "objects": [_upload(request, one) for one in request.json["objects"]]}
    )


def _upload(request: Request, wanted: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
    if wanted["oid"] in request.hub.large:
        return body
    store, oid = request.hub.address("store"), wanted["oid"]
    upload: dict[str, Any] = {"href": f"{store}/put/{oid}"}
    if wanted["size"] >= request.hub.multipart_from:
        parts = -(-wanted["size"] // _PART)
        upload = {
            "href": f"{request.hub.url}/complete/{oid}",
            "header": {"chunk_size": str(_PART)}
            | {str(n + 1): f"{store}/part/{oid}/{n}" for n in range(parts)},
        }
    return body | {
        "actions": {"upload": upload, "verify": {"href": f"{request.hub.url}/verify/{oid}"}}
    }


def put(request: Request, oid: str) -> Answer:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise Refusal(400, "", "these bytes have another sha256")
    request.hub.large[oid] = request.body
    return Answer(200, b"", {"ETag": f'"{oid}"'})


def part(request: Request, oid: str, number: str) -> Answer:
    request.hub.large[f"{oid}/{int(number):06}"] = request.body
    return Answer(200, b"", {"ETag": f'"{number}"'})


def complete(request: Request, oid: str) -> Answer:
    names = sorted(name for name in request.hub.large if name.startswith(f"{oid}/"))
    data = b"".join(request.hub.large.pop(name) for name in names)
    if hashlib.sha256(data).hexdigest() != oid:
        raise Refusal(400, "", "the parts have another sha256")
    request.hub.large[oid] = data
    return _json({})


def verify(request: Request, oid: str) -> Answer:
    if oid not in request.hub.large:
        raise Refusal(404, "", "these bytes never came")
    return _json({})


def commit(request: Request, name: str, branch: str) -> Answer:
    repo, lines = (
        request.repo(name, write=True),
        [json.loads(line) for line in request.body.splitlines()],
    )
    header = next(line["value"] for line in lines if line["key"] == "header")
    changes = dict(_change(request, line) for line in lines if line["key"] != "header")
    texts = header.get("summary", ""), header.get("description", "")
    with repo.lock:
        branch = unquote(branch)
        head = commit_at(repo, branch).oid
        if header.get("parentCommit") not in {None, head}:
            raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
        if request.query_value("create_pr"):
            number, oid = repo.propose(changes, *texts)
            return _json(_committed(request, name, oid, number))
        oid = (
            head
            if repo.changed(head, changes) == repo.commits[head].files
            else repo.commit(changes, *texts, branch)
        )
    return _json(_committed(request, name, oid))


def _committed(
    request: Request, name: str, oid: str, proposal: int | None = None
) -> dict[str, Any]:
    body = {
        "success": True,
        "commitOid": oid,
        "commitUrl": f"{request.hub.url}/{name}/commit/{oid}",
    }
    if proposal is not None:
        body["pullRequestUrl"] = f"{request.hub.url}/{name}/discussions/{proposal}"
    return body


def _change(request: Request, line: Mapping[str, Any]) -> tuple[str, Blob | None]:
    value = line["value"]
    if line["key"] == "deletedFile":
        return value["path"], None
    if line["key"] == "lfsFile":
        if value["oid"] not in request.hub.large:
            raise Refusal(
                400, "", f"LFS pointer pointed to a file that does not exist: {value['path']}"
            )
        return value["path"], Blob(request.hub.large[value["oid"]], lfs=True)
    return value["path"], Blob(base64.b64decode(value["content"]))


def tag(request: Request, name: str, revision: str) -> Answer:
    repo = request.repo(name, write=True)
    with repo.lock:
        if request.method == "DELETE":
            if repo.tags.pop(unquote(revision), None) is None:
                raise Refusal(404, "RevisionNotFound", "no such tag")
            return _json({})
        oid = commit_at(repo, revision).oid
        if request.json["tag"] in repo.tags:
            raise Refusal(409, "", f"Tag {request.json['tag']} already exists")
        repo.tags[request.json["tag"]] = oid
    return _json({})


def branch(request: Request, name: str, wanted: str) -> Answer:
    repo = request.repo(name, write=True)
    with repo.lock:
        if unquote(wanted) in repo.branches:
            raise Refusal(409, "", "Reference already exists")
        repo.branches[unquote(wanted)] = commit_at(
            repo, request.json.get("startingPoint", "main")
        ).oid
    return _json({})


def resolve(request: Request, name: str, revision: str, path: str) -> Answer:
    repo = request.repo(name)
    if repo.gated and request.token != "hf_write":
        raise Refusal(
            403 if request.token else 401, "GatedRepo", "Access to this model is restricted"
        )
    found, path = commit_at(repo, revision), unquote(path)
    if path not in found.files:
        raise Refusal(404, "EntryNotFound", "Entry not found")
    blob = found.files[path]
    headers = {"X-Repo-Commit": found.oid, "Accept-Ranges": "bytes"}
    if not blob.lfs:
        return Answer(200, blob.data, headers | {"ETag": f'"{blob.etag}"'}, ranged=True)
    where = f"{request.hub.address('store')}/get/{name}/{found.oid}/{path}"
    linked = {
        "X-Linked-Etag": f'"{blob.etag}"',
        "X-Linked-Size": str(len(blob.data)),
        "Location": where,
    }
    return Answer(302, b"", headers | linked)


def get(request: Request, name: str, oid: str, path: str) -> Answer:
    blob = request.hub.repos[name].commits[oid].files[unquote(path)]
    return Answer(200, blob.data, {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}, ranged=True)


_ID = r"([^/]+/[^/]+)"
Route = Callable[..., Answer]
ROUTES: tuple[tuple[str, tuple[str, ...], str, Route], ...] = (
    ("hub", ("GET",), r"/api/whoami-v2", whoami),
    ("hub", ("POST",), r"/api/validate-yaml", validate_yaml),
    ("hub", ("POST",), r"/api/repos/create", create),
    ("hub", ("GET",), r"/api/models", models),
    ("hub", ("GET",), rf"/api/models/{_ID}", info),
    ("hub", ("GET",), rf"/api/models/{_ID}/revision/(.+)", info),
    ("hub", ("GET",), rf"/api/models/{_ID}/refs", refs),
    ("hub", ("GET",), rf"/api/models/{_ID}/commits/(.+)", commits),
    ("hub", ("GET",), rf"/api/models/{_ID}/tree/([^/]+)", tree),
    ("hub", ("GET",), rf"/api/models/{_ID}/xet-write-token/(.+)", xet_token),
    ("hub", ("POST",), rf"/api/models/{_ID}/preupload/(.+)", preupload),
    ("hub", ("POST",), rf"/api/models/{_ID}/commit/(.+)", commit),
    ("hub", ("POST", "DELETE"), rf"/api/models/{_ID}/tag/(.+)", tag),
    ("hub", ("POST",), rf"/api/models/{_ID}/branch/(.+)", branch),
    ("hub", ("POST",), rf"/{_ID}\.git/info/lfs/objects/batch", lfs_batch),
    ("hub", ("POST",), r"/complete/([0-9a-f]{64})", complete),
    ("hub", ("POST",), r"/verify/([0-9a-f]{64})", verify),
    ("hub", ("GET", "HEAD"), rf"/{_ID}/resolve/([^/]+)/(.+)", resolve),
    ("store", ("PUT",), r"/put/([0-9a-f]{64})", put),
    ("store", ("PUT",), r"/part/([0-9a-f]{64})/(\d+)", part),
    ("store", ("GET", "HEAD"), rf"/get/{_ID}/([0-9a-f]{{40}})/(.+)", get),
)
