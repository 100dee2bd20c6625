"""Pushes and pulls of 200 MB against the bare client of the same server, in turn. Prints a table; writes nothing.

A push to a bucket hashes what it sends, which the bare client does not; a push to a registry waits a moment before it
reads its tag back. On loopback, where sending costs nothing, both show.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from timing import Row, faster

from adaptkit.extend import Bundle, StorageBackend
from adaptkit.io.files import sha256_file
from adaptkit.types import FileEntry, Manifest, PlacedVersion, artifact_digest

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 200_000_000
TARGET, RUNS = 0.8, 5
KEY, SECRET = "adaptkit-bench", "not-a-secret-at-all"


def packed(folder: Path) -> Bundle:
    """A version whose weights are 200 MB."""
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    with weights.open("wb") as file:
        for _ in range(SIZE // 1_000_000):
            file.write(os.urandom(1_000_000))
    config.write_bytes(b"{}")
    files = [
        FileEntry(path.name, path.stat().st_size, sha256_file(path)) for path in (config, weights)
    ]
    manifest = Manifest(artifact_digest(files), tuple(files), "lora")
    return Bundle(PlacedVersion(1, manifest, "naval"), {config.name: config, weights.name: weights})


def compare(
    name: str,
    make: Callable[[], StorageBackend],
    send: Callable[[Path], None],
    fetch: Callable[[Path], None],
    one: Bundle,
    folder: Path,
) -> list[Row]:
    """A push to a fresh place and a pull from it, against what the bare client takes for the same bytes."""
    weights = one.paths["adapter_model.safetensors"]
    place = make()
    place.push(one, ())

    def pull() -> None:
        into = folder / secrets.token_hex(4)
        into.mkdir()
        place.pull(one.placed, one.files, into)
        shutil.rmtree(into)

    def bare_fetch() -> None:
        target = folder / secrets.token_hex(4)
        fetch(target)
        target.unlink()

    send(weights)
    return [
        faster(
            f"push of 200 MB to {name}",
            "its bare client",
            lambda: make().push(one, ()) and None,
            lambda: send(weights),
            TARGET,
            RUNS,
        ),
        faster(f"pull of 200 MB from {name}", "its bare client", pull, bare_fetch, TARGET, RUNS),
    ]


def buckets(one: Bundle, folder: Path) -> list[Row]:
    """rclone's S3 server, against obstore itself."""
    import obstore
    from obstore.store import S3Store

    from adaptkit_plugins.storage.objects import ObjectBackend

    port = free_port()
    (folder / "s3" / "team").mkdir(parents=True)
    command = [
        Path(sys.executable).with_name("rclone"),
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        f"{KEY},{SECRET}",
        "--etag-hash",
        "",  # or a listing, which a push makes and the bare client does not, hashes what it lists
        "--config",
        folder / "none.conf",
        folder / "s3",
    ]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }
    server = started(command, port)
    try:
        client = S3Store("team", client_options={"allow_http": True})

        def send(path: Path) -> None:
            send.key = f"bare-{secrets.token_hex(4)}/weights"  # type: ignore[attr-defined] # overwriting is cheaper there
            obstore.put(client, send.key, path)  # type: ignore[attr-defined]

        def fetch(target: Path) -> None:
            with target.open("wb") as file:
                for piece in obstore.get(client, send.key).stream():
                    file.write(piece)

        return compare(
            "a bucket",
            lambda: ObjectBackend.open(f"s3://team/{secrets.token_hex(4)}"),
            send,
            fetch,
            one,
            folder,
        )
    finally:
        server.kill()
        server.wait()


def registry(one: Bundle, folder: Path) -> list[Row]:
    """Debian's docker-registry, against one streamed PUT of httpx."""
    import httpx

    from adaptkit_plugins.storage.oci import OciBackend, blobs

    program = shutil.which("docker-registry")
    if program is None:
        print("oci:// left out: apt-get install -y docker-registry", file=sys.stderr)
        return []
    port = free_port()
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/oci}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    server = started([program, "serve", folder / "config.yml"], port)
    try:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        digest = "sha256:" + next(entry.sha256 for entry in one.files if entry.size > SIZE // 2)
        size = str(one.paths["adapter_model.safetensors"].stat().st_size)

        def send(path: Path) -> None:
            name = f"bare-{secrets.token_hex(4)}"
            where = httpx.URL(
                client.post(f"/v2/{name}/blobs/uploads/").headers["Location"]
            ).copy_add_param("digest", digest)
            with path.open("rb") as file:
                client.put(where, content=file, headers={"Content-Length": size}).raise_for_status()
            send.name = name  # type: ignore[attr-defined]

        def fetch(target: Path) -> None:
            with (
                client.stream("GET", f"/v2/{send.name}/blobs/{digest}") as answer,
                target.open("wb") as file,
            ):  # type: ignore[attr-defined]
                for piece in answer.iter_raw(1 << 20):
                    file.write(piece)

        def make() -> StorageBackend:
            blobs._seen.clear()  # noqa: SLF001 - or the second push would mount what the first sent
            return OciBackend.open(f"oci://127.0.0.1:{port}/naval-{secrets.token_hex(4)}")

        return compare("a registry", make, send, fetch, one, folder)
    finally:
        server.kill()
        server.wait()


def started(command: list[str | Path], port: int) -> subprocess.Popen[bytes]:
    """A server that accepts connections."""
    server = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if server.poll() is not None:
                raise RuntimeError(f"{command[0]} did not start") from None
            time.sleep(0.05)
        else:
            return server


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    """Measure and show."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="adaptkit-bench-") as name:
        folder = Path(name)
        one = packed(folder)
        for row in buckets(one, folder) + registry(one, folder):
            print(
                f"{row.work:30} ours {row.ours_s:.3f} s  bare {row.peer_s:.3f} s  {row.ratio:.2f}x "
                f"({row.low:.2f}-{row.high:.2f})  {row.target} {'met' if row.met else 'MISSED'}"
            )


if __name__ == "__main__":
    main()
