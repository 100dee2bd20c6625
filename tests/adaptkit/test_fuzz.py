"""Broken bytes in everything that is read from elsewhere end in one of the errors for it; `make soak` counts them."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from artifacts import manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptkit.errors import AdaptkitError
from adaptkit.extend.versioned_storage import alias_table, manifest_bytes
from adaptkit.io.safetensors.reader import read_header
from adaptkit.io.toml_file import BadToml
from adaptkit.project.lockfile import Locked, lock_bytes, read_lock
from adaptkit.remotes.front_matter import read, split
from adaptkit.types import Parent, PlacedVersion
from adaptkit.workspace.context.config_file import parse_config
from adaptkit_plugins.storage.oci.images import parse as parse_image

EXAMPLES = 3_000
MANIFEST = manifest_bytes(
    PlacedVersion(
        1,
        manifest(1, parents=(Parent("sha256:" + "1" * 64),), recipe={"a": 1}),
        "naval",
        "m",
        "ada",
    )
)
HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
LOCK = lock_bytes({"naval": Locked("naval", "team:naval", "naval", "sha256:" + "0" * 64, "lora")})
INDEX = b'{"schemaVersion": 2, "manifests": [{"digest": "sha256:' + b"0" * 64 + b'", "size": 7}]}'
CONFIG = b'author = "ada"\n[remotes]\nteam = "file:///mnt/team"\n[quotas]\nstore = "2 GB"\n'
CARD = b"---\ntags:\n- lora\nbase_model: fleet/ship\n---\n# naval\n"


def header(data, folder):
    file = folder / "w.safetensors"
    file.write_bytes(len(data).to_bytes(8, "little") + data + b"\0\0\0\0")
    read_header(file)


def lock(data, folder):
    (folder / "adaptkit.lock").write_bytes(data)
    read_lock(folder / "adaptkit.lock")


READERS = {
    "manifest": (
        MANIFEST,
        lambda data, _: PlacedVersion.from_json(json.loads(data)),
        (ValueError, KeyError, TypeError, RecursionError),
    ),
    "refs": (b'{"prod": 1, "canary": 2}', lambda data, _: alias_table("file:///x", data), ()),
    "header": (HEADER, header, ()),
    "config": (CONFIG, lambda data, _: parse_config(data.decode(errors="replace")), BadToml),
    "card": (CARD, lambda data, _: read(split(data.decode(errors="replace"))[0], "x"), ()),
    "lock": (LOCK, lock, ()),
    "index": (INDEX, lambda data, _: parse_image(data, "x"), ()),
}


@st.composite
def broken(draw, whole):
    """Bytes near those of a good file: cut, repeated, overwritten, with odd values put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 12)))
        data[at:end] = draw(
            st.binary(max_size=8)
            | st.sampled_from(
                [
                    b"null",
                    b"-1",
                    b"1e999",
                    b"NaN",
                    b"true",
                    b'"\\ud800"',
                    b"[]",
                    b"{}",
                    b"9" * 30,
                    b"[" * 2000,
                ]
            )
        )
    return bytes(data)


def fuzz(kind, folder, examples):
    whole, reader, allowed = READERS[kind]
    reader(whole, folder)
    seen = Counter()

    @settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    @given(broken(whole))
    def once(data):
        try:
            reader(data, folder)
        except AdaptkitError as error:
            assert error.what
            seen[type(error).__name__] += 1
        except allowed as error:
            seen[type(error).__name__] += 1
        else:
            seen["read"] += 1

    once()
    return seen


@pytest.mark.parametrize("kind", READERS)
def test_broken_bytes_are_refused_and_never_a_bug(kind, tmp_path):
    assert sum(fuzz(kind, tmp_path, 60).values()) >= 60


@pytest.mark.soak
@pytest.mark.parametrize("kind", READERS)
def test_many_broken_bytes_are_refused_and_never_a_bug(kind, tmp_path):
    seen = fuzz(kind, tmp_path, EXAMPLES)
    print(kind, sum(seen.values()), dict(seen))
    assert sum(seen.values()) >= EXAMPLES
