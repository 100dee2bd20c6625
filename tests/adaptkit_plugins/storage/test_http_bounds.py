"""Every backend that speaks HTTP holds to the bounds of the conformance kit; their times are shortened here."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import pytest
from loopback_buckets import SCHEMES as BUCKETS
from loopback_buckets import bucket_environment

from adaptkit.errors import StorageError
from adaptkit.io.http import limits
from adaptkit.testing import HttpBoundsConformance
from adaptkit.testing.hostile_server import hostile_server
from adaptkit_plugins.storage.hub import HubBackend
from adaptkit_plugins.storage.objects import ObjectBackend, bucket, waiting
from adaptkit_plugins.storage.oci import OciBackend


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """`test_hostile_places` keeps the times that users meet."""
    monkeypatch.setattr(limits, "GRACE", 0.4)
    monkeypatch.setattr(waiting, "PATIENCE", 2.0)


class TestHub(HttpBoundsConformance):
    @pytest.fixture
    def place(self, server, mode, monkeypatch, tmp_path):
        from huggingface_hub import constants
        from huggingface_hub.utils import _http

        monkeypatch.setenv("HF_ENDPOINT", f"http://{server.host}")
        monkeypatch.setenv("HF_TOKEN", "hf_write")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield HubBackend.open(f"hf://{mode}/naval")
        _http.close_session()


class TestBucket(HttpBoundsConformance):
    @pytest.fixture(params=BUCKETS)
    def place(self, request, server, mode, monkeypatch, tmp_path):
        for name, value in bucket_environment(server.host, tmp_path).items():
            monkeypatch.setenv(name, value)
        return ObjectBackend.open(f"{request.param}://{mode}/{mode}")


class TestOci(HttpBoundsConformance):
    @pytest.fixture
    def place(self, server, mode, monkeypatch, tmp_path):
        login = {"auths": {server.host: {"auth": base64.b64encode(b"ada:secret").decode()}}}
        (tmp_path / "config.json").write_text(json.dumps(login))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        return OciBackend.open(f"oci://{server.host}/{mode}/naval")


@pytest.mark.parametrize("scheme", BUCKETS)
@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("flood", "the list is too large: a page of its list has more than 48 MB"),
        ("oversized", "the list is too large: a page of its list has more than 48 MB"),
        ("endless", "the list does not end: it goes on after "),
        ("redirects", "it redirects to another host, which is not asked"),
        ("metadata", "it redirects to another host, which is not asked"),
    ],
)
def test_a_hostile_list_of_a_bucket_ends_with_its_reason(mode, why, scheme, monkeypatch, tmp_path):
    monkeypatch.setattr(waiting, "PATIENCE", 15.0)
    with hostile_server() as server:
        server.elsewhere = server.host.replace("127.0.0.1", "localhost")
        for name, value in bucket_environment(server.host, tmp_path).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StorageError) as caught:
            ObjectBackend.open(f"{scheme}://{mode}/{mode}").list()
    assert caught.value.why.startswith(why)
    assert caught.value.what.endswith(f" {scheme}://{mode}/{mode}")
    assert caught.value.fix
    assert not [path for path in server.asked if "/elsewhere/" in path]


def test_an_azure_account_without_a_key_asks_its_service_for_credentials(monkeypatch):
    with hostile_server() as store, hostile_server() as service:
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://{store.host}/fleet")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "fleet")
        address = f"http://{service.host.replace('127.0.0.1', 'localhost')}/elsewhere/token"
        monkeypatch.setenv("AZURE_MSI_ENDPOINT", address)
        with pytest.raises(StorageError):
            ObjectBackend.open("az://bucket/naval").version()
        assert any("/elsewhere/token" in path for path in service.asked)


def test_a_write_may_take_longer_by_its_bytes(monkeypatch):
    monkeypatch.setattr(bucket, "_WRITE", 0.2)
    with hostile_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server.host}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "adaptkit-tests")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret-at-all")
        place = ObjectBackend.open("s3://headers/naval")
        for size, seconds in ((1, 0), (10_000, 1)):
            with pytest.raises(StorageError, match=f"too slow: no response in {seconds} seconds"):
                place.bucket.put("large", bytes(size))


_ENDS_AT_ONCE = """
import asyncio, time
import obstore
from obstore.store import MemoryStore
from adaptkit_plugins.storage.objects.waiting import wait

wakes_up = asyncio.SelectorEventLoop._write_to_self
def slowly(self):
    wakes_up(self)
    time.sleep(0.2)  # obstore's thread is still within Python when the result is there
asyncio.SelectorEventLoop._write_to_self = slowly
wait(lambda: obstore.put_async(MemoryStore(), "a", b"b"))
"""


def test_a_process_may_end_while_obstore_is_handing_it_a_result():
    """A thread that comes back to an interpreter that is ending aborts the process."""
    done = subprocess.run(
        [sys.executable, "-c", _ENDS_AT_ONCE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
