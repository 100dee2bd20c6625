"""A hostile place of every backend against every command that reads one.

Each command runs in a process whose audit hook records what Python opens and where it connects to. Nothing outside is
read or written, no other host is asked, memory stays below 300 MB, and each command ends within 20 seconds.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from artifacts import bundle
from loopback_buckets import SCHEMES as BUCKETS
from loopback_buckets import GoogleBuckets, bucket_environment
from red_team import SECRET, harmless, run

from adaptkit.testing.hostile_server import hostile_server
from adaptkit_plugins.storage.file import FileBackend
from adaptkit_plugins.storage.objects import ObjectBackend

_KIND = "application-vnd.adaptkit.signature.v1-json"


# ---------------------------------------------------------------- a folder


def _link_key(place, secret):
    folder = place / "v1.attached" / _KIND / ("a" * 32)
    folder.mkdir(parents=True)
    (folder / "statement.json").write_text("{}")
    (folder / "model.sig").write_text("{}")
    (folder / "key.pub").symlink_to(secret)


def _fifo_signature(place, _):
    folder = place / "v1.attached" / _KIND / ("b" * 32)
    folder.mkdir(parents=True)
    os.mkfifo(folder / "model.sig")


def _swap(place, path, make):
    file = place / path
    kept = file.read_bytes()
    file.unlink()
    make(file, kept)


def _monster(file, _):
    with file.open("wb") as opened:
        opened.truncate(3 << 30)


def _device_behind_a_link(place, _):
    manifest = json.loads((place / "v1" / "adaptkit.json").read_text())
    manifest["extras"] = [{"path": "d/zero", "size": 10, "sha256": "0" * 64}]
    (place / "v1" / "adaptkit.json").write_text(json.dumps(manifest))
    (place / "v1" / "d").symlink_to("/dev")


HARMS = {
    "signature-link": _link_key,
    "signature-fifo": _fifo_signature,
    "aliases-link": lambda place, secret: (place / "refs.json").symlink_to(secret),
    "aliases-fifo": lambda place, _: os.mkfifo(place / "refs.json"),
    "alias-path": lambda place, _: (place / "refs.json").write_text(
        '{"../../vic/manifests/prod": 1}'
    ),
    "manifest-link": lambda place, secret: _swap(
        place, "v1/adaptkit.json", lambda file, _: file.symlink_to(secret)
    ),
    "manifest-fifo": lambda place, _: _swap(
        place, "v1/adaptkit.json", lambda file, _: os.mkfifo(file)
    ),
    "manifest-monster": lambda place, _: _swap(place, "v1/adaptkit.json", _monster),
    "weights-link": lambda place, secret: _swap(
        place, "v1/adapter_model.safetensors", lambda file, _: file.symlink_to(secret)
    ),
    "weights-monster": lambda place, _: _swap(place, "v1/adapter_model.safetensors", _monster),
    "device": _device_behind_a_link,
    "version-link": lambda place, secret: (place / "v2").symlink_to(secret.parent),
}


@pytest.fixture
def hostile_folder(tmp_path):
    """A team's folder in which every adapter was harmed, and one was not."""
    team, outside = tmp_path / "team", tmp_path / "outside"
    for name in ("good", *HARMS):
        contents = {
            "adapter_config.json": b'{"r": 8}',
            "adapter_model.safetensors": name.encode(),
        }
        packed = bundle(tmp_path / "src" / name, contents)
        FileBackend.open((team / name).as_uri()).push(packed, ())
    shutil.copytree(team / "good" / "v1", outside / "v1")
    (outside / "secret").write_bytes(SECRET)
    for name, harm in HARMS.items():
        harm(team / name, outside / "secret")
    return team


def test_a_hostile_folder_gets_nothing_out_of_pull_rebuild_mirror_merge_and_sync(
    hostile_folder, tmp_path
):
    url, target = hostile_folder.as_uri(), (tmp_path / "target").as_uri()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "adaptkit.toml").write_text(
        "[adapters]\n"
        + "".join(f'{name} = "{url}/{name}"\n' for name in ("device", "weights-link"))
    )
    commands = [
        *(["pull", f"{url}/{name}"] for name in HARMS),
        ["merge", f"{url}/weights-link", f"{url}/device", "--out", "merged"],
        ["sync"],
        ["mirror", url, target],
        ["registry", "rebuild", "--from", url],
        ["fsck", "--deep"],
    ]
    found = run(tmp_path, commands)
    harmless(found, tmp_path)
    codes = found.codes()
    for name in ("manifest-link", "manifest-fifo", "manifest-monster", "weights-link", "device"):
        assert codes[f"pull {url}/{name}"] == 1, name
    assert "is a symbolic link, and only plain files of the place itself are read" in found.shown
    assert (tmp_path / "target" / "good" / "v1" / "adaptkit.json").is_file()
    assert not list((tmp_path / "target").rglob("key.pub"))


# ---------------------------------------------------------------- servers


@pytest.fixture(scope="module")
def hostile():
    with hostile_server() as server:
        yield server


def _hub(host):
    return {"HF_ENDPOINT": f"http://{host}", "HF_HUB_OFFLINE": "0"}


HTTP = ("trickle", "headers", "bomb", "flood", "oversized", "endless", "metadata")
KINDS = ("oci", "hf", *BUCKETS)
SERVED = [(kind, mode) for kind in KINDS for mode in HTTP]
ACTIONS = {
    "pull": lambda url, _: ["pull", url],
    "mirror": lambda url, target: ["mirror", url, f"{target}/naval"],
    "rebuild": lambda url, _: ["registry", "rebuild", "--from", url],
    "merge": lambda url, _: ["merge", url, url, "--out", "merged"],
    "sync": lambda url, _: ["sync"],
    "show": lambda url, _: ["show", url],
    "log": lambda url, _: ["log", url],
    "diff": lambda url, _: ["diff", url, url],
    "list": lambda url, _: ["list", f"{_remote(url)}:"],
    "remote": lambda url, _: ["remote", "show", _remote(url)],
}


def _remote(url):
    """The name under which a project has the root that an adapter's place is below."""
    kind, _, rest = url.partition("://")
    return f"{kind}-{rest.split('/')[-2]}"


def _codes(found):
    return [code for command, code, _ in found.results if command[:2] != ["remote", "add"]]


def _served(hostile, tmp_path, served, *, hurry):
    """Play these (kind, mode, action), each against a place of its own; the record."""
    commands, target = [], (tmp_path / "target").as_uri()
    (tmp_path / "work").mkdir(exist_ok=True)
    for kind, mode, action in served:
        host = f"{hostile.host}/" if kind == "oci" else ""
        url = f"{kind}://{host}{mode}/naval"
        if action == "sync":
            project = tmp_path / "work" / "adaptkit.toml"
            project.write_text(f'[adapters]\nnaval = "{url}@1"\n')
        if action in {"list", "remote"}:
            commands.append(["remote", "add", _remote(url), url.rpartition("/")[0]])
        commands.append(ACTIONS[action](url, target))
    environment = {**bucket_environment(hostile.host, tmp_path), **_hub(hostile.host)}
    return run(tmp_path, commands, hurry=hurry, **environment)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_never_ends_or_misleads_is_left_by_every_command(kind, hostile, tmp_path):
    """Each kind of server once, each by another command, with less patience than users have."""
    actions = [name for name in ACTIONS if name != "sync"]
    played = [(*one, actions[at % len(actions)]) for at, one in enumerate(SERVED)]
    played += [("oci", "flood", "sync")]
    mine = [one for one in played if one[0] == kind]
    found = _served(hostile, tmp_path, mine, hurry=True)
    harmless(found, tmp_path, {hostile.host})
    assert set(_codes(found)) == {1}, found.codes()


@pytest.mark.soak
@pytest.mark.parametrize("action", ACTIONS)
def test_a_server_that_never_ends_or_misleads_is_left_in_seconds(hostile, tmp_path, action):
    """Four at once: each command spends its time waiting."""

    def play(one):
        folder = tmp_path / "-".join(one)
        folder.mkdir()
        return folder, _served(hostile, folder, [(*one, action)], hurry=False)

    with ThreadPoolExecutor(4) as pool:
        for folder, found in pool.map(play, SERVED):
            harmless(found, folder, {hostile.host})
            assert _codes(found) == [1], folder.name


def test_a_digest_that_is_a_path_asks_a_registry_for_nothing_else(hostile, tmp_path):
    url = f"oci://{hostile.host}/digests/naval"
    found = run(
        tmp_path,
        [["pull", url], ["mirror", url, (tmp_path / "target" / "naval").as_uri()]],
        hurry=True,
    )
    harmless(found, tmp_path, {hostile.host})
    assert "a layer has no sha256 or size" in found.shown
    assert not [path for path in hostile.asked if "private" in path]


def test_a_registry_that_redirects_to_the_machines_own_services_is_not_followed(hostile, tmp_path):
    found = run(tmp_path, [["pull", f"oci://{hostile.host}/metadata/naval"]])
    harmless(found, tmp_path, {hostile.host})
    assert "not safe" in found.shown


class Stalling(GoogleBuckets):
    """A bucket that lists everything at once, and gives none of it."""

    def respond(self, request):
        said = super().respond(request)
        if self.over or "list-type" in request.query or request.method != "GET":
            return said
        self.stalled.append(request.path)
        return replace(said, headers={**said.headers, "Content-Length": str(len(said.body) + 9)})

    over, stalled = True, ()


@pytest.mark.parametrize("kind", ["adapters", pytest.param("versions", marks=pytest.mark.soak)])
def test_a_place_that_gives_nothing_is_asked_once_not_for_each_of_its_adapters(kind, tmp_path):
    with Stalling.running(tmp_path) as bucket, pytest.MonkeyPatch.context() as patch:
        for name, value in bucket.environment().items():
            patch.setenv(name, value)
        for at in range(12):
            data = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": b"%d" % at}
            name = f"a{at}" if kind == "adapters" else "a"
            made = bundle(tmp_path / "src" / str(at), data)
            ObjectBackend.open(f"gs://team/x/{name}").push(
                made, ObjectBackend.open(f"gs://team/x/{name}").list()
            )
        environment = {**bucket.environment()}
        known = run(tmp_path, [["registry", "rebuild", "--from", "gs://team/x"]], **environment)
        assert set(_codes(known)) == {0}
        bucket.over, bucket.stalled = False, []
        commands = [
            ["fsck"],
            ["registry", "rebuild", "--from", "gs://team/x"],
            ["mirror", "gs://team/x", (tmp_path / "target").as_uri()],
        ]
        found = run(tmp_path, commands, hurry=True, **environment)
    harmless(found, tmp_path)
    assert [seconds for _, _, seconds in found.results if seconds > 9] == []
    assert _codes(found) == [0, 1, 1], found.shown
    assert "too slow" in found.shown
