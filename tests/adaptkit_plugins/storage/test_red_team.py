"""Hostile contents of real places of every backend against pull, sync, mirror, rebuild and merge.

The places are pushed to properly; then somebody who may write there changes what they hold. One process plays all commands
against one of them, and its record says that nothing outside was read or changed and that no other host was asked.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from functools import partial

import pytest
from artifacts import bundle
from hubs import hub
from loopback_hub import HubBehind
from red_team import SECRET, harmless, run

from adaptkit.extend import attachments
from adaptkit_plugins.storage.file import FileBackend
from adaptkit_plugins.storage.hub import HubBackend
from adaptkit_plugins.storage.objects import ObjectBackend
from adaptkit_plugins.storage.oci import OciBackend, images

__all__ = ["hub"]
MANIFEST, WEIGHTS = "adaptkit.json", "adapter_model.safetensors"
ESCAPES = "\x1b]0;pwned\x07\x1b[2J\u202e\nFAKE"


def _first(**change):
    """The manifest with its first file changed."""

    def changed(manifest):
        return {**manifest, "files": [{**manifest["files"][0], **change}, *manifest["files"][1:]]}

    return changed


MANIFESTS = {
    "path-out": _first(path="../../../outside/secret"),
    "path-absolute": _first(path="/etc/passwd"),
    "path-git": _first(path=".git/hooks/post-checkout"),
    "size-huge": _first(size=1 << 50),
    "size-negative": _first(size=-1),
    "extra-out": lambda manifest: {
        **manifest,
        "extras": [{"path": "../../../user/.ssh/id_rsa", "size": len(SECRET), "sha256": "0" * 64}],
    },
    "name-out": lambda manifest: {**manifest, "name": f"../../evil{ESCAPES}"},
    "message": lambda manifest: {**manifest, "message": ESCAPES, "author": ESCAPES},
    "number-huge": lambda manifest: {**manifest, "number": 10**30},
    "base-out": lambda manifest: {
        **manifest,
        "base": {"name": "../../../../outside/secret", "levels": []},
    },
}
TEXTS = {"nested": b"[" * 100_000, "digits": b'{"number": ' + b"9" * 100_000 + b"}", "empty": b""}
ALIASES = b'{"../../vic/manifests/prod": 1, "latest": 1, "v9": 1, "a\\u0000b": 1, "prod": 1e999}'


def _attach_secrets(place):
    """A signature and a corrected README.md that are something else."""
    place.attach(1, attachments.SIGNATURE, {"key.pub": SECRET, "model.sig": b"{}"})
    place.attach(1, attachments.CORRECTION, {"README.md": SECRET, "about.json": b"[" * 9999})
    place.attach(1, attachments.MOMENTS, {"about.json": SECRET})


class Files:
    """Team folders."""

    def __init__(self, tmp_path):
        self.root, self.environment, self.hosts = (tmp_path / "team").as_uri(), {}, set()
        self.open = FileBackend.open

    def write(self, place, path, data):
        (place.folder / path).write_bytes(data)


class Bucket:
    def __init__(self, server, request, tmp_path):
        running = request.getfixturevalue(server)
        self.root = f"{running.scheme}://{request.getfixturevalue('use')(running)}"
        self.environment, self.hosts, self.open = running.environment(), set(), ObjectBackend.open

    def write(self, place, path, data):
        place.bucket.put(path, data)


class Hub:
    def __init__(self, request, tmp_path):
        self._hub = request.getfixturevalue("hub")
        self.root, self.open = "hf://fleet", HubBackend.open
        self.environment = {"HF_ENDPOINT": self._hub.url, "HF_HUB_OFFLINE": "0"}
        self.hosts = {self._hub.address(one).removeprefix("http://") for one in ("hub", "store")}

    def create(self, name):
        self._hub.create(f"fleet/{name}")

    def write(self, place, path, data):
        repo = self._hub.repos[place.url.removeprefix("hf://")]
        if path.startswith("v1/"):
            HubBehind(repo).write(path, data)
        else:
            repo.commit({path: data})


class Registry:
    def __init__(self, request, tmp_path):
        server = request.getfixturevalue("registry")
        self.root = f"oci://{server.host}/team-{secrets.token_hex(4)}"
        self.environment, self.hosts, self.open = {}, {server.host}, OciBackend.open

    def write(self, place, path, data):
        if path != f"v1/{MANIFEST}":
            return  # a registry keeps files by their digest
        image = json.loads(place.manifests.get("v1"))
        layer = image["layers"][-1] = {**image["layers"][-1], "digest": images.digest_of(data)}
        layer["size"] = len(data)
        place.blobs.put(layer["digest"], data, len(data), lambda _: None)
        place.manifests.put("v1", json.dumps(image).encode())


KINDS = {
    "file": lambda _, tmp: Files(tmp),
    "s3": partial(Bucket, "moto"),
    "gs": partial(Bucket, "google"),
    "az": partial(Bucket, "azure"),
    "hf": Hub,
    "oci": Registry,
}


ALL = (*MANIFESTS, *TEXTS, "aliases", "weights", "attached")
FEW = ("path-out", "message", "aliases", "weights", "attached")


def _prepare(team, names, tmp_path):
    """A team of one kind: `good`, and an adapter for each harm."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    team.names = names
    contents = {"adapter_config.json": b'{"r": 8}', "README.md": b"# naval\n"}
    for name in ("good", *names):
        packed = bundle(tmp_path / "source" / name, {**contents, WEIGHTS: name.encode()})
        if isinstance(team, Hub):
            team.create(name)
        place = team.open(f"{team.root}/{name}")
        place.push(packed, ())
        said = packed.placed.to_json() | {"number": 1}
        if name in MANIFESTS:
            team.write(place, f"v1/{MANIFEST}", json.dumps(MANIFESTS[name](said)).encode())
        elif name in TEXTS:
            team.write(place, f"v1/{MANIFEST}", TEXTS[name])
        elif name == "aliases":
            team.write(place, "refs.json", ALIASES)
        elif name == "weights":
            team.write(place, f"v1/{WEIGHTS}", bytes(1 << 20))
        elif name == "attached":
            _attach_secrets(place)


def _commands(team, tmp_path, pulled):
    root, target = team.root, (tmp_path / "target").as_uri()
    mirrored = (
        [["mirror", f"{root}/{name}", f"{target}/{name}"] for name in ("good", *team.names)]
        if isinstance(team, Hub)  # it lists no adapters
        else [["mirror", root, target]]
    )
    rebuilt = [f"{root}/{name}" for name in team.names] if isinstance(team, Hub) else [root]
    return [
        *(["pull", f"{root}/{name}"] for name in pulled),
        ["merge", f"{root}/path-out", f"{root}/weights", "--out", "merged"],
        ["sync"],
        *mirrored,
        *(["registry", "rebuild", "--from", url] for url in rebuilt),
        ["list", "--all"],
        ["log", "--events"],
        ["fsck"],
    ]


def _play(team, tmp_path, pulled):
    (tmp_path / "work").mkdir()
    lines = [f'{name} = "{team.root}/{name}@1"\n' for name in ("good", *team.names)]
    (tmp_path / "work" / "adaptkit.toml").write_text("[adapters]\n" + "".join(lines))
    found = run(tmp_path, _commands(team, tmp_path, pulled), **team.environment)
    harmless(found, tmp_path, team.hosts)
    assert set(found.connected) == team.hosts  # obstore's connections are Rust's own
    assert "\x1b]0;" not in found.shown
    assert "\u202e" not in found.shown
    assert (tmp_path / "target" / "good" / "v1" / MANIFEST).is_file()
    return found


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_contents_of_a_place_harm_nobody_who_reads_it(kind, request, tmp_path):
    team = KINDS[kind](request, tmp_path)
    _prepare(team, FEW, tmp_path)
    codes = _play(team, tmp_path, ["path-out", "attached"]).codes()
    assert codes[f"pull {team.root}/path-out"] == 1
    assert codes[f"pull {team.root}/attached"] == 0
    assert codes["sync"] == 1


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_every_hostile_adapter_of_a_place_harms_nobody(kind, request, tmp_path):
    team = KINDS[kind](request, tmp_path)
    _prepare(team, ALL, tmp_path)
    codes = _play(team, tmp_path, ALL).codes()
    for name in ("path-out", "path-absolute", "path-git", "size-negative", "extra-out", *TEXTS):
        assert codes[f"pull {team.root}/{name}"] == 1, name


def test_the_record_shows_what_is_read_and_changed(tmp_path):
    """The checks above can fail: they find a command that was asked to go outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    outside = tmp_path / "outside"
    found = run(tmp_path, [["add", str(outside), "--name", "x"], ["demo", str(outside / "demo")]])
    with pytest.raises(AssertionError, match="outside/demo"):
        harmless(found, tmp_path)
    with pytest.raises(AssertionError, match="outside"):
        harmless(replace(found, changed=[]), tmp_path)
