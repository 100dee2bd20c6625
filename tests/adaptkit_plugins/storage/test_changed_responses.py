"""Every backend before a server whose responses are changed at random: an error of ours, or a result, never another error."""

from __future__ import annotations

import random
from urllib.parse import urlsplit

import pytest
from artifacts import bundle
from changed_responses import changing
from hubs import hub

from adaptkit.errors import AdaptkitError, StorageError
from adaptkit.extend import attachments
from adaptkit.io.http import client as http
from adaptkit.io.http import limits
from adaptkit.remotes import foreign
from adaptkit_plugins.storage.hub import HubBackend
from adaptkit_plugins.storage.hub.history import Look
from adaptkit_plugins.storage.objects import ObjectBackend, waiting
from adaptkit_plugins.storage.oci import OciBackend

__all__ = ["hub"]

SIGNATURE = {"key.pub": b"x", "model.sig": b"{}", "statement.json": b"{}"}


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    def pause(seconds):
        assert 0 <= seconds <= http.POLICY.longest_retry_after

    monkeypatch.setattr(http, "pause", pause)
    monkeypatch.setattr(limits, "GRACE", 1.0)
    monkeypatch.setattr(waiting, "PATIENCE", 4.0)


def operations(backend, url, root, folder):
    """All that is asked of a place, by name."""
    place = backend.open(url)

    def pull():
        version = place.version(1)
        folder.mkdir()
        place.pull(version, version.manifest.files, folder)

    return {
        "list": lambda: foreign.examined(place),
        "latest": place.version,
        "pull": pull,
        "aliases": lambda: foreign.aliases_of(place),
        "attached": lambda: place.attached(1, attachments.SIGNATURE),
        "damage": lambda: place.damage(place.version(1)),
        "card": place.card,
        "names": lambda: foreign.names_in(backend.open(root)),
        "alias": lambda: place.set_alias("canary", 1),
        "attach": lambda: place.attach(1, attachments.SIGNATURE, SIGNATURE),
        "push": lambda: place.push(adapter(folder, folder.name.encode()), ()),
    }


def adapter(folder, weights=b"weights"):
    contents = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": weights}
    return bundle(folder, contents)


def play(backend, url, root, changes, tmp_path, tries):
    place = backend.open(url)
    place.push(adapter(tmp_path / "first"), ())
    place.attach(1, attachments.SIGNATURE, SIGNATURE)
    ended = {"well": 0, "with an error": 0}
    for seed in range(tries):
        choice = random.Random(seed)
        chosen = operations(backend, url, root, tmp_path / str(seed))
        name = choice.choice(sorted(chosen))
        changes.start(choice)
        try:
            chosen[name]()
            ended["well"] += 1
        except AdaptkitError as error:
            assert error.what, (seed, name)
            ended["with an error"] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {name} raised {error!r}") from error
        finally:
            changes.choice = None
    assert all(ended.values())


TRIES = pytest.mark.parametrize(
    "tries", [25, pytest.param(2000, marks=pytest.mark.soak)], ids=["some", "many"]
)


@TRIES
def test_whatever_a_registry_answers_is_a_result_or_an_error_message(tries, registry, tmp_path):
    with changing(registry.url) as changes:
        root = f"oci://{urlsplit(changes.url).netloc}/{tmp_path.name.lower().strip('_')}"
        play(OciBackend, f"{root}/naval", root, changes, tmp_path, tries)


@TRIES
@pytest.mark.parametrize("server", ["moto", "google", "azure"])
def test_whatever_a_bucket_answers_is_a_result_or_an_error_message(
    tries, server, request, use, tmp_path, monkeypatch
):
    buckets = request.getfixturevalue(server)
    bucket = use(buckets)
    addresses = (urlsplit(value).netloc for value in buckets.environment().values())
    behind = next(address for address in addresses if address.startswith("127.0.0.1"))
    with changing(f"http://{behind}") as changes:
        for name, value in buckets.environment().items():
            monkeypatch.setenv(name, value.replace(behind, urlsplit(changes.url).netloc))
        root = f"{buckets.scheme}://{bucket}"
        play(ObjectBackend, f"{root}/naval", root, changes, tmp_path, tries)


@TRIES
def test_whatever_a_hub_answers_is_a_result_or_an_error_message(tries, hub, tmp_path, monkeypatch):
    hub.create("fleet/naval")
    with changing(hub.url) as changes:
        monkeypatch.setenv("HF_ENDPOINT", changes.url)
        play(HubBackend, "hf://fleet/naval", "hf://fleet", changes, tmp_path, tries)


def test_an_attachment_that_is_listed_and_gone_is_an_error_message():
    def gone(path):
        raise FileNotFoundError(path)

    paths = [f"{attachments.folder(1, attachments.SIGNATURE)}/{'a' * 32}/key.pub"]
    with pytest.raises(StorageError, match="a file of it is listed and is not there"):
        attachments.read(paths, 1, attachments.SIGNATURE, gone)


def test_a_hub_that_lists_versions_and_no_branch_is_an_error_message():
    with pytest.raises(StorageError, match="there is no branch 'main': the Hub does not list it"):
        Look({}, {"v1": "a" * 40}).head("main")
