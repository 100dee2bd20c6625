"""What is attached to a version: bounded, plainly named, beside the version and never in it."""

from __future__ import annotations

import pytest
from artifacts import bundle

from adaptkit.errors import Corrupt, StorageError
from adaptkit.extend import attachments
from adaptkit_plugins.storage.file import FileBackend

KIND = "application/vnd.example.signature.v1+json"


@pytest.fixture
def place(tmp_path):
    place = FileBackend((tmp_path / "naval").as_uri())
    place.push(bundle(tmp_path / "source", {"adapter_config.json": b"{}"}), ())
    return place


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "x" * 65, "dot."])
def test_a_name_that_could_lead_elsewhere_is_refused(name, place):
    with pytest.raises(
        StorageError,
        match="cannot attach .* an attached file has a plain name and at most 4,194,304",
    ):
        place.attach(1, KIND, {name: b"x"})
    assert place.attached(1, KIND) == ()


def test_what_is_too_large_or_nothing_is_refused(place):
    with pytest.raises(StorageError, match="at most 4,194,304 bytes"):
        place.attach(1, KIND, {"model.sig": bytes(attachments.LARGEST + 1)})
    with pytest.raises(StorageError, match="an attachment has at least one file"):
        place.attach(1, KIND, {})
    with pytest.raises(
        StorageError, match="cannot attach to v9 .*that version is missing\n  push it first"
    ):
        place.attach(9, KIND, {"model.sig": b"x"})


def test_a_place_full_of_attachments_keeps_no_reader_busy(place):
    folder = place.folder / attachments.folder(1, KIND)
    for number in range(attachments.MOST + 9):
        (folder / f"{number:032x}").mkdir(parents=True)
        (folder / f"{number:032x}" / "model.sig").write_bytes(b"x")
    (folder / "not-one").mkdir()
    assert len(place.attached(1, KIND)) == attachments.MOST
    (folder / f"{0:032x}" / "model.sig").write_bytes(bytes(attachments.LARGEST + 1))
    with pytest.raises(Corrupt, match="is too large"):
        place.attached(1, KIND)


def test_attachments_that_are_too_much_together_are_not_read(place, monkeypatch):
    for text in (b"one", b"two", b"six"):
        place.attach(1, KIND, {"model.sig": text})
    monkeypatch.setattr(attachments, "MOST_BYTES", 9)
    assert len(place.attached(1, KIND)) == 3
    monkeypatch.setattr(attachments, "MOST_BYTES", 8)
    with pytest.raises(StorageError, match="what is attached to v1 cannot be read") as caught:
        place.attached(1, KIND)
    assert caught.value.why == "it takes more than 8 bytes"


def test_the_same_content_has_the_same_name_wherever_it_is():
    one = attachments.identity({"a": b"1", "b": b"2"})
    assert one == attachments.identity({"b": b"2", "a": b"1"})
    assert (
        len({one, attachments.identity({"a": b"2", "b": b"1"}), attachments.identity({"a": b"12"})})
        == 3
    )
    assert attachments.ID.fullmatch(one)
