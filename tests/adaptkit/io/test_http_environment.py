"""adaptkit.io.http.environment: a variable that a library would fail on is named before it is used."""

from __future__ import annotations

import pytest

from adaptkit.errors import StorageError
from adaptkit.io.http.environment import (
    check_proxies,
    check_secret,
    check_web_address,
    check_whole_number,
)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("value", ["ftp://secret", "http://:secret", "http://proxy:secret"])
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
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "2.5")
    with pytest.raises(StorageError, match=r"HF_HUB_DOWNLOAD_TIMEOUT is '2\.5', and has to be"):
        check_whole_number("hf://fleet/naval", "HF_HUB_DOWNLOAD_TIMEOUT")


def test_a_token_with_other_letters_is_named_and_not_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_tökén")
    with pytest.raises(StorageError, match="HF_TOKEN holds characters that no token has") as caught:
        check_secret("hf://fleet/naval", "HF_TOKEN")
    assert "tök" not in str(caught.value)
