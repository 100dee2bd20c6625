"""adaptkit.io.http.environment: a variable that a library would fail on is named before it is used."""

from __future__ import annotations

import httpx
import pytest

from adaptkit.errors import StorageError
from adaptkit.io.http.environment import (
    check_certificates,
    check_label,
    check_no_proxy,
    check_proxies,
    check_secret,
    check_token_file,
    check_web_address,
    check_whole_number,
)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    "value", ["ftp://secret", "http://:secret", "http://proxy:secret", "http://[secret"]
)
def test_a_proxy_that_is_none_is_named_without_its_value(monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(StorageError, match="HTTPS_PROXY is not the address of a proxy") as caught:
        check_proxies("hf://fleet/naval")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example.org:3128")
    check_proxies("hf://fleet/naval")


@pytest.mark.parametrize("value", ["hub.example", "127.0.0.1:5555", "file:///x", "http://h:x"])
def test_an_endpoint_that_is_no_web_address_is_named(value):
    with pytest.raises(StorageError, match="HF_ENDPOINT is not a web address"):
        check_web_address("hf://fleet/naval", "HF_ENDPOINT", value)
    check_web_address("hf://fleet/naval", "HF_ENDPOINT", "http://127.0.0.1:5555")


def test_a_number_of_seconds_has_to_be_whole(monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", " ")
    with pytest.raises(StorageError, match=r"HF_HUB_DOWNLOAD_TIMEOUT is ' ', and has to be"):
        check_whole_number("hf://fleet/naval", "HF_HUB_DOWNLOAD_TIMEOUT")
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "2.5")
    with pytest.raises(StorageError, match=r"HF_HUB_DOWNLOAD_TIMEOUT is '2\.5', and has to be"):
        check_whole_number("hf://fleet/naval", "HF_HUB_DOWNLOAD_TIMEOUT")


def test_a_token_with_other_letters_is_named_and_not_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_tökén")
    with pytest.raises(StorageError, match="HF_TOKEN holds characters that no token has") as caught:
        check_secret("hf://fleet/naval", "HF_TOKEN")
    assert "tök" not in str(caught.value)


@pytest.mark.parametrize("value", ["[::1", "[::1]", "http://[", "a,host:port", "fd00::/8"])
def test_a_list_of_hosts_without_a_proxy_that_is_none_is_named(monkeypatch, value):
    monkeypatch.setenv("NO_PROXY", value)
    with pytest.raises(StorageError, match="NO_PROXY is not a list of hosts"):
        check_no_proxy("oci://h/a")
    monkeypatch.setenv("NO_PROXY", ".example.org,::1,10.0.0.0/8,localhost:5000,")
    check_no_proxy("oci://h/a")
    httpx.Client().close()


def test_certificates_that_are_none_are_named(monkeypatch, tmp_path):
    (tmp_path / "junk").write_bytes(b"\xff junk")
    for value in (tmp_path / "nope", tmp_path / "junk"):
        monkeypatch.setenv("SSL_CERT_FILE", str(value))
        with pytest.raises(StorageError, match="SSL_CERT_FILE is not a file of certificates"):
            check_certificates("oci://h/a")
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nope"))
    with pytest.raises(StorageError, match="SSL_CERT_DIR is not a folder"):
        check_certificates("oci://h/a")


@pytest.mark.parametrize("value", ["../evil", "a\nb", "a.b", "-a", "a" * 64])
def test_what_becomes_part_of_a_host_is_checked(monkeypatch, value):
    monkeypatch.setenv("AWS_REGION", value)
    with pytest.raises(StorageError, match="AWS_REGION is .*, and has to be letters"):
        check_label("s3://b/x", "AWS_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    check_label("s3://b/x", "AWS_REGION")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\x1bb", b"x" * 20_000, "tök".encode()])
def test_a_file_that_holds_no_token_is_named_and_not_shown(monkeypatch, tmp_path, data):
    (tmp_path / "token").write_bytes(data)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(StorageError, match="token does not hold a token") as caught:
        check_token_file("hf://a/b", "HF_TOKEN_PATH", "~/.cache/huggingface/token")
    assert data.decode(errors="replace")[:3] not in str(caught.value).replace("token", "")
    (tmp_path / "token").write_text("hf_abc\n")
    check_token_file("hf://a/b", "HF_TOKEN_PATH", "~/.cache/huggingface/token")


@pytest.mark.parametrize(
    ("url", "name", "value"),
    [
        ("s3://team/x", "AWS_ACCESS_KEY_ID", "a\nb"),
        ("s3://team/x", "AWS_SESSION_TOKEN", "a\nb"),
        ("s3://team/x", "AWS_REGION", "a\nb"),
        ("s3://team/x", "SSL_CERT_FILE", "/nope"),
        ("az://team/x", "AZURE_STORAGE_ACCOUNT_NAME", "a/../b"),
        ("oci://127.0.0.1:1/a/b", "SSL_CERT_FILE", "/nope"),
        ("oci://127.0.0.1:1/a/b", "NO_PROXY", "[::1"),
        ("hf://fleet/naval", "SSL_CERT_FILE", "/nope"),
        ("hf://fleet/naval", "HUGGING_FACE_HUB_TOKEN", "tök"),
    ],
)
def test_every_backend_names_the_variable_that_its_library_would_fail_on(
    workspace, monkeypatch, url, name, value
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=name):
        workspace.pull(url)
