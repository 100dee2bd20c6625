"""Real servers on loopback, as processes that live as long as the tests that need them."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_START = 60.0  # seconds


def program(name: str, install: str) -> str:
    """Where a server's program is, in this environment or on the PATH; skips with the line that installs it."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: {install}")
    return found


def free_port() -> int:
    """A port for a server to come: below those that Linux gives to clients, so that none of ours takes it meanwhile."""
    while True:
        port = secrets.randbelow(20_000) + 12_000
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


@contextmanager
def serving(
    command: list[str], port: int, log: Path, *, start: float = _START, **environment: str
) -> Iterator[str]:
    """Run a server until the block ends; its URL, once it accepts connections."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=os.environ | environment,
        )
    try:
        deadline = time.monotonic() + start
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{command[0]} did not start:\n{log.read_text()[-2000:]}"
                    ) from None
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
