"""adaptkit.io.files: files are written in one step, and errors of the system become error messages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptkit.errors import Conflict, StoreError
from adaptkit.io.files import atomic_write, os_errors, read_plain, sha256_file
from adaptkit.io.safe_paths import check_paths, check_relative


def test_a_file_is_replaced_whole_and_no_temp_stays(tmp_path):
    path = tmp_path / "a.json"
    atomic_write(path, b"old")
    atomic_write(path, b"new and longer")
    assert path.read_bytes() == b"new and longer"
    assert os.listdir(tmp_path) == ["a.json"]


def test_create_only_refuses_what_exists_and_leaves_it(tmp_path):
    path = tmp_path / "a.json"
    atomic_write(path, b"first", create_only=True)
    with pytest.raises(Conflict, match=r"a\.json exists already"):
        atomic_write(path, b"second", create_only=True)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=r"cannot write .*a\.json: No such file or directory"):
        atomic_write(tmp_path / "gone" / "a.json", b"")


def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        sha256_file(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize("path", ["a", "a/b.json", "..a/..b", "tokenizer.json", "ä/ü", "a b"])
def test_relative_posix_paths_pass(path):
    assert check_relative(path) == path


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty"),
        ("/a", "absolute"),
        ("a/../b", r"'\.\.'"),
        ("..", r"'\.\.'"),
        ("a//b", "empty"),
        ("./a", r"'\.'"),
        ("a/", "empty"),
        ("a\\b", "Windows"),
        ("C:/a", "Windows"),
        ("c:a", "Windows"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x9bb", "control"),
        ("\ud800", "control"),
        ("\u202egpj.exe", "control"),
        ("\\\\host\\share", "Windows"),
        ("a./b", "Windows drops"),
        ("a/b ", "Windows drops"),
        (".git/config", "git"),
        ("a/.GIT/hooks/x", "git"),
        ("git~1/config", "git"),
        ("ab:c", "stream"),
        ("NUL", "device"),
        ("a/com1.json", "device"),
        ("a" * 256, "longer"),
        ("a/" * 512 + "a", "longer"),
    ],
)
def test_paths_that_could_lead_elsewhere_are_refused(path, why):
    with pytest.raises(StoreError, match=why):
        check_relative(path)


@pytest.mark.parametrize(
    "paths",
    [
        ["a", "a"],
        ["a", "A"],
        ["caf\u00e9", "cafe\u0301"],
        ["a", "a/b"],
        ["A", "a/b"],
        ["a/b", "A/c"],
        ["\u00df", "ss"],
        ["\u212a", "k"],
    ],
    ids=[
        "twice",
        "case",
        "nfd",
        "file-and-folder",
        "folded-folder",
        "folders",
        "sharp-s",
        "kelvin",
    ],
)
def test_two_paths_that_are_one_on_some_file_system_are_refused(paths):
    for order in (paths, paths[::-1]):
        with pytest.raises(
            StoreError,
            match="not allowed in one artifact: a path is listed twice, or is the same as",
        ):
            check_paths(order)


def test_files_of_several_folders_pass_together():
    assert check_paths(["a/b", "a/c", "d/b", "b", "c"]) == ("a/b", "a/c", "d/b", "b", "c")


def test_a_million_files_are_refused_before_any_is_looked_at():
    with pytest.raises(
        StoreError,
        match=r"a list of 1,000,000 files is not allowed: an artifact has at most 10,000",
    ):
        check_paths(["../x"] * 1_000_000)


def test_a_refused_path_is_shown_inert_and_short():
    with pytest.raises(StoreError) as caught:
        check_relative("\x1b[31m" + "x" * 5000)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.text(alphabet="ab./\\:\0\n~"))
def test_a_path_that_passes_stays_below_its_folder(text):
    try:
        path = check_relative(text)
    except StoreError:
        return
    folder = Path("/root/of/artifact")
    joined = folder / path
    assert Path(os.path.normpath(joined)) == joined != folder
    assert joined.is_relative_to(folder)


def in_namespace(script: str, folder: Path, *, mount: str = "") -> str:
    """Run Python in `folder`, on a small tmpfs if `mount` is given, and without root's rights otherwise."""
    program = folder.parent / "script.py"
    program.write_text(script)
    if mount:
        enter = ["unshare", "--user", "--map-root-user", "--mount"]
        work = f'mount -t tmpfs -o {mount} none "{folder}" && cd "{folder}" && exec "{sys.executable}" "{program}"'
    else:
        enter = ["unshare", "--user"] if os.geteuid() == 0 else []
        work = f'cd "{folder}" && exec "{sys.executable}" "{program}"'
    if (
        shutil.which("unshare") is None
        or subprocess.run([*enter, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip(
            "needs user namespaces: install util-linux, sysctl kernel.unprivileged_userns_clone=1"
        )
    done = subprocess.run([*enter, "sh", "-c", work], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


DISK_FULL = """
import os
from hashlib import sha256
from pathlib import Path
import numpy as np
from adaptkit.errors import StoreError
from adaptkit.io.files import atomic_write
from adaptkit.store.content_store import Store
from adaptkit.io.safetensors.writer import TensorWriter
from adaptkit.types import FileEntry

def tried(what):
    try:
        what()
    except StoreError as error:
        print(error)
    print(sorted(str(p) for p in Path(".").rglob("*") if p.is_file()))

def tensors():
    with TensorWriter(Path("w.safetensors"), {"a": ("F32", (1 << 20,))}) as writer:
        writer.write("a", np.ones(1 << 20, np.float32))
        writer.commit()

tried(lambda: atomic_write(Path("a.bin"), bytes(2 << 20)))
tried(tensors)
data = bytes(2 << 20)
blob = FileEntry("a", len(data), sha256(data).hexdigest())
tried(lambda: Store(Path("store"))._put(data, blob))
"""


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    lines = in_namespace(DISK_FULL, folder, mount="size=1m").splitlines()
    assert [line for line in lines if line.startswith("cannot")] == [
        "cannot write a.bin: disk full",
        "cannot write w.safetensors: disk full",
        "cannot write store: disk full",
    ]
    assert [line for line in lines if line.startswith("[")] == ["[]"] * 3
    assert sum("free some space" in line for line in lines) == 3


def test_a_folder_without_permission_is_an_error(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    script = "from adaptkit.io.files import atomic_write, StoreError; from pathlib import Path\n"
    script += "try: atomic_write(Path('a'), b'')\nexcept StoreError as error: print(error)"
    assert in_namespace(script, folder).splitlines()[0] == "cannot write a: no permission"
    assert os.listdir(folder) == []


def test_a_replaced_file_keeps_its_mode_and_a_new_one_gets_what_was_asked_for(tmp_path):
    kept = tmp_path / "config.toml"
    kept.write_bytes(b"old")
    for mode in (0o600, 0o640, 0o664):
        kept.chmod(mode)
        atomic_write(kept, b"new")
        assert kept.stat().st_mode & 0o777 == mode
    atomic_write(tmp_path / "secret", b"x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_device_or_pipe_is_never_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StoreError, match="it is a device, a pipe or a socket"):
        atomic_write(pipe, b"x")
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_file_to_read_that_is_missing_or_a_folder_is_named_with_what_to_do(tmp_path):
    for path, fix in ((tmp_path / "no", "check the path for a typo"), (tmp_path, "give a file")):
        with (
            pytest.raises(StoreError, match=f"cannot read {path}") as caught,
            os_errors("read", path),
        ):
            path.read_bytes()
        assert fix in caught.value.fix


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to a device"])
def test_what_is_no_file_is_refused_and_not_waited_for(kind, tmp_path):
    path = tmp_path / "weights"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(StoreError, match=f"cannot read {path}: it is not a file"):
        sha256_file(path)
    with pytest.raises(StoreError, match=f"cannot read {path}: it is not a file"):
        read_plain(path)


def test_a_file_that_is_read_whole_has_a_largest_size_and_may_be_a_link(tmp_path):
    (tmp_path / "README.md").write_bytes(b"hello")
    (tmp_path / "link").symlink_to("README.md")
    assert read_plain(tmp_path / "link", 5) == b"hello"
    with pytest.raises(StoreError, match="it has 5 bytes, more than 4"):
        read_plain(tmp_path / "link", 4)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(40 << 30)
    with pytest.raises(StoreError, match=r"it has 42,949,672,960 bytes, more than 268,435,456"):
        read_plain(tmp_path / "sparse")
