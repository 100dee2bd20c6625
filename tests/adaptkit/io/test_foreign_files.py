"""adaptkit.io.foreign_files: only plain files below the root are read, and no more of them than was said."""

from __future__ import annotations

import os
import socket
import threading
from hashlib import sha256

import pytest

from adaptkit.errors import Corrupt
from adaptkit.io.foreign_files import ForeignFolder


@pytest.fixture
def root(tmp_path):
    (tmp_path / "place" / "v1").mkdir(parents=True)
    (tmp_path / "place" / "v1" / "good").write_bytes(b"good")
    (tmp_path / "secret").write_bytes(b"good")
    return tmp_path / "place"


@pytest.fixture
def folder(root):
    return ForeignFolder(root, "file:///place")


def _link(path):
    path.symlink_to(path.parents[2] / "secret")


def _socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (_link, "a symbolic link"),
        (os.mkfifo, "a FIFO"),
        (_socket, "a socket"),
        (os.mkdir, "a folder"),
    ],
)
def test_what_is_no_plain_file_is_refused_by_name_at_once(root, folder, tmp_path, harm, kind):
    harm(root / "v1" / "bad")
    for read in (
        lambda: folder.read("v1/bad", 100),
        lambda: folder.copy("v1/bad", 4, tmp_path / "copy"),
        lambda: folder.size("v1/bad"),
    ):
        with pytest.raises(Corrupt, match=f"file:///place/v1/bad is refused: v1/bad is {kind}"):
            read()
    assert not (tmp_path / "copy").exists()
    assert not folder.link("v1/bad", 4, sha256(b"good").hexdigest(), tmp_path / "copy")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_a_device_behind_a_linked_folder_is_not_opened(root, folder, tmp_path):
    (root / "v1" / "d").symlink_to("/dev")
    with pytest.raises(Corrupt, match="v1/d is a symbolic link"):
        folder.copy("v1/d/zero", 10, tmp_path / "copy")
    assert folder.names("v1") == ("d", "good")
    assert folder.folders("v1") == ()
    assert not folder.has("v1/d/zero")
    with pytest.raises(Corrupt, match="a symbolic link"):
        folder.names("v1/d")


def test_a_path_out_of_the_root_is_refused(folder):
    with pytest.raises(Corrupt, match="a path out of it"):
        folder.read("v1/../../secret", 100)


def test_a_sparse_monster_is_refused_before_it_is_read(root, folder, tmp_path):
    with (root / "v1" / "huge").open("wb") as file:
        file.truncate(3 << 40)
    with pytest.raises(Corrupt, match="more than 1,000 bytes"):
        folder.read("v1/huge", 1000)
    with pytest.raises(Corrupt, match="has 3,298,534,883,328 bytes, its manifest says 4"):
        folder.copy("v1/huge", 4, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_file_that_grows_while_it_is_read_ends_at_its_size(root, folder, tmp_path):
    size = 4 << 20
    (root / "v1" / "growing").write_bytes(bytes(size))

    def grow(_):
        with (root / "v1" / "growing").open("ab") as file:
            file.write(b"more")

    with pytest.raises(Corrupt, match="grew beyond its 4,194,304 bytes"):
        folder.copy("v1/growing", size, tmp_path / "copy", grow)
    assert (tmp_path / "copy").stat().st_size == size


def test_a_link_put_in_the_way_while_it_is_read_never_leads_out(root, folder):
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            os.rename(root / "v1", root / "aside")
            os.symlink(root.parent, root / "v1")
            os.unlink(root / "v1")
            os.rename(root / "aside", root / "v1")

    (root.parent / "good").write_bytes(b"evil")
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        read = set()
        for _ in range(500):
            try:
                read.add(folder.read("v1/good", 100))
            except (Corrupt, FileNotFoundError):
                continue
    finally:
        stop.set()
        thread.join()
    assert read <= {b"good"}


def test_a_folder_that_was_a_link_a_moment_ago_is_refused(folder, monkeypatch):
    def opened(path, *arguments, **where):
        if path == "v1":
            raise NotADirectoryError(20, "Not a directory", path)
        return real(path, *arguments, **where)

    real = os.open
    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(Corrupt, match="v1 is replaced while it is read"):
        folder.read("v1/good", 100)


def test_a_good_file_is_read_copied_and_linked(root, folder, tmp_path):
    assert folder.read("v1/good", 4) == b"good"
    folder.copy("v1/good", 4, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"good"
    assert folder.link("v1/good", 4, sha256(b"good").hexdigest(), tmp_path / "linked")
    assert (tmp_path / "linked").samefile(root / "v1" / "good")
    assert not folder.link("v1/good", 4, sha256(b"evil").hexdigest(), tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        folder.read("v1/none", 4)


def test_a_replaced_file_lands_below_the_root_or_nowhere(root, folder, tmp_path):
    (root / "new").write_bytes(b"new")
    folder.replace(root / "new", "v1/deep/er")
    assert (root / "v1" / "deep" / "er").read_bytes() == b"new"
    (root / "v1" / "out").symlink_to(tmp_path)
    (root / "new").write_bytes(b"new")
    with pytest.raises(Corrupt, match="v1/out is a symbolic link"):
        folder.replace(root / "new", "v1/out/er")
    assert not (tmp_path / "er").exists()
