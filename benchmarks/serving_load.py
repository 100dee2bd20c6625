"""The server under load: 1,000 adapters asked for by Zipf's law, from a memory that holds 50."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving_fleet import save_adapters, save_base

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ADAPTKIT = str(Path(sys.executable).with_name("adaptkit"))
PROMPT, TOKENS = "Log: hull 90%. Status?", 8
CLIENTS, SLOTS, IN_MEMORY, RANK = 8, 16, 50, 4


@dataclass(frozen=True)
class Load:
    """What one pass of requests took."""

    name: str
    seconds: float
    latencies: tuple[float, ...]
    loads: int
    """Adapters that were read from the store meanwhile."""

    @property
    def rate(self) -> float:
        """Requests in a second."""
        return len(self.latencies) / self.seconds

    def quantile(self, percent: int) -> float:
        """Seconds within which so many of the requests are done."""
        return statistics.quantiles(self.latencies, n=100)[percent - 1]


@dataclass(frozen=True)
class Served:
    """The passes, and what an adapter takes."""

    passes: tuple[Load, ...]
    adapters: int
    file_bytes: int
    host_bytes: float
    slot_bytes: float
    add_s: float


def measure(adapters: int, requests: int) -> Served:
    """Add the adapters, start the server, ask for the base, then for adapters cold and warm."""
    import numpy as np

    from adaptkit import Workspace

    with tempfile.TemporaryDirectory(prefix="adaptkit-load-") as name:
        folder = Path(name)
        base = save_base(folder / "base", 128, 2)
        folders = save_adapters(base, folder / "adapters", adapters, RANK, ("q_proj", "v_proj"))
        size = (folders[0] / "adapter_model.safetensors").stat().st_size
        begun = time.perf_counter()
        with Workspace.init(folder / "home", notify=lambda _: None) as workspace:
            home = workspace.home.path
            for number, one in enumerate(folders):
                workspace.add(one, f"a{number}", base=str(base))
        added = (time.perf_counter() - begun) / adapters
        asked = np.random.default_rng(0).zipf(1.2, 40 * requests) - 1
        keys = [f"a{key}" for key in asked if key < adapters][:requests]
        cache = str(int(IN_MEMORY * size))
        with _server(home, base, "--slots", str(SLOTS), "--cache", cache) as url:
            _pass(url, "base", ["base"] * 20)
            passes = [
                _pass(url, "the base alone", ["base"] * requests),
                _pass(url, "adapters, cold", keys),
                _pass(url, "adapters, warm", keys),
                _pass(url, "the base alone, again", ["base"] * requests),
            ]
            page = _metrics(url)
        held = page["adaptkit_host_bytes"] / page["adaptkit_host_adapters"]
        slot = page["adaptkit_device_bytes"] / (SLOTS + 1)
        return Served(tuple(passes), adapters, size, held, slot, added)


def _pass(url: str, name: str, models: Sequence[str]) -> Load:
    import httpx

    before = _metrics(url)["adaptkit_host_loads_total"]
    with httpx.Client(base_url=url, timeout=120) as client:

        def ask(model: str) -> float:
            begun = time.perf_counter()
            body = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
            client.post("/v1/completions", json=body).raise_for_status()
            return time.perf_counter() - begun

        begun = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            latencies = tuple(pool.map(ask, models))
        seconds = time.perf_counter() - begun
    after = _metrics(url)["adaptkit_host_loads_total"]
    return Load(name, seconds, latencies, int(after - before))


def _metrics(url: str) -> dict[str, float]:
    import httpx

    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line[:1] not in {"#", ""}]
    return {name: float(value) for name, value in pairs}


@contextmanager
def _server(home: Path, base: Path, *options: str) -> Iterator[str]:
    command = [ADAPTKIT, "--home", str(home), "serve", "--base", str(base), "--port", "0", "--json"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.rstrip().endswith("}"):
                    break
            if not lines:
                log.seek(0)
                raise RuntimeError(log.read().decode()[-2000:])
            yield json.loads("".join(lines))["url"].removesuffix("/v1")
        finally:
            process.terminate()
            process.wait(60)
