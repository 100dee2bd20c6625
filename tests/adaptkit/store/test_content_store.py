"""adaptkit.store: nothing lost, nothing half visible, nothing believed without hashing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from blobs import put_blob

from adaptkit.errors import Corrupt, StoreError
from adaptkit.store.content_store import Store
from adaptkit.types import (
    BaseIdentity,
    FileEntry,
    Manifest,
    Parent,
    artifact_digest,
    canonical_json,
)

if TYPE_CHECKING:
    from pathlib import Path

CONFIG, WEIGHTS, README = b'{"r": 8}', bytes(range(256)) * 100, b"# naval\n"


def entry(path: str, data: bytes) -> FileEntry:
    return FileEntry(path, len(data), hashlib.sha256(data).hexdigest())


def artifact(files: dict[str, bytes], extras: dict[str, bytes] | None = None, **facts) -> Manifest:
    entries = tuple(entry(path, data) for path, data in files.items())
    more = tuple(entry(path, data) for path, data in (extras or {}).items())
    return Manifest(artifact_digest(entries), entries, "lora", 8, extras=more, **facts)


FILES = {
    "adapter_config.json": CONFIG,
    "adapter_model.safetensors": WEIGHTS,
    "tokenizer/vocab.txt": b"a\nb\n",
}
NAVAL = artifact(
    FILES,
    {"README.md": README},
    base=BaseIdentity("fleet/base"),
    parents=(Parent("sha256:" + "0" * 64),),
)
SOURCES = {**FILES, "README.md": README}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def damage(path: Path) -> None:
    """Flip a bit in place, as a failing disk would: size and inode stay."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# ---------------------------------------------------------------- blobs


def test_a_blob_is_stored_under_its_hash_read_only(store, tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHTS)
    put = put_blob(store, tmp_path / "w.bin", "adapter_model.safetensors")
    assert put == entry("adapter_model.safetensors", WEIGHTS)
    assert put_blob(store, tmp_path / "w.bin").path == "w.bin"
    path = store.blob(put.sha256)
    assert path == store.root / "objects" / put.sha256[:2] / put.sha256
    assert path.read_bytes() == WEIGHTS
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert store.has(put.sha256)
    assert os.listdir(store.root / "tmp") == []


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 7])
def test_a_file_of_any_size_is_copied_whole(store, tmp_path, size):
    data = random.Random(size).randbytes(size)
    (tmp_path / "w").write_bytes(data)
    put = put_blob(store, tmp_path / "w")
    assert put == entry("w", data)
    assert store.blob(put.sha256).read_bytes() == data


def test_the_same_bytes_are_stored_once(store):
    first = store.blob(put_blob(store, WEIGHTS, "a").sha256)
    before = first.stat()
    assert store.blob(put_blob(store, WEIGHTS, "b").sha256) == first
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_blob_of_the_wrong_size_is_quarantined_and_replaced(store):
    path = store.blob(put_blob(store, WEIGHTS, "a").sha256)
    path.chmod(0o644)
    path.write_bytes(b"cut")
    put_blob(store, WEIGHTS, "a")
    assert path.read_bytes() == WEIGHTS
    assert (store.root / "quarantine" / path.name).read_bytes() == b"cut"


def test_a_missing_blob_and_a_bad_digest_are_errors(store, tmp_path):
    assert not store.has("0" * 64)
    with pytest.raises(StoreError, match=r"the blob 0000.* is missing"):
        store.blob("0" * 64)
    with pytest.raises(StoreError, match="is not a digest"):
        store.blob("../../etc/passwd")
    with pytest.raises(StoreError, match=r"cannot read .*gone: No such file"):
        store.add(NAVAL, {**SOURCES, "adapter_model.safetensors": tmp_path / "gone"})
    assert os.listdir(store.root / "tmp") == []


# ---------------------------------------------------------------- artifacts


def test_an_artifact_comes_back_as_it_went_in(store, tmp_path):
    (tmp_path / "w").write_bytes(WEIGHTS)
    assert store.add(NAVAL, {**SOURCES, "adapter_model.safetensors": tmp_path / "w"}) == NAVAL
    assert store.digests() == (NAVAL.digest,)
    assert store.manifest(NAVAL.digest) == NAVAL == store.verify(NAVAL.digest)
    assert contents(store.tree(NAVAL.digest)) == SOURCES
    written = store.root / "manifests" / f"{NAVAL.digest.removeprefix('sha256:')}.json"
    assert written.read_text() == canonical_json(NAVAL.to_json())


def test_a_tree_is_hard_links_to_blobs(store):
    store.add(NAVAL, SOURCES)
    tree = store.tree(NAVAL.digest)
    for file in NAVAL.files + NAVAL.extras:
        assert (tree / file.path).samefile(store.blob(file.sha256))
    assert store.tree(NAVAL.digest) == tree


def test_adding_twice_keeps_the_first_manifest(store):
    store.add(NAVAL, SOURCES)
    later = dataclasses.replace(NAVAL, created="2026-01-01", extras=(entry("README.md", b"new"),))
    assert store.add(later, {**FILES, "README.md": b"new"}) == NAVAL
    assert contents(store.tree(NAVAL.digest)) == SOURCES


def test_a_correction_replaces_what_no_digest_covers_and_nothing_else(store):
    store.add(NAVAL, SOURCES)
    store.tree(NAVAL.digest)
    later = dataclasses.replace(NAVAL, created="2026-01-01", extras=(entry("README.md", b"new"),))
    store.add(later, {**FILES, "README.md": b"new"})
    store.correct(later)
    assert store.manifest(NAVAL.digest) == dataclasses.replace(NAVAL, extras=later.extras)
    assert contents(store.tree(NAVAL.digest)) == {**FILES, "README.md": b"new"}


def test_bytes_that_differ_from_the_manifest_register_nothing(store):
    with pytest.raises(
        Corrupt,
        match=r"'adapter_config.json' differs from its manifest: expected 8 bytes sha256:",
    ):
        store.add(NAVAL, {**SOURCES, "adapter_config.json": b'{"r": 9}'})
    assert store.digests() == ()
    assert os.listdir(store.root / "tmp") == []


def test_a_file_may_be_left_out_only_when_its_blob_is_here(store):
    rest = {path: data for path, data in SOURCES.items() if path != "adapter_config.json"}
    with pytest.raises(StoreError, match=r"lacks the file 'adapter_config\.json'"):
        store.add(NAVAL, rest)
    assert store.digests() == ()
    put_blob(store, CONFIG, "elsewhere.json")
    store.add(NAVAL, rest)
    assert contents(store.tree(NAVAL.digest)) == SOURCES


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "C:/evil", "evil\0", ""]
)
def test_a_manifest_cannot_write_outside(store, tmp_path, path):
    for manifest in (artifact({path: b"x"}), artifact({"a": b"x"}, {path: b"x"})):
        with pytest.raises(StoreError, match="is not allowed in an artifact"):
            store.add(manifest, {"a": b"x", path: b"x"})
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b")])
def test_a_file_list_that_contradicts_itself_is_refused(store, paths):
    files = tuple(entry(path, b"x") for path in paths)
    with pytest.raises(StoreError, match="a path is listed twice"):
        store.add(Manifest(artifact_digest(files), files, "lora"), dict.fromkeys(paths, b"x"))


def test_an_unknown_artifact_is_an_error(store):
    with pytest.raises(StoreError, match="is not in the store"):
        store.tree(NAVAL.digest)
    assert store.digests() == ()


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("use", [Store.tree, Store.verify])
@pytest.mark.parametrize("path", ["adapter_model.safetensors", "README.md"])
def test_a_flipped_bit_is_found_before_use_named_and_quarantined(store, use, path):
    store.add(NAVAL, SOURCES)
    store.tree(NAVAL.digest)
    blob = store.blob(entry(path, SOURCES[path]).sha256)
    damage(blob)
    with pytest.raises(Corrupt, match=f"'{path}' is corrupt") as caught:
        use(store, NAVAL.digest)
    assert NAVAL.digest in str(caught.value)
    assert not store.has(blob.name)
    assert (store.root / "quarantine" / blob.name).stat().st_size == len(SOURCES[path])
    with pytest.raises(Corrupt, match=f"'{path}' is missing"):
        use(store, NAVAL.digest)
    store.add(NAVAL, SOURCES)
    assert contents(store.tree(NAVAL.digest)) == SOURCES


def test_all_damage_is_named_at_once(store):
    store.add(NAVAL, SOURCES)
    damage(store.blob(NAVAL.files[0].sha256))
    store.blob(NAVAL.files[1].sha256).unlink()
    with pytest.raises(
        Corrupt, match=r"'adapter_config.json' is corrupt, 'adapter_model.safetensors' is missing"
    ):
        store.verify(NAVAL.digest)


@pytest.mark.parametrize(
    "harm", ["changed", "replaced", "removed", "added", "linked", "emptied", "file"]
)
def test_a_tree_that_was_tampered_with_is_built_anew(store, tmp_path, harm):
    store.add(NAVAL, SOURCES)
    tree = store.tree(NAVAL.digest)
    target = tree / "adapter_model.safetensors"
    if harm == "changed":  # as an editor does: another file under the same name
        (tmp_path / "other").write_bytes(b"x" * len(WEIGHTS))
        (tmp_path / "other").replace(target)
    elif harm == "replaced":
        target.unlink()
        target.mkdir()
    elif harm == "removed":
        target.unlink()
    elif harm == "added":
        (tree / "more.json").write_bytes(b"{}")
    elif harm == "linked":
        target.unlink()
        target.symlink_to(store.blob(entry("", WEIGHTS).sha256))
    else:
        import shutil

        shutil.rmtree(tree)
        tree.mkdir() if harm == "emptied" else tree.write_bytes(b"")
    assert contents(store.tree(NAVAL.digest)) == SOURCES
    assert not target.is_symlink()
    assert os.listdir(store.root / "tmp") == []


def test_a_tree_of_sound_copies_is_used_as_it_is(store):
    store.add(NAVAL, SOURCES)
    target = store.tree(NAVAL.digest) / "README.md"
    target.unlink()
    target.write_bytes(README)
    inode = target.stat().st_ino
    store.tree(NAVAL.digest)
    assert target.stat().st_ino == inode


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', '{"schema": 99}', "null"])
def test_a_broken_manifest_is_quarantined_and_can_be_added_again(store, text):
    store.add(NAVAL, SOURCES)
    path = store.root / "manifests" / f"{NAVAL.digest.removeprefix('sha256:')}.json"
    path.write_text(text)
    with pytest.raises(Corrupt, match=f"the manifest of {NAVAL.digest} is corrupt"):
        store.manifest(NAVAL.digest)
    assert (store.root / "quarantine" / path.name).read_text() == text
    path.write_text(text)
    assert store.add(NAVAL, SOURCES) == NAVAL == store.manifest(NAVAL.digest)


def test_a_manifest_under_another_name_is_corrupt(store):
    store.add(NAVAL, SOURCES)
    other = artifact({"a": b"x"})
    folder = store.root / "manifests"
    (folder / f"{other.digest.removeprefix('sha256:')}.json").write_text(
        json.dumps(NAVAL.to_json())
    )
    with pytest.raises(Corrupt, match="it is the manifest of"):
        store.manifest(other.digest)


# ---------------------------------------------------------------- many at once


def test_threads_that_put_and_build_the_same_agree(store):
    with ThreadPoolExecutor(16) as pool:
        trees = list(
            pool.map(lambda _: (store.add(NAVAL, SOURCES), store.tree(NAVAL.digest))[1], range(32))
        )
    assert len(set(trees)) == 1
    assert contents(trees[0]) == SOURCES
    assert os.listdir(store.root / "tmp") == []


WORKER = """
import hashlib, random, sys
from pathlib import Path
from adaptkit.store.content_store import Store
from adaptkit.types import FileEntry, Manifest, artifact_digest

store, seed, count = Store(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
sys.stdin.readline()
for i in range(count):
    rng = random.Random(f"{seed}.{i}")
    files = {f"{n}/file.bin": rng.randbytes(rng.choice([10, 4000, 300_000, 2_000_000])) for n in range(3)}
    entries = tuple(FileEntry(p, len(d), hashlib.sha256(d).hexdigest()) for p, d in files.items())
    manifest = Manifest(artifact_digest(entries), entries, "lora")
    store.add(manifest, files)
    store.tree(manifest.digest)
    print(manifest.digest, flush=True)
"""


def worker(root: Path, seed: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(root), str(seed), str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def check_whole(store: Store) -> None:
    """Every object has the hash in its name, every manifest's artifact is whole, every visible tree is complete."""
    for blob in (store.root / "objects").glob("*/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    for tree in (store.root / "trees").glob("[!.]*"):  # hidden ones have no name yet
        manifest = store.manifest(f"sha256:{tree.name}")
        assert {p: hashlib.sha256(d).hexdigest() for p, d in contents(tree).items()} == {
            f.path: f.sha256 for f in manifest.files
        }
    for digest in store.digests():
        store.verify(digest)
    assert not list((store.root / "quarantine").glob("*"))


def test_processes_that_put_the_same_blobs_at_once_agree(store):
    processes = [worker(store.root, seed=1, count=6) for _ in range(4)]
    outputs = [process.communicate("go\n", timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert outputs[0] == outputs[1] == outputs[2] == outputs[3]
    assert sorted(outputs[0]) == list(store.digests())
    assert len(list((store.root / "objects").glob("*/*"))) == 18
    check_whole(store)
    assert os.listdir(store.root / "tmp") == []


def kill_rounds(store: Store, rounds: int) -> None:
    rng = random.Random(7)
    promised: set[str] = set()
    for number in range(rounds):
        with worker(store.root, number, 10_000) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write("go\n")
            process.stdin.flush()
            promised |= {process.stdout.readline().strip() for _ in range(rng.randint(1, 4))}
            until = time.perf_counter() + rng.random() / 50
            while time.perf_counter() < until:  # the kill falls anywhere into the next additions
                pass
            process.kill()
            promised |= {line.strip() for line in process.stdout if line.endswith("\n")}
        check_whole(store)
    assert promised
    assert promised <= set(store.digests())
    for digest in promised:
        assert store.tree(digest).is_dir()


def test_kill_9_while_adding_loses_nothing_and_leaves_nothing_half_visible(store):
    kill_rounds(store, 5)


@pytest.mark.soak
def test_kill_9_fifty_times(store):
    kill_rounds(store, 50)
