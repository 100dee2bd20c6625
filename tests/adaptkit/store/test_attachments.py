"""What is kept beside an artifact is plain files: a link in a copied store would send another file in their place."""

from __future__ import annotations

import os

import pytest

from adaptkit.extend import attachments
from adaptkit.extend.attachments import MOMENTS
from adaptkit.store.attachments import KeptAttachments

DIGEST = "sha256:" + "a" * 64
FILES = {"about.json": b"{}", "moments-00.safetensors": b"x"}


@pytest.fixture
def kept(tmp_path):
    store = KeptAttachments(tmp_path / "moments")
    store.keep(DIGEST, FILES)
    return store


def test_what_was_kept_is_found_by_its_id(kept):
    (folder,) = kept.of(DIGEST)
    assert folder.name == attachments.identity(FILES)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_an_attachment_that_holds_more_than_plain_files_is_left_out(kept, kind, tmp_path):
    (folder,) = kept.of(DIGEST)
    path = folder / "moments-01.safetensors"
    if kind == "link":
        (tmp_path / "secret").write_text("a private key")
        path.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert kept.of(DIGEST) == []


@pytest.mark.parametrize("part", ["digest", "id"])
def test_an_attachment_behind_a_link_is_left_out(kept, part, tmp_path):
    (folder,) = kept.of(DIGEST)
    moved = folder if part == "id" else folder.parent
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    assert kept.of(DIGEST) == []


def test_a_push_sends_no_file_behind_a_link_as_moments(workspace, lora_pair, tmp_path):
    workspace.add(lora_pair[0], "naval")
    digest = workspace.version("naval").digest
    (tmp_path / "id_rsa").write_text("a private key")
    folder = workspace.store.root / "moments" / digest.removeprefix("sha256:") / ("a" * 32)
    folder.mkdir(parents=True)
    (folder / "about.json").write_text("{}")
    (folder / "moments-00.safetensors").symlink_to(tmp_path / "id_rsa")
    url = (tmp_path / "share" / "naval").as_uri()
    workspace.push("naval", url)
    assert workspace.places.open(url).attached(1, MOMENTS) == ()
    (folder / "moments-00.safetensors").unlink()
    (folder / "moments-00.safetensors").write_text("a private key")
    workspace.push("naval", url)
    assert workspace.places.open(url).attached(1, MOMENTS) == ()
