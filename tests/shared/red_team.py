"""Commands against a hostile place, in a process whose audit hook records what Python opens, changes and connects to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

MOST_SECONDS, MOST_MEMORY = 20.0, 300 << 10  # kilobytes
SECRET = (
    b"-----BEGIN OPENSSH PRIVATE KEY-----\nthis stays here\n-----END OPENSSH PRIVATE KEY-----\n"
)
_DRIVER = """
import json, os, sys, time
from adaptkit.io.machine.collection import put_off_collection
put_off_collection()  # as every command does
opened, changed, connected = [], [], []
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
def path(of):
    return os.path.abspath(os.fsdecode(of))
def hook(event, args):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(args[0], (str, bytes)):
        opened.append(path(args[0]))
        if event == "open" and (args[2] or 0) & WRITES:
            changed.append(path(args[0]))
    elif event in CHANGES:
        changed.extend(path(one) for one in args[:2] if isinstance(one, (str, bytes, os.PathLike)))
    elif event == "socket.connect" and isinstance(args[1], tuple):
        connected.append(f"{args[1][0]}:{args[1][1]}")
from adaptkit.cli import main
import adaptkit.cli.app, adaptkit.workspace, adaptkit_registry, sqlalchemy, httpx, huggingface_hub.hf_api
options = json.loads(sys.argv[2])
if options["hurry"]:
    from adaptkit.io.http import limits
    from adaptkit_plugins.storage.objects import waiting
    limits.GRACE, waiting.PATIENCE = 0.3, 1.0
sys.addaudithook(hook)
results = []
for command in options["commands"]:
    begun = time.monotonic()
    code = main(command)
    results.append([command, code, time.monotonic() - begun])
# not ru_maxrss, which a child inherits from the process that forked it
status = open("/proc/self/status").read()
peak = int(status.partition("VmHWM:")[2].split()[0])
found = json.dumps(
    {"results": results, "opened": opened, "changed": changed, "connected": connected, "peak": peak}
)
with open(sys.argv[1], "w") as file:
    file.write(found)
"""


@dataclass(frozen=True)
class Record:
    """What commands did, and what they printed."""

    results: list
    opened: list
    changed: list
    connected: list
    peak: int
    shown: str

    def codes(self):
        return {" ".join(command): code for command, code, _ in self.results}


def run(tmp_path, commands, *, hurry=False, **environment):
    """Run commands one after the other. `hurry` shortens how long a slow server is waited for."""
    log = tmp_path / "log.json"
    for folder in ("outside", "user/.ssh", "work"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "user" / ".ssh" / "id_rsa").write_bytes(SECRET)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _DRIVER,
            str(log),
            json.dumps({"commands": commands, "hurry": hurry}),
        ],
        cwd=tmp_path / "work",
        env=os.environ
        | {"ADAPTKIT_HOME": str(tmp_path / "home"), "HOME": str(tmp_path / "user")}
        | {"PYTHONDONTWRITEBYTECODE": "1"}
        | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert "this is a bug" not in done.stderr
    return Record(**json.loads(log.read_text()), shown=done.stderr + done.stdout)


def harmless(found, tmp_path, hosts=()):
    """Nothing outside was read or changed, nobody else asked, and it took little time and memory."""
    own = [tmp_path / name for name in ("home", "target", "work", "user/.cache", "user/.config")]
    own += [tmp_path / "user/.local", tmp_path / "user/hf-home", tempfile.gettempdir() + "/tmp"]
    homes = tuple(f"{folder}" for folder in own)
    changed = [path for path in found.changed if not path.startswith((*homes, "/dev/null"))]
    assert changed == [], changed
    private = (str(tmp_path / "outside"), str(tmp_path / "user" / ".ssh"), "/etc/passwd")
    opened = [path for path in found.opened if path.startswith(private)]
    assert opened == [], opened
    assert set(found.connected) <= set(hosts), found.connected
    assert found.peak < MOST_MEMORY, found.peak
    slow = [one for one in found.results if one[2] > MOST_SECONDS]
    assert slow == [], slow
    for folder in ("home", "target"):
        for path in (tmp_path / folder).rglob("*"):
            assert not (path.is_file() and b"this stays here" in path.read_bytes()[:4096]), path
