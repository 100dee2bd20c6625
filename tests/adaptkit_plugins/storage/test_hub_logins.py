"""Where a Hub may let a login be sent: huggingface_hub sends it to every address that a response names."""

from __future__ import annotations

import json

import pytest
from artifacts import bundle
from fault_server import between
from hubs import hub

from adaptkit.errors import StorageError
from adaptkit.testing.hostile_server import hostile_server
from adaptkit_plugins.storage.hub import HubBackend

__all__ = ["hub"]


@pytest.fixture
def other():
    """Another server, which is told nothing."""
    with hostile_server() as server:
        yield server


@pytest.fixture
def proxy(hub, monkeypatch):
    hub.create("fleet/naval")
    with between(hub.url) as between_us:
        monkeypatch.setenv("HF_ENDPOINT", between_us.url)
        yield between_us


@pytest.fixture
def place(proxy):
    return HubBackend.open("hf://fleet/naval")


def adapter(folder, weights=b"weights"):
    contents = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": weights}
    return bundle(folder, contents)


def with_answers(proxy, change):
    """Let `change(path, headers, body)` make the headers and the body of every answer."""
    pass_on = proxy._pass_on

    def changed(client, body, *, whole):
        status, headers, data = pass_on(client, body, whole=whole)
        return status, *change(client.path, headers, data)

    proxy._pass_on = changed


def test_the_next_page_of_a_list_on_another_server_is_asked_for_without_the_login(proxy, other):
    following = ("Link", f'<http://{other.host}/elsewhere/next>; rel="next"')
    with_answers(proxy, lambda path, headers, data: ([*headers, following], data))
    HubBackend.open("hf://fleet").names()
    assert "/elsewhere/next" in other.asked
    assert other.with_login == []


def test_the_check_of_an_upload_on_another_server_is_asked_for_without_the_login(
    place, proxy, other, tmp_path
):
    def elsewhere(path, headers, data):
        if path.endswith("/objects/batch"):
            answer = json.loads(data)
            for one in answer["objects"]:
                one["actions"]["verify"] = {"href": f"http://{other.host}/elsewhere/verify"}
            data = json.dumps(answer).encode()
        return headers, data

    with_answers(proxy, elsewhere)
    place.push(adapter(tmp_path), ())
    assert "/elsewhere/verify" in other.asked
    assert other.with_login == []


def test_a_list_that_goes_on_at_a_clouds_metadata_is_left(proxy):
    following = ("Link", '<http://169.254.169.254/latest/meta-data/>; rel="next"')
    with_answers(proxy, lambda path, headers, data: ([*headers, following], data))
    with pytest.raises(StorageError, match=r"sends its readers to 169\.254\.169\.254"):
        HubBackend.open("hf://fleet").names()


@pytest.mark.parametrize("said", [None, 7, ["a"]])
def test_a_hub_that_does_not_say_which_commit_it_made_is_an_error_message(
    said, place, proxy, tmp_path
):
    def unsaid(path, headers, data):
        if "/commit/" in path:
            data = json.dumps(json.loads(data) | {"commitOid": said}).encode()
        return headers, data

    with_answers(proxy, unsaid)
    with pytest.raises(StorageError, match="does not say which commit it made"):
        place.push(adapter(tmp_path), ())
