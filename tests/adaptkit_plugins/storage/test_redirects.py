"""Where a bucket's server may send its client: nowhere, or, where obstore cannot be held back, not to plain HTTP."""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from certificates import certificate
from loopback_buckets import SCHEMES, bucket_environment

from adaptkit.errors import StorageError
from adaptkit.testing.hostile_server import hostile_server
from adaptkit_plugins.storage.objects import ObjectBackend

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def other():
    """Another server on this machine, under another name."""
    with hostile_server() as server:
        server.at = server.host.replace("127.0.0.1", "localhost")
        yield server


@pytest.fixture
def store(other):
    with hostile_server() as server:
        server.elsewhere = other.at
        yield server


@pytest.fixture(autouse=True)
def no_proxy_of_whoever_runs_this(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def set_all(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("proxied", ["", "HTTP_PROXY", "ALL_PROXY"])
def test_a_redirect_is_not_followed_and_a_proxy_that_the_endpoint_does_not_need_changes_nothing(
    scheme, proxied, store, other, monkeypatch, tmp_path
):
    set_all(monkeypatch, bucket_environment(store.host, tmp_path))
    if proxied and not (scheme == "gs" and proxied == "ALL_PROXY"):
        set_all(monkeypatch, {proxied: f"http://{other.host}", "NO_PROXY": "127.0.0.0/8"})
    with pytest.raises(StorageError) as caught:
        ObjectBackend.open(f"{scheme}://redirects/naval").list()
    assert caught.value.why == "it redirects to another host, which is not asked"
    assert store.asked
    assert other.asked == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_plain_http_through_a_proxy_is_refused(scheme, other, monkeypatch, tmp_path):
    set_all(monkeypatch, bucket_environment("store.example.org", tmp_path))
    monkeypatch.setenv("HTTP_PROXY", f"http://{other.host}")
    with pytest.raises(StorageError, match=f"cannot open {scheme}://team/naval") as caught:
        ObjectBackend.open(f"{scheme}://team/naval").list()
    assert "is http://, and requests go through HTTP_PROXY: wherever that" in caught.value.why
    assert caught.value.fix == "use https://, or add store.example.org to NO_PROXY"
    assert other.asked == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_plain_http_with_credentials_of_a_service_is_refused(scheme, monkeypatch, tmp_path):
    set_all(monkeypatch, bucket_environment("store.example.org", tmp_path))
    for name in (*KEYS, "GOOGLE_SERVICE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StorageError) as caught:
        ObjectBackend.open(f"{scheme}://team/naval").list()
    assert "is http://, and a service gives the credentials: wherever" in caught.value.why
    assert caught.value.fix.startswith("use https://, or set ")


@contextmanager
def key_service():
    """What ECS has for its containers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            keys = {"AccessKeyId": "adaptkit-tests", "SecretAccessKey": "not-a-secret"}
            body = json.dumps(
                {**keys, "Token": "none", "Expiration": "2999-01-01T00:00:00Z"}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/keys"
    finally:
        server.shutdown()
        server.server_close()


def over_tls(server, files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)


@pytest.mark.parametrize("secure", [False, True], ids=["to-http", "to-https"])
def test_with_keys_of_a_service_no_redirect_leads_to_plain_http_and_no_login_to_another_host(
    secure, monkeypatch, tmp_path
):
    files = certificate(tmp_path, "localhost", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    with hostile_server() as other, hostile_server() as store, key_service() as keys:
        over_tls(store, files)
        if secure:
            over_tls(other, files)
        target = f"{'https' if secure else 'http'}://{other.host.replace('127.0.0.1', 'localhost')}"
        store.redirects = lambda to: store._redirect(to, f"{target}/elsewhere/x")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://{store.host}")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", keys)
        (tmp_path / "token").write_text("of a container")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")  # nobody is there
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        with pytest.raises(StorageError):
            ObjectBackend.open("s3://redirects/naval").list()
        assert store.with_login, "it is asked, and signed for"
        assert bool(other.asked) is secure
        assert other.with_login == []
