"""Real clusters: Dask with two workers on 127.0.0.1; Ray with two nodes in a network namespace that has only `lo`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = 60.0


@contextmanager
def dask(folder: Path, workers: int = 2, *, nanny: bool = True) -> Iterator[str]:
    """A scheduler and workers of one thread each; the URL for `--on`. A nanny starts a killed worker again."""
    file = folder / "scheduler.json"
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with (folder / "dask.log").open("wb") as log, _processes() as start:
        local = ["--host", "127.0.0.1", "--scheduler-file", str(file)]
        scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        start([*scheduler, *local, "--port", "0", "--no-dashboard"], log, environment)
        wait_until(lambda: file.exists() and file.stat().st_size)  # made first, written then
        worker = [sys.executable, "-m", "distributed.cli.dask_worker"]
        plain = ["--nthreads", "1", "--no-dashboard", "--death-timeout", "60"]
        plain += [] if nanny else ["--no-nanny"]
        for number in range(workers):
            place = folder / f"worker-{number}"
            place.mkdir()
            own = ["--local-directory", str(place), "--name", f"worker-{number}"]
            start([*worker, *local, *plain, *own], log, environment)
        address = json.loads(file.read_text())["address"].removeprefix("tcp://")
        url = f"dask://{address}"
        wait_for_workers(url, workers)
        yield url


def wait_for_workers(url: str, count: int) -> None:
    """Wait until so many workers of a Dask cluster are there; one that was killed is started again by its nanny."""
    from distributed import Client

    with Client(url.replace("dask:", "tcp:"), set_as_default=False) as client:
        client.wait_for_workers(count, timeout=LONG)


@contextmanager
def _processes() -> Iterator[object]:
    """A function that starts processes, each with a group of its own; all are ended with the block."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command, log, environment):
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in reversed(started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in reversed(started):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_until(condition, seconds: float = LONG) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the cluster did not start"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


# ---------------------------------------------------------------- Ray, in a network of its own

ALONE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
if os.geteuid():
    ALONE.append("--map-root-user")
ALONE.append("--")
"""Ray binds every interface and dials the host's address: it runs where there is none but `lo`."""


def no_namespace() -> str:
    """Why no network namespace can be made here; empty when one can."""
    try:
        done = subprocess.run(
            [*ALONE, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"no network namespace can be made: {error}"
    return (
        "" if done.returncode == 0 else f"no network namespace can be made: {done.stderr.strip()}"
    )


def in_a_network_of_its_own(command: list[str], seconds: float = 420.0):
    """Run a command where the only interface is `lo`."""
    script = 'ip link set lo up && exec "$@"'
    return subprocess.run(
        [*ALONE, "sh", "-c", script, "sh", *command],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@contextmanager
def ray(folder: Path, port: int = 10001) -> Iterator[str]:
    """Two nodes of one core each, 127.0.0.1 and 127.0.0.2; the URL for `--on`. Only inside such a network."""
    interfaces = [name for _, name in socket.if_nameindex()]
    assert interfaces == ["lo"], f"Ray would bind {interfaces}"
    environment = os.environ | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    plain = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"]
    head = ["--head", "--node-ip-address=127.0.0.1", "--port=6379", "--include-dashboard=false"]
    own = [f"--ray-client-server-port={port}", f"--temp-dir={folder}"]
    with (
        (folder / "head.log").open("wb") as first,
        (folder / "node.log").open("wb") as second,
        _processes() as start,
    ):
        start([*command, *head, *own, *plain], first, environment)
        wait_until(lambda: STARTED in (folder / "head.log").read_text())
        where = ["--address=127.0.0.1:6379", "--node-ip-address=127.0.0.2"]
        start([*command, *where, *plain], second, environment)
        wait_until(lambda: STARTED in (folder / "node.log").read_text())
        wait_until(lambda: _listens(port))
        yield f"ray://127.0.0.1:{port}"


STARTED = "Ray runtime started"


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
