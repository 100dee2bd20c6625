"""Bytes near those of a good file, for each kind of file that comes from elsewhere, and what became of reading them."""

from __future__ import annotations

import json
import string
from collections import Counter
from random import Random

from artifacts import manifest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from adaptkit.adapters.adapter import read_config
from adaptkit.errors import AdaptkitError
from adaptkit.extend.versioned_storage import alias_table, manifest_bytes
from adaptkit.io.safetensors.reader import read_header
from adaptkit.io.toml_file import BadToml
from adaptkit.merge import recipe_file
from adaptkit.project.lockfile import Locked, lock_bytes, read_lock
from adaptkit.project.requirements import Project
from adaptkit.remotes.front_matter import read, split
from adaptkit.signing.policy_file import parse_policy
from adaptkit.signing.statement import Statement
from adaptkit.types import Parent, PlacedVersion
from adaptkit.workspace.context.config_file import parse_config
from adaptkit.workspace.sweeps import file as sweep_file
from adaptkit_plugins.storage.oci import images

MANIFEST = manifest_bytes(
    PlacedVersion(
        1,
        manifest(1, parents=(Parent("sha256:" + "1" * 64),), recipe={"a": 1}),
        "naval",
        "m",
        "ada",
    )
)
PLACED = PlacedVersion(1, manifest(1), "naval", "m", "ada")
HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
LOCK = lock_bytes({"naval": Locked("naval", "team:naval", "naval", "sha256:" + "0" * 64, "lora")})
INDEX = images.image(PLACED, "x").data
CONFIG = b'author = "ada"\n[remotes]\nteam = "file:///mnt/team"\n[quotas]\nstore = "2 GB"\n'
CARD = b"---\ntags:\n- lora\nbase_model: fleet/ship\n---\n# naval\n"
RECIPE = b"strategy: ties\nrank: 8\nadapters:\n- ref: naval@1\n  weight: 0.5\n  modules:\n    '*.q': 1\n- medic\n"
SWEEP = b"name: s\nsets:\n  a: {name: 'run-*'}\nsteps:\n- alias: {of: a, to: staging}\n"
POLICY = b'[keys]\nada = "ada.pub"\n[[rules]]\nnames = ["*"]\nkeys = ["ada"]\n'
PROJECT = b'[remotes]\nteam = "file:///t"\n[adapters]\nn = "team:n@1"\nm = {from = "team:m", version = ">=1,<5"}\n'


def written(name, reader):
    """A reader of bytes, of one that reads a file of this name."""

    def read_bytes(data, folder):
        (folder / name).write_bytes(data)
        reader(folder / name)

    return read_bytes


def header(data, folder):
    file = folder / "w.safetensors"
    file.write_bytes(len(data).to_bytes(8, "little") + data + b"\0\0\0\0")
    read_header(file)


def image(data, _):
    body = images.parse(data, "x")
    assert isinstance(images.manifest_layer(body, "x"), str)
    (body.get("annotations") or {}).get("x")
    (body.get("subject") or {}).get("digest")


PLAIN = (ValueError, KeyError, TypeError, RecursionError)  # each caller makes an error of these

READERS = {
    "manifest": (
        MANIFEST,
        lambda data, _: PlacedVersion.from_json(json.loads(data)),
        PLAIN,
    ),
    "refs": (b'{"prod": 1, "canary": 2}', lambda data, _: alias_table("file:///x", data), ()),
    "header": (HEADER, header, ()),
    "config": (CONFIG, lambda data, _: parse_config(data.decode(errors="replace")), BadToml),
    "card": (CARD, lambda data, _: read(split(data.decode(errors="replace"))[0], "x"), ()),
    "lock": (LOCK, written("adaptkit.lock", read_lock), ()),
    "index": (INDEX, image, ()),
    "adapter_config": (
        b'{"peft_type": "LORA", "r": 8, "target_modules": ["q"]}',
        written("adapter_config.json", lambda file: read_config(file.parent, "x")),
        (),
    ),
    "recipe": (RECIPE, written("recipe.yaml", recipe_file.read), ()),
    "sweep": (SWEEP, written("sweep.yaml", sweep_file.read), ()),
    "policy": (POLICY, lambda data, _: parse_policy(data.decode(errors="replace")), BadToml),
    "project": (PROJECT, written("adaptkit.toml", Project.read), ()),
    "statement": (Statement.of(PLACED).data, lambda data, _: Statement.parse(data), PLAIN),
}


PRINTABLE = string.printable.encode()
ODD = (
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"true",
    b'"\\ud800"',
    b"[]",
    b"{}",
    b"9" * 30,
    b"9" * 5000,
    b"[" * 2000,
)


def broken(whole, seed):
    """Bytes near those of a good file: cut, repeated, overwritten, with odd values put in."""
    random, data = Random(seed), bytearray(whole)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(data))
        end = min(len(data), at + random.randint(0, 12))
        few = random.randint(0, 8)
        put = random.choice(
            (random.choice(ODD), bytes(random.choices(PRINTABLE, k=few)), random.randbytes(few))
        )
        data[at:end] = random.choice((put, put, data[at:end] * 2))
    return bytes(data)


def fuzz(kind, folder, examples):
    whole, reader, allowed = READERS[kind]
    reader(whole, folder)
    seen = Counter()

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.integers(0, 2**64))  # one number for all that is drawn: ten times as many in a second
    def once(seed):
        data = broken(whole, seed)
        note(repr(data))
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
