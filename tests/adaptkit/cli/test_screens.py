"""What a person sees on terminals of 60, 80 and 140 columns, as text to read and compare.

`ADAPTKIT_WRITE_SCREENS=1` writes the pictures in `screens/` anew.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import sqlite3
import struct
import subprocess
import termios
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_line import ADAPTKIT, Shell

SCREENS = Path(__file__).with_name("screens")
COMMANDS = {
    "adaptkit": (),
    "list": ("list",),
    "show": ("show", "naval@prod"),
    "merge": ("merge", "naval@prod=0.8", "medic=0.8", "--name", "bridge"),
}


@pytest.fixture(scope="module")
def workspace_on_disk(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("screens"))
    shell.run("demo", "fleet")
    shell.run("init")
    shell.run("add", "fleet/naval", "--name", "naval", "--base", "fleet/ship", "--alias", "prod")
    message = "terse sickbay reports, as Doctor Chapel wants them in the morning"
    shell.run("add", "fleet/medic", "--name", "medic", "--base", "fleet/ship", "-m", message)
    shell.run("note", "naval", "--tag", "approved", "--metric", "exact=0.97")
    hours = {"naval": 2.6, "medic": 2.5}
    with closing(sqlite3.connect(shell.home / "registry.db")) as database:
        for name, ago in hours.items():
            created = (datetime.now(UTC) - timedelta(hours=ago)).isoformat()
            database.execute(
                "UPDATE versions SET created = ? WHERE adapter_id = "
                "(SELECT id FROM adapters WHERE name = ?)",
                (created, name),
            )
        database.commit()
    return shell


def on_a_terminal(arguments, columns, shell):
    """What the command writes to a terminal of that width."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [ADAPTKIT, *arguments],
        cwd=shell.folder,
        stdin=side,
        stdout=side,
        stderr=subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
        | {"ADAPTKIT_HOME": str(shell.home), "TZ": "UTC", "TERM": "xterm"},
    )
    os.close(side)
    written = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        written += part
        if not part:
            break
    os.close(main)
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0, errors
    return written.decode().replace("\r\n", "\n")


def steady(text, shell):
    """Without what differs from run to run: times, digests, folders."""
    text = text.replace(str(shell.home), "HOME")
    text = re.sub(r"(sha256|as1|fs1|tm1):[0-9a-f]+", lambda m: f"{m[1]}:" + "0" * 8, text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "2026-11-25 10:00 UTC", text)
    text = re.sub(
        r"loss \S+ of the merged update \(worst \S+ in \S+\)",
        "loss 0.00016 of the merged update (worst 0.00018 in MODULE)",
        text,
    )
    return re.sub(r"bridge@\d+", "bridge@1", text)


@pytest.mark.parametrize("columns", [60, 80, 140])
@pytest.mark.parametrize("name", COMMANDS)
def test_the_screen_is_as_it_was_looked_at(name, columns, workspace_on_disk):
    shown = steady(on_a_terminal(COMMANDS[name], columns, workspace_on_disk), workspace_on_disk)
    if name == "merge":
        workspace_on_disk.run("rm", "bridge", "--yes")
    file = SCREENS / f"{name}-{columns}.txt"
    if os.environ.get("ADAPTKIT_WRITE_SCREENS") == "1":
        file.write_text(shown)
    assert shown == file.read_text()
