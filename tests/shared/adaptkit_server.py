"""`adaptkit serve` as a process of its own, on a port that it chooses itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ADAPTKIT = str(Path(sys.executable).with_name("adaptkit"))


@dataclass(frozen=True)
class Server:
    """A server that accepts connections: what it printed, its process, and what it logs."""

    printed: dict[str, object]
    process: subprocess.Popen[str]
    log: Path

    @property
    def url(self) -> str:
        return str(self.printed["url"]).removesuffix("/v1")


@contextmanager
def adaptkit_server(home: Path, base: Path, *options: str, log: Path) -> Iterator[Server]:
    """A server of a home's adapters until the block ends; killed if it still runs."""
    command = [ADAPTKIT, "--home", str(home), "serve", "--base", str(base), "--port", "0", "--json"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
        )
    try:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.rstrip() == "}" or (line.startswith("{") and line.rstrip().endswith("}")):
                break
        if not lines:
            raise RuntimeError(f"the server did not start:\n{log.read_text()[-3000:]}")
        yield Server(json.loads("".join(lines)), process, log)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
