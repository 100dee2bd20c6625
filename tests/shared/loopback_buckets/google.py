"""Google's Cloud Storage in its XML form: https://cloud.google.com/storage/docs/xml-api/reference-methods."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.sax.saxutils import escape

from loopback_buckets.server import Buckets, Object, Request, Response

if TYPE_CHECKING:
    from pathlib import Path

_NOTE = "x-goog-meta-"


def environment(host: str, folder: Path) -> dict[str, str]:
    """What a user sets, with a service account that needs no token."""
    account = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}
    path = folder / "account.json"
    path.write_text(json.dumps(account))
    return {"GOOGLE_BASE_URL": f"http://{host}", "GOOGLE_SERVICE_ACCOUNT": str(path)}


class GoogleBuckets(Buckets):
    """`gs://`."""

    scheme = "gs"

    def environment(self) -> dict[str, str]:
        return environment(self.host, self.folder)

    def respond(self, request: Request) -> Response:
        bucket, _, key = request.path.lstrip("/").partition("/")
        if not key:
            return self._list(bucket, request)
        if request.method == "POST":
            return self._upload(bucket, key, request)
        there = self.objects.get((bucket, key))
        if request.method == "PUT" and "uploadId" in request.query:
            part = (request.query["uploadId"], request.query["partNumber"])
            self.parts[part] = request.body
            return Response(headers={"ETag": f'"{part[1]}"'})
        if request.method == "PUT":
            return self._put(bucket, key, request, there)
        if there is None:
            return _error(404, "NoSuchKey")
        if request.method == "DELETE":
            del self.objects[bucket, key]
            return Response(204)
        status, data, more = self.part_of(request, there.data)
        notes = {f"{_NOTE}{name}": value for name, value in there.notes.items()}
        return Response(status, {**_said(there), **notes, **more}, data)

    def _put(self, bucket: str, key: str, request: Request, there: Object | None) -> Response:
        asked = request.headers.get("x-goog-if-generation-match")
        if asked is not None and int(asked) != (there.generation if there else 0):
            return _error(412, "PreconditionFailed")
        data = request.body
        if source := request.headers.get("x-goog-copy-source"):
            old = self.objects.get(tuple(unquote(source).lstrip("/").split("/", 1)))  # type: ignore[arg-type]
            if old is None:
                return _error(404, "NoSuchKey")
            data = old.data
        return Response(headers=_said(self.put(bucket, key, data, request.notes(_NOTE))))

    def _upload(self, bucket: str, key: str, request: Request) -> Response:
        """Begin an upload in parts, or make the object of them."""
        if "uploads" in request.query:
            name = secrets.token_hex(8)
            return _xml(
                f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            )
        upload = request.query["uploadId"]
        mine = sorted((int(number), upload) for name, number in self.parts if name == upload)
        data = b"".join(self.parts.pop((upload, str(number))) for number, _ in mine)
        made = self.put(bucket, key, data, {})
        tag = f"<ETag>{escape(made.etag)}</ETag>"
        return _xml(
            f"<CompleteMultipartUploadResult>{tag}</CompleteMultipartUploadResult>", _said(made)
        )

    def _list(self, bucket: str, request: Request) -> Response:
        found, after = self.page(
            bucket, request.query.get("prefix", ""), request.query.get("continuation-token", "")
        )
        listed = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(one.data)}</Size><ETag>{escape(one.etag)}</ETag>"
            f"<LastModified>{one.changed:%Y-%m-%dT%H:%M:%S}.000Z</LastModified></Contents>"
            for key, one in found
        )
        more = f"<NextContinuationToken>{escape(after)}</NextContinuationToken>" if after else ""
        return _xml(f"<ListBucketResult>{more}{listed}</ListBucketResult>")


def _said(one: Object) -> dict[str, str]:
    return {
        "ETag": one.etag,
        "Last-Modified": one.when,
        "x-goog-generation": str(one.generation),
    }


def _xml(text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(200, {"Content-Type": "application/xml", **(headers or {})}, text.encode())


def _error(status: int, code: str) -> Response:
    return Response(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
