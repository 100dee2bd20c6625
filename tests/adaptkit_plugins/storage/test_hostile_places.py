"""A hostile place of every backend against every command that reads one.

Each command runs in a process whose audit hook records what Python opens and where it connects to. Nothing outside is
read or written, no other host is asked, memory stays below 300 MB, and each command ends within 20 seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from artifacts import bundle

from adaptkit.testing.hostile_server import hostile_server
from adaptkit_plugins.storage.file import FileBackend

MOST_SECONDS, MOST_MEMORY = 20.0, 300 << 10  # kilobytes
SECRET = (
    b"-----BEGIN OPENSSH PRIVATE KEY-----\nthis stays here\n-----END OPENSSH PRIVATE KEY-----\n"
)
_KIND = "application-vnd.adaptkit.signature.v1-json"
_DRIVER = """
import json, os, sys, time
opened, connected = [], []
def hook(event, args):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(args[0], (str, bytes)):
        opened.append(os.path.abspath(os.fsdecode(args[0])))
    elif event == "socket.connect" and isinstance(args[1], tuple):
        connected.append(f"{args[1][0]}:{args[1][1]}")
from adaptkit.cli import main
import adaptkit.cli.app, adaptkit.workspace, adaptkit_registry, sqlalchemy, httpx, huggingface_hub.hf_api
sys.addaudithook(hook)
results = []
for command in json.loads(sys.argv[2]):
    begun = time.monotonic()
    code = main(command)
    results.append([command, code, time.monotonic() - begun])
# not ru_maxrss, which a child inherits from the process that forked it
status = open("/proc/self/status").read()
peak = int(status.partition("VmHWM:")[2].split()[0])
with open(sys.argv[1], "w") as file:
    json.dump({"results": results, "opened": opened, "connected": connected, "peak": peak}, file)
"""


def run(tmp_path, commands, **environment):
    """What the audit hook recorded of these commands, and what they printed."""
    log = tmp_path / "log.json"
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(log), json.dumps(commands)],
        cwd=tmp_path,
        env=os.environ
        | {"ADAPTKIT_HOME": str(tmp_path / "home"), "HOME": str(tmp_path / "user")}
        | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "this is a bug" not in done.stderr
    return json.loads(log.read_text()), done.stderr


def harmless(found, tmp_path, hosts=()):
    """Nothing outside was opened, nobody else asked, and it took little time and memory."""
    outside = [path for path in found["opened"] if path.startswith(str(tmp_path / "outside"))]
    assert outside == []
    assert [
        path for path in found["opened"] if path.startswith(str(tmp_path / "user" / ".ssh"))
    ] == []
    assert set(found["connected"]) <= set(hosts)
    assert found["peak"] < MOST_MEMORY
    slow = [one for one in found["results"] if one[2] > MOST_SECONDS]
    assert slow == []
    for folder in ("home", "target"):
        for path in (tmp_path / folder).rglob("*"):
            assert not (path.is_file() and b"this stays here" in path.read_bytes()[:4096]), path


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
    (tmp_path / "user" / ".ssh").mkdir(parents=True)
    (tmp_path / "user" / ".ssh" / "id_rsa").write_bytes(SECRET)
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
    (tmp_path / "adaptkit.toml").write_text(
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
    found, shown = run(tmp_path, commands)
    harmless(found, tmp_path)
    codes = {" ".join(command): code for command, code, _ in found["results"]}
    for name in ("manifest-link", "manifest-fifo", "manifest-monster", "weights-link", "device"):
        assert codes[f"pull {url}/{name}"] == 1, name
    assert "is a symbolic link, and only plain files of the place itself are read" in shown
    assert (tmp_path / "target" / "good" / "v1" / "adaptkit.json").is_file()
    assert not list((tmp_path / "target").rglob("key.pub"))


# ---------------------------------------------------------------- servers


@pytest.fixture(scope="module")
def hostile():
    with hostile_server() as server:
        yield server


def _bucket(host):
    return {
        "AWS_ENDPOINT_URL": f"http://{host}",
        "AWS_ACCESS_KEY_ID": "adaptkit-tests",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret-at-all",
        "AWS_REGION": "us-east-1",
    }


def _hub(host):
    return {"HF_ENDPOINT": f"http://{host}", "HF_HUB_OFFLINE": "0"}


ENDLESS = [
    *(("oci", mode) for mode in ("trickle", "headers", "bomb", "flood", "endless")),
    *(("hf", mode) for mode in ("trickle", "headers", "bomb", "flood", "redirects")),
    *(("s3", mode) for mode in ("trickle", "headers")),
]


def test_a_place_that_never_ends_or_misleads_is_left_in_seconds(hostile, tmp_path):
    """Four at once: each command spends its time waiting."""

    def pull(one):
        kind, mode = one
        url = f"oci://{hostile.host}/{mode}/naval" if kind == "oci" else f"{kind}://{mode}/naval"
        folder = tmp_path / kind / mode
        folder.mkdir(parents=True)
        environment = {"oci": {}, "hf": _hub(hostile.host), "s3": _bucket(hostile.host)}[kind]
        return url, folder, run(folder, [["pull", url]], **environment)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(pull, ENDLESS))
    for url, folder, (found, shown) in done:
        harmless(found, folder, {hostile.host})
        assert [code for _, code, _ in found["results"]] == [1], url
        slow = "the store is too slow"
        assert (slow if url.startswith("s3") else f"cannot read {url}") in shown


def test_a_digest_that_is_a_path_asks_a_registry_for_nothing_else(hostile, tmp_path):
    url = f"oci://{hostile.host}/digests/naval"
    found, shown = run(tmp_path, [["pull", url], ["mirror", url, (tmp_path / "target").as_uri()]])
    harmless(found, tmp_path, {hostile.host})
    assert "a layer has no sha256 or size" in shown
    assert not [path for path in hostile.asked if "private" in path]


def test_a_registry_that_redirects_to_the_machines_own_services_is_not_followed(hostile, tmp_path):
    found, shown = run(tmp_path, [["pull", f"oci://{hostile.host}/redirects/naval"]])
    harmless(found, tmp_path, {hostile.host})
    assert "not safe" in shown
