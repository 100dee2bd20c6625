"""adaptkit_plugins.storage.oci: what is stored in the registry, faults, logins, hostile registries, signatures."""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from threading import Barrier

import fault_server
import httpx
import pytest
import servers
from artifacts import bundle

from adaptkit.errors import AdaptkitError, Corrupt, NotFound, StorageError
from adaptkit.extend import attachments
from adaptkit.io.http import client as http
from adaptkit.refs import Selector
from adaptkit.remotes import transfer
from adaptkit.store.content_store import Store
from adaptkit.types import BaseIdentity, Level, Parent, artifact_digest
from adaptkit_plugins.storage.oci import OciBackend, auth, backend, blobs, images
from adaptkit_plugins.storage.oci.address import may_be_asked

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RACERS = 12
LARGE = (20 << 20) + 11
KIND = "application/vnd.example.signature"


@pytest.fixture
def packed(tmp_path):
    def make(content, number=1, size=0, **more):
        weights = (str(content).encode() * (size // len(str(content)) + 1))[:size] or str(
            content
        ).encode()
        contents = {
            CONFIG: b'{"r": 8}',
            WEIGHTS: weights,
            "tokenizer/vocab.txt": b"a\n",
            "README.md": str(content).encode(),
        }
        return bundle(tmp_path / f"src-{content}", contents, number, **more)

    return make


@pytest.fixture
def repository():
    return f"team-{secrets.token_hex(4)}/naval"


@pytest.fixture
def place(registry, repository):
    return OciBackend.open(f"oci://{registry.host}/{repository}")


@pytest.fixture
def quick(monkeypatch):
    """Nothing sleeps; these are the waits between tries."""
    pauses = []
    monkeypatch.setattr(http, "pause", pauses.append)
    monkeypatch.setattr(backend, "_SETTLE", 0.0)
    return pauses


@pytest.fixture
def proxy(registry, quick, monkeypatch):
    monkeypatch.setattr(blobs, "PIECE", 8 << 20)
    with fault_server.between(registry.url) as one:
        yield one


@pytest.fixture
def behind(proxy, repository):
    """A place whose requests go through the proxy."""
    return OciBackend.open(f"oci://{proxy.url.removeprefix('http://')}/{repository}")


def raw(place, path, **more):
    return httpx.get(
        f"{place.address.origin}/v2/{place.address.repository}/{path}",
        headers={"Accept": images.IMAGE},
        **more,
    )


def digest_of(one, path):
    return "sha256:" + next(entry.sha256 for entry in one.files if entry.path == path)


def fetched(place, number, tmp_path):
    return transfer.fetch(place, place.version(number), Store(tmp_path / "store"))


# ---------------------------------------------------------------- what is stored there


def test_an_image_has_its_media_types_and_each_file_under_its_name(place, packed):
    base = BaseIdentity("fleet/ship", (Level("fs1:" + "0" * 64, True),))
    one = packed("a", base=base, parents=(Parent("sha256:" + "1" * 64, 0.7, "merged", "naval@1"),))
    transfer.push(place, one)
    image = raw(place, "manifests/v1").json()
    assert image["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert image["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert image["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    kinds = {
        layer["annotations"]["org.opencontainers.image.title"]: layer["mediaType"].split(".model.")[
            1
        ]
        for layer in image["layers"]
    }
    assert kinds == {
        CONFIG: "weight.config.v1.raw",
        WEIGHTS: "weight.v1.raw",
        "tokenizer/vocab.txt": "weight.config.v1.raw",
        "README.md": "doc.v1.raw",
        "adaptkit.json": "weight.config.v1.raw",
    }
    annotations = image["annotations"]
    assert annotations["org.opencontainers.image.version"] == "1"
    assert annotations["org.opencontainers.image.base.name"] == "fleet/ship"
    assert annotations["io.adaptkit.base.fs1"] == "fs1:" + "0" * 64
    assert annotations["io.adaptkit.digest"] == one.manifest.digest
    assert json.loads(annotations["io.adaptkit.lineage"]) == [
        {"digest": "sha256:" + "1" * 64, "role": "merged", "weight": 0.7}
    ]
    for layer in image["layers"]:  # as `oras pull` fetches them
        data = raw(place, f"blobs/{layer['digest']}").content
        assert (len(data), "sha256:" + sha256(data).hexdigest()) == (layer["size"], layer["digest"])
    config = raw(place, f"blobs/{image['config']['digest']}").json()
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in image["layers"]]


def test_a_new_version_sends_only_the_file_that_changed_and_an_unchanged_push_no_byte(
    behind, proxy, packed
):
    first, second = packed("a"), packed("bb", 2)
    transfer.push(behind, first)
    proxy.sent.clear()
    assert transfer.push(behind, first).unchanged
    assert sum(proxy.sent.values()) == 0
    receipt = transfer.push(behind, second)
    assert receipt.sent == len(b"bb") == next(e.size for e in second.files if e.path == WEIGHTS)


def test_a_blob_of_another_repository_is_mounted_and_does_not_cross(
    behind, proxy, packed, monkeypatch
):
    monkeypatch.setattr(blobs, "_seen", {})
    one = packed("mounted", size=LARGE)
    transfer.push(behind, one)
    proxy.sent.clear()
    other = OciBackend.open(behind.url + "-2")
    assert transfer.push(other, one).sent == 0
    assert sum(proxy.sent.values()) < 20_000
    assert other.version(1).manifest == one.manifest


def test_aliases_are_tags_that_others_can_pull(place, packed):
    for number, content in ((1, "a"), (2, "b")):
        transfer.push(place, packed(content, number), alias="canary")
    place.set_alias("prod", 1)
    assert place.aliases() == {"canary": 2, "prod": 1}
    assert raw(place, "manifests/prod").content == raw(place, "manifests/v1").content
    with pytest.raises(
        StorageError, match="cannot call a version 'v7' .*: tags of this form are version numbers"
    ):
        place.set_alias("v7", 1)
    with pytest.raises(NotFound, match="no version in .* called '9': known are 1, 2"):
        place.set_alias("prod", 9)


def test_a_tag_in_the_url_chooses_and_is_never_pushed_to(place, packed):
    transfer.push(place, packed("a"), alias="prod")
    transfer.push(place, packed("b", 2))
    tagged = OciBackend.open(f"{place.url}:prod")
    assert [placed.number for placed in tagged.list()] == [1]
    assert tagged.version().manifest == place.version(1).manifest
    assert OciBackend.open(f"{place.url}:unknown").list() == ()
    with pytest.raises(StorageError, match="the tag cannot be chosen\n  push to oci://.*naval$"):
        transfer.push(tagged, packed("c", 3))


def test_a_root_lists_the_adapters_below_it(place, packed):
    transfer.push(place, packed("a"))
    root = OciBackend.open(place.url.rpartition("/")[0])
    assert root.names() == ("naval",)


def test_a_digest_chooses_a_version(place, packed):
    one = packed("a")
    transfer.push(place, one)
    assert transfer.choose(place, Selector("digest", one.manifest.digest[:20])).number == 1


def test_the_digest_of_an_image_pins_it_even_when_its_tag_was_moved(place, packed, tmp_path):
    one, other = packed("a"), packed("b", 2)
    transfer.push(place, one)
    digest = place.manifests.digest("v1")
    transfer.push(place, other)
    place.manifests.put("v1", place.manifests.get("v2"))
    with pytest.raises(Corrupt, match="it is of version 2"):
        place.version(1)
    placed = transfer.choose(place, Selector("digest", digest))
    assert transfer.fetch(place, placed, Store(tmp_path / "store")).digest == one.manifest.digest
    with pytest.raises(NotFound, match="no digest in"):
        transfer.choose(place, Selector("digest", "sha256:" + "0" * 64))


def test_an_adapter_goes_there_and_comes_back_through_a_workspace(place, workspace, lora_pair):
    added = workspace.add(lora_pair[0], name="naval")
    assert workspace.push("naval", place.url).receipt.number == 1
    assert workspace.push("naval", place.url).receipt.unchanged
    pulled = workspace.pull(f"{place.url}@1", name="copy")
    assert pulled.version.digest == added.version.digest
    assert workspace.pull(f"{place.url}:v1", name="copy").created is False


# ---------------------------------------------------------------- races


def test_a_tag_that_is_listed_a_moment_before_it_can_be_read_is_waited_for(behind, proxy, packed):
    transfer.push(behind, packed("a"))
    early = proxy.harm("GET", "/manifests/v1", status=404, times=3)
    assert len(behind.list()) == 1
    assert early.hits == 3
    proxy.harm("GET", "/manifests/v1", status=404)
    with pytest.raises(
        StorageError, match=r"cannot read .*@1: its tag is gone\n  list what is there again"
    ):
        behind.list()


def test_a_number_that_is_taken_and_that_no_list_shows_is_an_error(behind, proxy, packed):
    harm = proxy.harm("GET", "/manifests/v1", status=200, body=b"{}")
    with pytest.raises(StorageError) as caught:
        transfer.push(behind, packed("a"))
    assert caught.value.why == "it reports that v1 is taken, and lists no such version"
    assert caught.value.fix == "ask who runs it, or push to another place"
    assert harm.hits <= 8


def test_twelve_pushes_at_once_get_numbers_of_their_own(place, packed):
    bundles, barrier = [packed(content) for content in range(RACERS)], Barrier(RACERS, timeout=60)

    def push(one):
        client = OciBackend.open(place.url)
        barrier.wait()
        return transfer.push(client, one).number

    with ThreadPoolExecutor(RACERS) as pool:
        numbers = list(pool.map(push, bundles))
    assert sorted(numbers) == list(range(1, RACERS + 1))
    assert [place.version(n).manifest.digest for n in numbers] == [
        one.manifest.digest for one in bundles
    ]


def test_a_lost_race_shows_when_the_tag_is_read_back_and_takes_the_next_number(
    behind, proxy, packed
):
    rival, mine = packed("rival"), packed("mine")
    other = OciBackend.open(behind.url)
    transfer.push(OciBackend.open(behind.url + "-elsewhere"), rival)  # its blobs are there to mount
    image = images.image(rival.placed, "another")

    def overtake(seconds):  # after our tag was read back once, before it is again
        other._send(rival, image, lambda _: None)
        other.manifests.put("v1", image.data)
        behind.client.settle = lambda _: None

    behind.client.settle = overtake
    receipt = transfer.push(behind, mine)
    assert receipt.number == 2
    assert [placed.manifest.digest for placed in behind.list()] == [
        rival.manifest.digest,
        mine.manifest.digest,
    ]


# ---------------------------------------------------------------- faults of a push


@pytest.mark.parametrize("resumes", [True, False])
def test_an_upload_that_breaks_in_a_piece_goes_on_where_the_registry_has_got_to(
    resumes, behind, proxy, packed, tmp_path
):
    one, crossed = packed(secrets.token_hex(4), size=LARGE), []
    proxy.resumes = resumes
    lost = proxy.harm("PATCH", "", lose=502, times=2)
    receipt = behind.push(one, (), crossed.append)
    assert lost.hits == 2
    assert sum(crossed) == receipt.sent == sum(entry.size for entry in one.files)
    assert (proxy.sent["PATCH"] == LARGE) is resumes, "what had arrived is not sent again"
    assert fetched(behind, 1, tmp_path).digest == one.manifest.digest


@pytest.mark.parametrize("code", ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"])
def test_an_upload_that_the_registry_forgot_begins_again(code, behind, proxy, packed, tmp_path):
    body = json.dumps({"errors": [{"code": code}]}).encode()
    harms = [
        proxy.harm("PATCH", "", status=404, body=body, times=1),
        proxy.harm("PUT", "/uploads/", status=404, body=body, times=1),
    ]
    one = packed("large", size=LARGE)
    transfer.push(behind, one)
    assert [harm.hits for harm in harms] == [1, 1]
    assert fetched(behind, 1, tmp_path).digest == one.manifest.digest


def test_an_upload_that_always_expires_is_an_error(behind, proxy, packed):
    harm = proxy.harm("PUT", "/uploads/", status=404)
    with pytest.raises(
        StorageError, match="the registry broke off every upload\n  try again later"
    ):
        transfer.push(behind, packed("a"))
    assert harm.hits >= http.POLICY.tries
    proxy.harms.clear()
    assert transfer.push(behind, packed("a")).number == 1


def test_a_bad_digest_is_tried_once_more_and_then_an_error(behind, proxy, packed):
    body = json.dumps({"errors": [{"code": "DIGEST_INVALID"}]}).encode()
    once = proxy.harm("PUT", "/uploads/", status=400, body=body, times=1)
    transfer.push(behind, packed("a"))
    assert once.hits == 1
    proxy.harm("PUT", "/uploads/", status=400, body=body)
    with pytest.raises(
        StorageError, match=r"the registry got other bytes than were sent \(DIGEST_INVALID\)"
    ):
        transfer.push(behind, packed("b", 2))
    assert [placed.number for placed in behind.list()] == [1]


def test_a_file_that_changed_since_it_was_added_is_not_taken_by_the_registry(place, packed, quick):
    one = packed(secrets.token_hex(4), size=100)
    one.paths[WEIGHTS].write_bytes(b"other")
    with pytest.raises(StorageError, match="DIGEST_INVALID"):
        transfer.push(place, one)
    assert place.list() == ()


def test_a_blob_that_the_registry_falsely_claims_to_have_is_sent(behind, proxy, packed, tmp_path):
    one = packed(secrets.token_hex(8))
    lie = proxy.harm("HEAD", f"/blobs/{digest_of(one, WEIGHTS)}", status=200)
    transfer.push(behind, one)
    assert lie.hits
    assert fetched(behind, 1, tmp_path).digest == one.manifest.digest


def test_a_registry_that_loses_blobs_is_an_error(behind, proxy, packed):
    body = json.dumps({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}).encode()
    proxy.harm("PUT", "/manifests/", status=400, body=body)
    with pytest.raises(
        StorageError, match=r"the registry loses what it was sent \(MANIFEST_BLOB_UNKNOWN\)"
    ):
        transfer.push(behind, packed("a"))


def test_lost_responses_end_in_one_version(behind, proxy, packed):
    harms = [
        proxy.harm("PUT", "/manifests/v1", lose=500, times=1),
        proxy.harm("PUT", "/uploads/", lose=502, times=1),
        proxy.harm("POST", "/uploads/", lose=503, times=1),
        proxy.harm("GET", "/tags/list", status=500, times=2),
    ]
    assert transfer.push(behind, packed("a")).number == 1
    assert [harm.hits for harm in harms] == [1, 1, 1, 2]
    assert [placed.number for placed in behind.list()] == [1]


@pytest.mark.parametrize(("status", "value"), [(429, "7"), (503, fault_server.Later(7))])
def test_the_retry_after_of_a_busy_registry_is_waited_for(
    behind, proxy, packed, quick, status, value
):
    transfer.push(behind, packed("a"))
    quick.clear()
    headers = {"Retry-After": value}
    proxy.harm("GET", "/tags/list", status=status, headers=headers, times=2)
    assert len(behind.list()) == 1
    assert quick == [7.0, 7.0]


@pytest.mark.parametrize("value", ["7", fault_server.Later(7)])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_the_retry_after_of_a_registry_too_busy_for_an_upload_is_waited_for(
    method, value, behind, proxy, packed, quick, tmp_path
):
    one = packed("large", size=LARGE)
    proxy.resumes = True
    busy = proxy.harm(method, "/uploads/", status=429, headers={"Retry-After": value}, times=1)
    transfer.push(behind, one)
    assert busy.hits == 1
    assert 7.0 in quick
    assert fetched(behind, 1, tmp_path).digest == one.manifest.digest


def test_a_registry_that_stays_busy_is_an_error_after_a_bounded_number_of_tries(behind, proxy):
    harm = proxy.harm("GET", "/tags/list", status=503)
    with pytest.raises(StorageError, match=r"it is too busy \(503\) and stayed so"):
        behind.list()
    assert harm.hits == http.POLICY.tries


def test_a_registry_that_asks_for_an_hour_is_an_error_that_names_it(behind, proxy, packed, quick):
    hour = {"Retry-After": "3600"}
    harm = proxy.harm("GET", "/tags/list", status=503, headers=hour)
    with pytest.raises(StorageError, match=r"too busy \(503\).*, and asks to wait 3,600 seconds"):
        behind.list()
    assert harm.hits == 1
    proxy.harms.clear()
    harm = proxy.harm("PUT", "/uploads/", status=429, headers=hour)
    with pytest.raises(
        StorageError, match="broke off every upload, and asks to wait 3,600 seconds\n  try again"
    ):
        transfer.push(behind, packed("a"))
    assert harm.hits
    assert not quick


def test_a_registry_that_never_takes_a_piece_is_an_error_and_no_endless_upload(
    behind, proxy, packed
):
    proxy.resumes = True
    first = proxy.harm("PATCH", "", lose=502, times=1)
    stuck = proxy.harm("PATCH", "", status=503)
    with pytest.raises(StorageError, match="the registry broke off every upload\n  try again"):
        transfer.push(behind, packed(secrets.token_hex(4), size=LARGE))
    assert first.hits == 1
    assert stuck.hits <= 2 * http.POLICY.tries


KILLED = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from artifacts import bundle
from adaptkit.remotes import transfer
from adaptkit_plugins.storage.oci import OciBackend
files = {{name: (Path({source!r}) / name).read_bytes() for name in {names!r}}}
transfer.push(OciBackend.open({url!r}), bundle(Path({scratch!r}), files), lambda count: print(count, flush=True))
"""


@pytest.mark.parametrize("pieces", [1, 4, 15])
def test_a_killed_push_is_not_seen_and_the_next_one_finishes(pieces, place, packed, tmp_path):
    one = packed("k", size=LARGE)
    code = KILLED.format(
        paths=[p for p in sys.path if p],
        source=str(tmp_path / "src-k"),
        scratch=str(tmp_path / "scratch"),
        names=[CONFIG, WEIGHTS, "README.md"],
        url=place.url,
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    for _ in range(pieces):
        assert process.stdout.readline(), "it ended before it could be killed"
    process.kill()
    process.wait()
    process.stdout.close()
    assert place.list() == ()
    assert transfer.push(place, one).number == 1
    assert fetched(place, 1, tmp_path).digest == one.manifest.digest


# ---------------------------------------------------------------- faults of a pull


@pytest.mark.parametrize("whole_again", [False, True], ids=["range", "range-ignored"])
def test_a_cut_download_goes_on_where_it_stopped(whole_again, behind, proxy, packed, tmp_path):
    one = packed("large", size=LARGE)
    transfer.push(behind, one)
    cut = proxy.harm("GET", digest_of(one, WEIGHTS), cut=LARGE // 2, times=1)
    if whole_again:
        proxy.harm("GET", digest_of(one, WEIGHTS), whole=True)
    arrived, into = [], tmp_path / "into"
    into.mkdir()
    behind.pull(
        behind.version(1), [e for e in one.files if e.path == WEIGHTS], into, arrived.append
    )
    assert cut.hits == 1
    assert sum(arrived) == LARGE
    assert sha256((into / WEIGHTS).read_bytes()).hexdigest() == digest_of(one, WEIGHTS)[7:]


def test_a_corrupt_blob_on_the_server_is_named_and_never_stored(place, registry, packed, tmp_path):
    one = packed(secrets.token_hex(8))
    transfer.push(place, one)
    data = registry.blob(digest_of(one, WEIGHTS))
    data.write_bytes(data.read_bytes()[::-1])
    store = Store(tmp_path / "store")
    with pytest.raises(Corrupt, match=f"'{WEIGHTS}' of {place.url}@1 is corrupt"):
        transfer.fetch(place, place.version(1), store)
    assert list(store.digests()) == []
    data.unlink()
    with pytest.raises(StorageError, match="is missing: the registry no longer has this blob"):
        transfer.fetch(place, place.version(1), store)


def test_corrupt_and_false_manifests_are_named(behind, proxy, packed):
    transfer.push(behind, packed("a"))
    image = raw(behind, "manifests/v1").json()
    own = next(
        layer["digest"]
        for layer in image["layers"]
        if layer["annotations"][images.TITLE] == "adaptkit.json"
    )
    for where, change, why in (
        (
            "/manifests/v1",
            lambda data: data.replace(b"naval", b"nav4l"),
            "the image manifest of .* is corrupt",
        ),
        (
            f"/blobs/{own}",
            lambda data: data.replace(b"naval", b"nav4l"),
            "is corrupt: its bytes do not match its digest",
        ),
        (f"/blobs/{own}", lambda data: data + b" " * (5 << 20), "more than 4,194,304 bytes"),
    ):
        proxy.harms.clear()
        proxy.harm("GET", where, change=change)
        with pytest.raises(Corrupt, match=why):
            behind.version(1)
    for text, why in (
        ("{}", "no layer is called adaptkit.json"),
        ("[]", "cannot be trusted"),
        ("{", "cannot be trusted"),
        ('{"layers": [{"digest": "md5:1", "size": 1}]}', "a layer has no sha256"),
        ('{"subject": "x"}', "its annotations or its subject are no tables"),
        ('{"layers": [{"annotations": []}]}', "its annotations or its subject are no tables"),
        ('{"annotations": [1]}', "its annotations or its subject are no tables"),
        ('{"layers": ["x"]}', "cannot be trusted"),
        ('{"manifests": 5}', "cannot be trusted"),
        ("[" * 100_000, "cannot be trusted"),
        (" " * (5 << 20), "too large"),
    ):
        proxy.harms.clear()
        proxy.harm("GET", "/manifests/v1", status=200, body=text.encode())
        with pytest.raises(Corrupt, match=why):
            behind.version(1)
        assert behind.list() == ()


@pytest.mark.parametrize(
    "path",
    [
        "../../evil",
        "/etc/evil",
        "C:\\evil",
        "\\\\host\\evil",
        "a\0b",
        ".git/config",
        "evil.",
        "ADAPTER_CONFIG.json",
        "adaptkit.json",
    ],
)
def test_a_hostile_name_is_refused_before_anything_is_written(path, place, packed, tmp_path):
    one = packed("a")
    entries = tuple(
        e if e.path != WEIGHTS else type(e)(path, e.size, e.sha256) for e in one.manifest.files
    )
    evil = replace(one.manifest, files=entries, digest=artifact_digest(entries))
    image = images.image(replace(one.placed, manifest=evil), "x")
    place._send(one, image, lambda _: None)
    place.manifests.put("v1", image.data)
    with pytest.raises(Corrupt, match=r"adaptkit.json of .*@1 cannot be trusted"):
        fetched(place, 1, tmp_path)
    assert place.list() == ()
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").rglob("*.*"))


# ---------------------------------------------------------------- where it is, and who we are


@pytest.mark.parametrize(
    "url",
    [
        "oci://",
        "oci:///naval",
        "oci://host/Naval",
        "oci://host/a//b",
        "oci://host/a:",
        "oci://host/../b",
        "oci://ada:hush@host/naval",
        "oci://ho st/naval",
        "oci://host/naval?x=hush",
    ],
)
def test_a_url_that_names_no_repository_is_an_error(url):
    with pytest.raises(StorageError, match="cannot read (the|a) place") as caught:
        OciBackend.open(url)
    assert "ada:hush" not in str(caught.value)


def test_a_registry_is_no_place_for_an_adapter(registry, packed):
    place = OciBackend.open(f"oci://{registry.host}")
    for work in (place.list, place.probe, place.aliases, lambda: transfer.push(place, packed("a"))):
        with pytest.raises(StorageError, match="it names a registry, not a repository in it"):
            work()


def test_a_missing_library_is_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(
        AdaptkitError, match=r"'oci' is not installed\n  pip install 'adaptkit-peft\[oci\]'"
    ):
        OciBackend.open("oci://localhost/naval").client.http  # noqa: B018


def test_a_registry_that_is_not_there_is_an_error(quick):
    port = servers.free_port()
    with pytest.raises(
        StorageError,
        match=f"cannot read oci://127.0.0.1:{port}/naval: cannot connect at 127.0.0.1:{port}",
    ):
        OciBackend.open(f"oci://127.0.0.1:{port}/naval").list()


def docker_login(folder, host, **entry):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {host: entry}}))


def basic(user, password):
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def challenged(proxy, repository):
    """A proxy that wants `basic ada:secret` before it lets anybody through."""
    proxy.needs = f"Basic {basic('ada', 'secret-word')}"
    return OciBackend.open(f"oci://{proxy.url.removeprefix('http://')}/{repository}")


def test_the_login_of_docker_is_used_and_never_shown(challenged, proxy, packed, tmp_path):
    with pytest.raises(
        StorageError,
        match="it needs a login, and docker's and podman's configuration have none.*\n  docker login 127",
    ):
        challenged.list()
    docker_login(tmp_path / "docker", challenged.address.host, auth=basic("ada", "WRONG-word"))
    with pytest.raises(StorageError, match="your login is not accepted there") as caught:
        OciBackend.open(challenged.url).list()
    assert "WRONG" not in str(caught.value)
    docker_login(tmp_path / "docker", challenged.address.host, auth=basic("ada", "secret-word"))
    place = OciBackend.open(challenged.url)
    assert transfer.push(place, packed("a")).number == 1
    assert "secret-word" not in repr(auth.find(challenged.address.host))
    assert "secret-word" not in repr(vars(place))


@pytest.mark.parametrize("entry", ["auth", "identitytoken", "helper"])
def test_a_token_is_fetched_from_the_named_server_and_renewed(
    entry, proxy, behind, packed, tmp_path, monkeypatch
):
    host = behind.address.host
    if entry == "helper":
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "docker-credential-tests"
        program.write_text(
            f'#!{sys.executable}\nimport sys\nassert sys.stdin.read() == "{host}"\n'
            'print(\'{"Username": "ada", "Secret": "secret-word"}\')\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker" / "config.json").write_text(
            json.dumps({"credHelpers": {host: "tests"}})
        )
    else:
        docker_login(
            tmp_path / "docker",
            host,
            **{entry: basic("ada", "secret-word") if entry == "auth" else "long-lived"},
        )
    proxy.tokens = {"Basic " + basic("ada", "secret-word"), "long-lived"}
    assert transfer.push(behind, packed("a")).number == 1
    scopes = set(proxy.given)
    assert scopes == {
        f"repository:{behind.address.repository}:pull",
        f"repository:{behind.address.repository}:pull,push",
    }
    proxy.valid.clear()  # every token has expired
    assert transfer.push(behind, packed("b", 2)).number == 2
    assert len(proxy.given) > len(scopes)


@pytest.mark.parametrize(
    "realm",
    [
        "http://registry.example.org/token",
        "file:///etc/passwd",
        "https://169.254.169.254/token",
        "https://2852039166/token",
        "http://[::1",
        "ftp://x/y",
        "",
    ],
)
def test_a_password_goes_to_no_token_server_that_is_not_safe(realm, proxy, behind, tmp_path):
    docker_login(tmp_path / "docker", behind.address.host, auth=basic("ada", "secret-word"))
    proxy.harm(
        "GET", "", status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}
    )
    with pytest.raises(
        StorageError,
        match="it sends its users for a token to a server that is not safe\n  do not trust this registry",
    ):
        behind.list()


def test_a_redirect_gets_no_authorisation_and_goes_nowhere_unsafe(
    challenged, proxy, registry, packed, tmp_path
):
    docker_login(tmp_path / "docker", challenged.address.host, auth=basic("ada", "secret-word"))
    one = packed("a")
    transfer.push(challenged, one)
    with fault_server.between(registry.url) as elsewhere:
        weights = digest_of(one, WEIGHTS)
        there = f"{elsewhere.url}/v2/{challenged.address.repository}/blobs/{weights}"
        harm = proxy.harm("GET", f"/blobs/{weights}", status=307, headers={"Location": there})
        assert fetched(challenged, 1, tmp_path).digest == one.manifest.digest
        assert harm.hits
        assert elsewhere.authorisations == {None}
    for bad in (
        "file:///etc/passwd",
        "https://169.254.169.254/latest",
        "http://registry.example.org/x",
        "http://[::1",
        "http://a:99999999/",
        "//",
    ):
        proxy.harms.clear()
        proxy.harm("GET", f"/blobs/{weights}", status=302, headers={"Location": bad})
        with pytest.raises(StorageError, match="not safe|in circles|the connection broke"):
            transfer.fetch(challenged, challenged.version(1), Store(tmp_path / f"store{len(bad)}"))


def test_which_urls_of_a_registry_may_be_followed():
    near, far = "http://127.0.0.1:5000", "https://registry.example.org"
    assert may_be_asked("https://auth.example.org/token", far)
    assert may_be_asked("http://localhost:9/x", near)
    for url in (
        "http://localhost:9/x",
        "http://auth.example.org/x",
        "https://127.0.0.1/x",
        "https://2130706433/x",
        "https://[::ffff:169.254.169.254]/x",
        "http://[::1",
        "https://[fe80::1]/x",
        "file:///x",
        "gopher://x",
        "https:///x",
    ):
        assert not may_be_asked(url, far)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "it is not a JSON file"),
        ('{"auths": [1]}', "is not what docker login writes"),
        ('{"auths": {"localhost": {"auth": "%%"}}}', "is not what docker login writes"),
        ('{"credHelpers": {"localhost": "../evil"}}', "is not what docker login writes"),
        ('{"credHelpers": {"localhost": "nowhere"}}', "whose program is not here"),
    ],
)
def test_a_broken_configuration_of_docker_is_an_error(text, why, tmp_path):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(text)
    with pytest.raises(StorageError, match=why):
        auth.find("localhost")


@pytest.mark.parametrize(
    ("status", "why"),
    [(403, "you may not do that there"), (404, "it is not there"), (418, "returned 418")],
)
def test_a_refusal_of_the_registry_is_an_error_with_its_reason(status, why, proxy, behind, packed):
    proxy.harm(
        "POST",
        "/uploads/",
        status=status,
        body=b'{"errors": [{"code": "DENIED", "message": "hush"}]}',
    )
    with pytest.raises(
        StorageError, match=rf"cannot write oci://.*: .*{why}.*\(DENIED\)"
    ) as caught:
        behind.probe()
    assert "hush" not in str(caught.value)


def test_a_probe_reports_that_tags_move(place):
    promise = place.probe()
    assert (promise.create_only, promise.compare_and_swap) == (False, False)
    assert "read" in promise.note
    assert "a tag can be overwritten" in promise.note


# ---------------------------------------------------------------- signatures


def test_signatures_are_found_again_in_a_registry_without_referrers(place, packed, monkeypatch):
    transfer.push(place, packed("a"))
    transfer.push(place, packed("b", 2))
    assert place.attached(1, KIND) == ()
    place.attach(1, KIND, {"model.sig": b"one"})
    place.attach(1, KIND, {"model.sig": b"two"})
    place.attach(1, "application/vnd.example.sbom", {"sbom.json": b"{}"})
    assert sorted(files["model.sig"] for files in place.attached(1, KIND)) == [b"one", b"two"]
    with monkeypatch.context() as patched:
        patched.setattr(attachments, "MOST_BYTES", 5)
        with pytest.raises(StorageError, match="what is attached to oci://.* cannot be read"):
            place.attached(1, KIND)
    assert place.attached(2, KIND) == ()
    assert [placed.number for placed in place.list()] == [1, 2]
    assert place.aliases() == {}
    with pytest.raises(StorageError, match="cannot attach to v9.*\n  push it first"):
        place.attach(9, KIND, {"model.sig": b"x"})


def test_signatures_are_found_through_referrers_where_the_registry_keeps_them(
    behind, proxy, packed
):
    transfer.push(behind, packed("a"))
    before = set(behind.manifests.tags())
    proxy.subjects = True  # as a registry of the distribution spec 1.1 returns
    digest = behind.attach(1, KIND, {"model.sig": b"one"})
    assert set(behind.manifests.tags()) == before, "no fallback tag is needed"
    index = {"schemaVersion": 2, "manifests": [{"digest": digest, "size": 1, "artifactType": KIND}]}
    proxy.harm("GET", "/referrers/", status=200, body=json.dumps(index).encode())
    assert behind.attached(1, KIND) == ({"model.sig": b"one"},)


def test_a_signature_of_another_version_is_not_taken_for_this_ones(place, packed):
    transfer.push(place, packed("a"))
    transfer.push(place, packed("b", 2))
    digest = place.attach(1, KIND, {"model.sig": b"one"})
    place.manifests._list_in_tag(
        place.manifests.digest("v2"), {"digest": digest, "size": 1, "artifactType": KIND}
    )
    assert place.attached(2, KIND) == ()
