"""Azure's blob storage: https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api."""

from __future__ import annotations

import base64
import hmac
import re
import urllib.request
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from loopback_buckets.server import Buckets, Object, Request, Response

ACCOUNT = "fleet"
_NOTE = "x-ms-meta-"


def environment(host: str) -> dict[str, str]:
    """What a user sets."""
    return {
        "AZURE_STORAGE_ENDPOINT": f"http://{host}/{ACCOUNT}",
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"not a secret at all").decode(),
    }


class AzureBuckets(Buckets):
    """`az://`."""

    scheme = "az"

    def environment(self) -> dict[str, str]:
        return environment(self.host)

    def respond(self, request: Request) -> Response:
        container, _, key = request.path.lstrip("/").removeprefix(f"{ACCOUNT}/").partition("/")
        if not (request.headers.get("Authorization") or "").startswith("SharedKey"):
            return _error(403, "AuthenticationFailed")
        doing = request.query.get("comp", "")
        if not key:
            return (
                self._list(container, request)
                if doing == "list"
                else self._delete(container, request.body)
            )
        there = self.objects.get((container, key))
        if doing == "block":
            self.parts[f"{container}/{key}", request.query["blockid"]] = request.body
            return Response(201)
        if request.method == "PUT":
            return self._put(container, key, request, there)
        if there is None:
            return _error(404, "BlobNotFound")
        status, data, more = self.part_of(request, there.data)
        notes = {f"{_NOTE}{name}": value for name, value in there.notes.items()}
        return Response(status, {**_said(there), **notes, **more}, data)

    def _put(self, container: str, key: str, request: Request, there: Object | None) -> Response:
        if request.headers.get("If-None-Match") == "*" and there:
            return _error(409, "BlobAlreadyExists")
        tag = request.headers.get("If-Match")
        if tag and (there is None or there.etag != tag):
            return _error(412, "ConditionNotMet")
        data, status = request.body, 201
        if request.query.get("comp") == "blocklist":
            upload = f"{container}/{key}"
            named = re.findall(r"<(?:Uncommitted|Latest)>([^<]+)</", request.body.decode())
            data = b"".join(self.parts.pop((upload, name)) for name in named)
        elif source := request.headers.get("x-ms-copy-source"):
            path = unquote(urlsplit(source).path).lstrip("/").removeprefix(f"{ACCOUNT}/")
            old = self.objects.get(tuple(path.split("/", 1)))  # type: ignore[arg-type]
            if old is None:
                return _error(404, "CannotVerifyCopySource")
            data, status = old.data, 202
        return Response(status, _said(self.put(container, key, data, request.notes(_NOTE))))

    def _list(self, container: str, request: Request) -> Response:
        found, after = self.page(
            container, request.query.get("prefix", ""), request.query.get("marker", "")
        )
        listed = "".join(
            f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{one.when}</Last-Modified>"
            f"<Content-Length>{len(one.data)}</Content-Length><Content-Type>x</Content-Type>"
            f"<Etag>{escape(one.etag)}</Etag></Properties></Blob>"
            for key, one in found
        )
        return Response(
            200,
            {"Content-Type": "application/xml"},
            f"<EnumerationResults><Blobs>{listed}</Blobs><NextMarker>{escape(after)}</NextMarker>"
            "</EnumerationResults>".encode(),
        )

    def _delete(self, container: str, body: bytes) -> Response:
        """A batch of deletions, each a request within the request."""
        answers = []
        for number, path in re.findall(
            rb"Content-ID: *(\d+).*?DELETE ([^ ]+) HTTP", body, re.DOTALL | re.IGNORECASE
        ):
            name = unquote(urlsplit(path.decode()).path).lstrip("/").removeprefix(f"{ACCOUNT}/")
            key = name.removeprefix(f"{container}/")
            gone = self.objects.pop((container, key), None)
            status = "202 Accepted" if gone else "404 BlobNotFound\r\nx-ms-error-code: BlobNotFound"
            answers.append(
                f"--batch\r\nContent-Type: application/http\r\nContent-ID: {number.decode()}\r\n\r\n"
                f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"
            )
        return Response(
            202,
            {"Content-Type": "multipart/mixed; boundary=batch"},
            ("\r\n".join(answers) + "\r\n--batch--").encode(),
        )


def make_container(endpoint: str, name: str, key: str) -> None:
    """Make a container at an emulator that wants a signed request; obstore makes none."""
    account = endpoint.rpartition("/")[2]
    when = format_datetime(datetime.now(UTC), usegmt=True)
    noted = (
        f"x-ms-date:{when}\nx-ms-version:2021-08-06\n/{account}/{account}/{name}\nrestype:container"
    )
    words = f"PUT{chr(10) * 12}{noted}".encode()
    signed = hmac.digest(base64.b64decode(key), words, "sha256")
    urllib.request.urlopen(
        urllib.request.Request(
            f"{endpoint}/{name}?restype=container",
            method="PUT",
            headers={
                "x-ms-date": when,
                "x-ms-version": "2021-08-06",
                "Authorization": f"SharedKey {account}:{base64.b64encode(signed).decode()}",
            },
        ),
        timeout=30,
    ).close()


def _said(one: Object) -> dict[str, str]:
    return {"ETag": one.etag, "Last-Modified": one.when}


def _error(status: int, code: str) -> Response:
    return Response(
        status, {"x-ms-error-code": code}, f"<Error><Code>{code}</Code></Error>".encode()
    )
