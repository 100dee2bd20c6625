"""adaptkit_plugins.storage.file: what is stored in the folder, races, kills, and hostile places."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest
from artifacts import bundle
from concurrency import at_once, killed

from adaptkit.errors import AdaptkitError, Corrupt, NotFound, StorageError
from adaptkit.refs import Selector
from adaptkit.remotes import transfer
from adaptkit.store.content_store import Store
from adaptkit_plugins.storage.file import FileBackend

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def place(tmp_path):
    return FileBackend.open((tmp_path / "team" / "naval").as_uri())


@pytest.fixture
def packed(tmp_path):
    """packed("content") → a bundle of two files, the first of which is always the same."""

    def make(content, number=1):
        return bundle(
            tmp_path / f"src-{content}",
            {CONFIG: b'{"r": 8}', WEIGHTS: str(content).encode()},
            number,
        )

    return make


def test_a_version_is_a_folder_whose_manifest_makes_it_exist(place, packed):
    receipt = transfer.push(place, packed("a"))
    assert (receipt.number, receipt.unchanged) == (1, False)
    assert sorted(p.name for p in (place.folder / "v1").iterdir()) == [
        CONFIG,
        WEIGHTS,
        "adaptkit.json",
    ]
    shutil.copytree(place.folder / "v1", place.folder / "v2")
    (place.folder / "v2" / "adaptkit.json").unlink()
    assert [placed.number for placed in place.list()] == [1]
    assert transfer.push(place, packed("b", 2)).number == 3  # v2 is taken, whatever it is


def test_nothing_is_sent_twice(place, packed):
    first = transfer.push(place, packed("a"))
    again = transfer.push(place, packed("a", 5))
    assert (again.number, again.unchanged, again.sent) == (1, True, 0)
    second = transfer.push(place, packed("b", 2))
    assert second.sent == first.sent - len(b'{"r": 8}')
    one, two = (place.folder / v / CONFIG for v in ("v1", "v2"))
    assert one.stat().st_ino == two.stat().st_ino


def test_a_number_is_kept_when_larger_than_all_there_and_else_is_the_next(place, packed):
    numbers = [
        transfer.push(place, packed(content, wish)).number
        for content, wish in (("a", 4), ("b", 2), ("c", 9))
    ]
    assert numbers == [4, 5, 9]


def test_eight_pushes_at_once_get_dense_numbers_and_lose_nothing(place, packed):
    bundles = [packed(content) for content in range(8)]

    def pusher(one):
        def work():
            for _ in range(20):
                try:
                    return transfer.push(place, one).number
                except AdaptkitError:
                    continue
            return None

        return work

    assert sorted(at_once(pusher(one) for one in bundles)) == list(range(1, 9))
    assert {p.manifest.digest for p in place.list()} == {one.manifest.digest for one in bundles}


def test_eight_pushes_of_the_same_make_one_version(place, packed):
    one = packed("same")
    assert set(at_once([lambda: transfer.push(place, one).number] * 8)) == {1}
    assert len(place.list()) == 1


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.soak)])
def test_a_killed_push_is_not_seen_and_the_next_one_works(place, tmp_path, rounds):
    big = {CONFIG: b"{}", WEIGHTS: os.urandom(20 << 20)}
    for number in range(1, rounds + 1):
        one = bundle(tmp_path / f"s{number}", big | {CONFIG: str(number).encode()}, number)
        killed(lambda one=one: transfer.push(place, one), 0.002 * (number % 25))
        for placed in place.list():
            for file in placed.manifest.files:
                assert (place.folder / f"v{placed.number}" / file.path).stat().st_size == file.size
        assert transfer.push(place, one).digest == one.manifest.digest
        shutil.rmtree(tmp_path / f"s{number}")


def test_only_what_was_abandoned_long_ago_is_swept(place, packed):
    transfer.push(place, packed("a"))
    old, young = place.folder / ".adaptkit-old", place.folder / ".adaptkit-young"
    for left in (old, young):
        left.mkdir()
    os.utime(old, (time.time() - 100_000,) * 2)
    transfer.push(place, packed("b", 2))
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema": 99}', "[" * 100_000, " " * (20 << 20)],
    ids=["empty", "cut", "list", "null", "newer", "deep", "large"],
)
def test_a_broken_manifest_is_an_error_that_names_the_place(text, place, packed):
    transfer.push(place, packed("a"))
    (place.folder / "v1" / "adaptkit.json").write_text(text)
    with pytest.raises(AdaptkitError) as caught:
        place.version(1)
    assert place.url in str(caught.value)
    assert transfer.push(place, packed("b", 2)).number == 2  # the others are not lost with it


@pytest.mark.parametrize(
    "path",
    [
        "../../evil",
        "/etc/evil",
        "a/../../evil",
        "con\0trol",
        "C:\\evil",
        "\\\\host\\evil",
        ".git/hooks/post-checkout",
        "evil.",
        "ADAPTER_config.json",
        "adaptkit.json",
    ],
)
def test_a_hostile_path_in_a_manifest_writes_nothing_outside(path, place, packed, tmp_path):
    transfer.push(place, packed("a"))
    manifest = place.folder / "v1" / "adaptkit.json"
    manifest.write_text(manifest.read_text().replace(WEIGHTS, json.dumps(path)[1:-1]))
    before = sorted(p for p in tmp_path.rglob("*") if "store" not in p.parts)
    with pytest.raises(Corrupt, match=r"adaptkit.json of .*@1 cannot be trusted"):
        transfer.fetch(place, place.version(1), Store(tmp_path / "store"))
    assert sorted(p for p in tmp_path.rglob("*") if "store" not in p.parts) == before


def test_a_link_or_a_device_in_a_place_is_not_followed(place, packed, tmp_path):
    transfer.push(place, packed("a"))
    (tmp_path / "secret").write_bytes(b"a")
    weights = place.folder / "v1" / WEIGHTS
    for harm in (lambda: weights.symlink_to(tmp_path / "secret"), lambda: os.mkfifo(weights)):
        weights.unlink()
        harm()
        with pytest.raises(AdaptkitError):
            transfer.fetch(place, place.list()[0], Store(tmp_path / "store"))


def test_corrupt_bytes_are_named_quarantined_and_never_stored(place, packed, tmp_path):
    transfer.push(place, packed("a"))
    weights = place.folder / "v1" / WEIGHTS
    weights.chmod(0o644)
    weights.write_bytes(b"b")
    store = Store(tmp_path / "store")
    with pytest.raises(Corrupt, match=f"'{WEIGHTS}' of {place.url}@1 is corrupt"):
        transfer.fetch(place, place.list()[0], store)
    assert len(list((store.root / "quarantine").iterdir())) == 1
    assert list(store.digests()) == []


def test_a_corrupt_local_artifact_is_fetched_again(place, packed, tmp_path):
    transfer.push(place, packed("a"))
    store = Store(tmp_path / "store")
    manifest = transfer.fetch(place, place.list()[0], store)
    blob = store.blob(manifest.files[1].sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"z")
    transfer.fetch(place, place.list()[0], store)
    assert store.blob(manifest.files[1].sha256).read_bytes() == b"a"


def test_a_place_that_cannot_be_written_is_an_error(packed, tmp_path):
    (tmp_path / "file").write_text("in the way")
    place = FileBackend.open((tmp_path / "file" / "naval").as_uri())
    with pytest.raises(StorageError, match=f"cannot read {place.url}: Not a directory"):
        transfer.push(place, packed("a"))


@pytest.mark.parametrize(
    "url", ["file://host/x", "file:relative", "file:///a/../b", "file:///a%00b"]
)
def test_a_url_that_names_no_folder_is_an_error(url):
    with pytest.raises(StorageError, match="cannot read the place"):
        FileBackend.open(url)


def test_eight_alias_moves_at_once_lose_none(place, packed):
    transfer.push(place, packed("a"))
    at_once([lambda i=i: place.set_alias(f"a{i}", 1) for i in range(8)])
    assert place.aliases() == {f"a{i}": 1 for i in range(8)}


def test_a_selector_chooses_and_an_unknown_one_lists_the_known(place, packed):
    bundles = [packed("a"), packed("b", 2)]
    for one in bundles:
        transfer.push(place, one)
    place.set_alias("prod", 1)
    assert transfer.choose(place, None).number == 2
    assert transfer.choose(place, Selector("number", "1")).number == 1
    assert transfer.choose(place, Selector("alias", "prod")).number == 1
    assert transfer.choose(place, Selector("digest", bundles[0].manifest.digest[:20])).number == 1
    for selector, known in (
        (Selector("number", "7"), "known are 1, 2"),
        (Selector("alias", "pord"), "known is prod"),
    ):
        with pytest.raises(NotFound, match=known):
            transfer.choose(place, selector)
    with pytest.raises(AdaptkitError, match="revisions are for hf://"):
        transfer.choose(place, Selector("revision", "main"))


def test_an_alias_is_carried_by_a_push(place, packed):
    transfer.push(place, packed("a"), alias="prod")
    assert place.aliases() == {"prod": 1}


def test_a_push_of_what_is_there_sends_again_what_is_missing_or_has_another_size(place, packed):
    one = packed("a")
    transfer.push(place, one)
    weights = place.folder / "v1" / WEIGHTS
    for harm, why in (
        (weights.unlink, "it is missing"),
        (lambda: weights.write_bytes(b"long"), "it has 4 bytes, not 1"),
    ):
        harm()
        again = transfer.push(place, one)
        assert (again.number, again.sent, again.unchanged) == (1, 1, False)
        assert again.note == f"v1 was damaged there, and was sent again: {WEIGHTS} ({why})"
        assert weights.read_bytes() == b"a"
    assert transfer.push(place, one).unchanged


def test_a_folder_with_the_largest_number_stops_pushes_by_name(place, packed):
    (place.folder / "v999999999").mkdir(parents=True)
    (place.folder / "v999999999" / "x").touch()
    with pytest.raises(StorageError, match="stored there as v999999999, and numbers end at"):
        transfer.push(place, packed("a"))


def test_a_linked_version_folder_is_none_and_its_number_is_taken(place, packed, tmp_path):
    transfer.push(place, packed("a"))
    shutil.copytree(place.folder / "v1", tmp_path / "private")
    (place.folder / "v2").symlink_to(tmp_path / "private")
    assert [placed.number for placed in place.list()] == [1]
    assert transfer.push(place, packed("b", 2)).number == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"prod": "1"}', "the alias 'prod' points at no whole number"),
        ('{"prod": true}', "the alias 'prod' points at no whole number"),
        ('{"prod": 1.0}', "the alias 'prod' points at no whole number"),
        ('{"prod": null}', "the alias 'prod' points at no whole number"),
        ('[["prod", 1]]', "it holds no object"),
        ('{"prod": 1', "Expecting"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_an_alias_table_of_another_form_is_an_error(place, packed, text, why):
    transfer.push(place, packed("a"))
    (place.folder / "refs.json").write_text(text)
    with pytest.raises(StorageError, match=f"refs.json of {place.url} cannot be read: .*{why}"):
        place.aliases()


def test_a_linked_alias_table_manifest_or_attachment_is_an_error(place, packed, tmp_path):
    transfer.push(place, packed("a"))
    (tmp_path / "secret").write_text('{"prod": 1}')
    (place.folder / "refs.json").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError, match=r"refs.json is a symbolic link"):
        place.aliases()
    place.attach(1, "x/y", {"key.pub": b"k"})
    (attached,) = place.folder.glob("v1.attached/*/*/key.pub")
    attached.unlink()
    os.mkfifo(attached)
    with pytest.raises(Corrupt, match="key.pub is a FIFO"):
        place.attached(1, "x/y")
    manifest = place.folder / "v1" / "adaptkit.json"
    manifest.rename(tmp_path / "manifest")
    manifest.symlink_to(tmp_path / "manifest")
    with pytest.raises(Corrupt, match="adaptkit.json is a symbolic link"):
        place.version(1)
