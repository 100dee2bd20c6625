"""`adaptkit serve` as a process of its own, on a port that it chooses itself."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, Protocol

from concurrency import FORK, use_one_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

ADAPTKIT = str(Path(sys.executable).with_name("adaptkit"))


class Process(Protocol):
    """What tests do with a server's process."""

    pid: int

    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int | None: ...
    def send_signal(self, number: int) -> None: ...


@dataclass(frozen=True)
class Server:
    """A server that accepts connections: what it printed, its process, and what it logs."""

    printed: dict[str, object]
    process: Process
    log: Path

    @property
    def url(self) -> str:
        return str(self.printed["url"]).removesuffix("/v1")


@contextmanager
def adaptkit_server(
    home: Path, base: Path, *options: str, log: Path, forked: bool = False
) -> Iterator[Server]:
    """A server of a home's adapters until the block ends; killed if it still runs.

    `forked` from this process it imports nothing again, which takes four times as long as all else of its start.
    """
    port = () if "--port" in options else ("--port", "0")
    line = ["--home", str(home), "serve", "--base", str(base), *port, "--json", *options]
    with log.open("w") as errors:
        read, write = os.pipe()
        process = _Forked(line, write, errors) if forked else _started(line, write, errors)
        os.close(write)
    try:
        lines: list[str] = []
        with os.fdopen(read, encoding="utf-8") as printed:
            for text in printed:
                lines.append(text)
                if text.rstrip() == "}" or (text.startswith("{") and text.rstrip().endswith("}")):
                    break
            if not lines:
                raise RuntimeError(f"the server did not start:\n{log.read_text()[-3000:]}")
            yield Server(json.loads("".join(lines)), process, log)
    finally:
        process.kill()
        process.wait()


def _started(line: list[str], stdout: int, stderr: IO[str]) -> Process:
    return subprocess.Popen(
        [ADAPTKIT, *line],
        stdout=stdout,
        stderr=stderr,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


class _Forked:
    """A command in a process that was forked from this one, and has of it what is imported."""

    def __init__(self, line: list[str], stdout: int, stderr: IO[str]) -> None:
        self._process = FORK.Process(target=_run, args=(line, stdout, stderr.fileno()))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _run(line: list[str], stdout: int, stderr: int) -> NoReturn:
    from adaptkit.cli import main

    gc.freeze()  # an open file of the parent that were collected here would close one of ours
    use_one_thread()
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        signal.signal(number, handler)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)  # the reader sees the end when the server ends
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", buffering=1) for number in (1, 2))  # noqa: SIM115
    warnings.resetwarnings()  # pytest makes them errors
    for root in list(logging.root.handlers):  # pytest's
        logging.root.removeHandler(root)
    sys.exit(main(line))
