"""What every storage backend must hold to."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

import pytest

from adaptkit.errors import Conflict, NotFound, StorageError
from adaptkit.extend import Bundle, Promise, StorageBackend
from adaptkit.testing.behind import FolderBehind
from adaptkit.testing.pushes import TRIES, contents, interrupt_after, pulled, race, weights_of
from adaptkit.types import (
    BaseIdentity,
    FileEntry,
    Level,
    Manifest,
    Parent,
    PlacedVersion,
    artifact_digest,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from adaptkit.testing.behind import Behind

CONFIG, WEIGHTS, TOKENIZER = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer/vocab.txt",
)
KIND = "application/vnd.example.signature.v1+json"
_RACERS = 4


class StorageConformance:
    """Inherit, and give the fixture `place`: a backend on a place that nothing was ever pushed to.

    With the fixture `behind` as well, it is tried on half-written versions and on corrupt bytes.
    """

    keeps_aliases: ClassVar[bool] = True
    """Whether `set_alias` works there."""
    repairs: ClassVar[bool] = True
    """Whether files of a version that are damaged there can be stored again (`repair`)."""
    copies_unchanged: ClassVar[bool] = True
    """Whether the place itself copies a file that an earlier version has, so it is not sent."""

    @pytest.fixture
    def place(self) -> StorageBackend:
        """A fresh place."""
        raise NotImplementedError(
            "give your test class a fixture `place` that returns your StorageBackend"
        )

    @pytest.fixture
    def behind(self) -> Behind:
        """Access to what is stored under the place."""
        pytest.skip("give your test class a fixture `behind` (adaptkit.testing.Behind) to try this")

    @pytest.fixture
    def make(self, tmp_path: Path) -> Callable[..., Bundle]:
        """`make(number, seed)`: a version to push.

        The seed decides its weights; everything else stays.
        """

        def bundle(number: int = 1, seed: int = 1, name: str = "naval") -> Bundle:
            folder = tmp_path / f"source-{seed}"
            contents = {
                CONFIG: b'{"r": 8}',
                WEIGHTS: weights_of(seed),
                TOKENIZER: b"a\nb\n",
                "README.md": b"# naval\n",
            }
            for path, data in contents.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            entries = [
                FileEntry(path, len(data), sha256(data).hexdigest())
                for path, data in contents.items()
            ]
            files, extras = tuple(entries[:3]), tuple(entries[3:])
            manifest = Manifest(
                artifact_digest(files),
                files,
                "lora",
                8,
                BaseIdentity("fleet/ship", (Level("fs1:" + "0" * 64, True),)),
                extras,
                (Parent("sha256:" + "1" * 64, 0.7, "merged", "naval@1"),),
                {"strategy": "linear"},
                {"loss": {"error": 0.25, "from_sum": None, "dropped": []}},
                "2026-01-01T00:00:00Z",
            )
            placed = PlacedVersion(number, manifest, name, f"made with seed {seed}", "ada")
            return Bundle(placed, {path: folder / path for path in contents})

        return bundle

    # ------------------------------------------------------------ one writer

    def test_it_serves_a_scheme(self, place: StorageBackend) -> None:
        assert isinstance(place.schemes, tuple)
        assert place.url.partition("://")[0] in place.schemes
        assert type(place).open(place.url).url == place.url

    def test_a_place_that_is_not_there_is_empty(self, place: StorageBackend) -> None:
        assert place.list() == ()
        assert dict(place.aliases()) == {}
        with pytest.raises(NotFound):
            place.version()

    def test_what_was_pushed_is_listed_and_pulled_byte_for_byte(
        self, place: StorageBackend, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        bundle, crossed = make(), list[int]()
        receipt = place.push(bundle, place.list(), crossed.append)
        size = sum(file.size for file in bundle.files)
        assert (receipt.number, receipt.digest, receipt.unchanged) == (
            1,
            bundle.manifest.digest,
            False,
        )
        assert receipt.sent == size == sum(crossed)
        assert place.list() == (bundle.placed,)
        assert place.version() == place.version(1) == bundle.placed
        with pytest.raises(NotFound):
            place.version(2)
        arrived = list[int]()
        assert pulled(place, bundle.placed, tmp_path / "pulled", arrived.append) == contents(bundle)
        assert sum(arrived) == size

    def test_another_client_sees_it(
        self, place: StorageBackend, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        bundle = make()
        place.push(bundle, ())
        other = type(place).open(place.url)
        assert other.list() == (bundle.placed,)
        assert pulled(other, bundle.placed, tmp_path / "pulled") == contents(bundle)

    def test_only_the_files_that_are_asked_for_are_pulled(
        self, place: StorageBackend, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        bundle = make()
        place.push(bundle, ())
        into = tmp_path / "pulled"
        into.mkdir()
        place.pull(bundle.placed, [file for file in bundle.files if file.path == TOKENIZER], into)
        assert FolderBehind(into).paths() == {TOKENIZER}

    def test_what_is_there_already_is_not_sent_again(
        self, place: StorageBackend, make: Callable[..., Bundle]
    ) -> None:
        first = place.push(make(), ())
        for number in (1, 5):
            again = place.push(make(number), place.list())
            assert (again.number, again.digest, again.sent, again.unchanged) == (
                1,
                first.digest,
                0,
                True,
            )
        assert [placed.number for placed in place.list()] == [1]
        second = make(2, seed=2)
        sent = place.push(second, place.list()).sent
        changed = [
            file.size for file in second.files if file.path == WEIGHTS or not self.copies_unchanged
        ]
        assert sent == sum(changed)

    def test_a_version_keeps_its_number_if_larger_than_all_else_takes_the_next(
        self, place: StorageBackend, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        pushed = [make(number, seed) for seed, number in enumerate((5, 2, 9, 9))]
        numbers = [place.push(bundle, place.list()).number for bundle in pushed]
        assert numbers == [5, 6, 9, 10]
        listed = place.list()
        assert [placed.number for placed in listed] == numbers
        assert [placed.manifest for placed in listed] == [bundle.manifest for bundle in pushed]
        for placed, bundle in zip(listed, pushed, strict=True):
            assert pulled(place, placed, tmp_path / str(placed.number)) == contents(bundle)

    def test_an_interrupted_push_leaves_nothing_to_see(
        self, place: StorageBackend, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        bundle, steps = make(), 0
        while steps < TRIES:
            try:
                place.push(bundle, (), interrupt_after(steps))
            except KeyboardInterrupt:
                assert place.list() == (), f"after step {steps} of a push"
                steps += 1
            else:
                break
        assert steps, "a push calls `progress`"
        (placed,) = place.list()
        assert placed.manifest == bundle.manifest
        assert pulled(place, placed, tmp_path / "pulled") == contents(bundle)

    def test_aliases_are_kept_or_refused(
        self, place: StorageBackend, make: Callable[..., Bundle]
    ) -> None:
        place.push(make(), ())
        place.push(make(2, seed=2), place.list())
        if not self.keeps_aliases:
            with pytest.raises(StorageError):
                place.set_alias("prod", 1)
            assert dict(place.aliases()) == {}
            return
        for alias, number in (("prod", 1), ("canary", 2), ("prod", 2)):
            place.set_alias(alias, number)
        assert dict(type(place).open(place.url).aliases()) == {"prod": 2, "canary": 2}
        assert [placed.number for placed in place.list()] == [1, 2]

    def test_what_is_attached_to_a_version_is_read_back_and_changes_nothing_else(
        self, place: StorageBackend, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        bundle = make()
        place.push(bundle, ())
        if type(place).attach is StorageBackend.attach:  # it cannot store them, and reports that
            with pytest.raises(StorageError):
                place.attach(1, KIND, {"model.sig": b"one"})
            assert place.attached(1, KIND) == ()
            return
        assert place.attached(1, KIND) == ()
        one, two = (
            {"key.pub": b"key", "model.sig": b"one"},
            {"key.pub": b"key", "model.sig": bytes(range(256))},
        )
        names = [place.attach(1, KIND, files) for files in (one, two, one)]
        assert names[0] == names[2] != names[1]
        place.attach(1, "application/vnd.example.sbom+json", {"sbom.json": b"{}"})
        other = type(place).open(place.url)
        assert sorted(map(sorted, map(dict.items, map(dict, other.attached(1, KIND))))) == sorted(
            map(sorted, map(dict.items, (one, two)))
        )
        with pytest.raises(StorageError):
            place.attach(2, KIND, one)
        place.push(make(2, seed=2), place.list())
        assert place.attached(2, KIND) == ()
        assert [placed.number for placed in place.list()] == [1, 2]
        assert place.version(1) == bundle.placed
        assert pulled(place, bundle.placed, tmp_path / "pulled") == contents(bundle)

    def test_a_probe_tells_what_holds_and_changes_nothing(
        self, place: StorageBackend, make: Callable[..., Bundle]
    ) -> None:
        assert isinstance(place.probe(), Promise)
        assert place.list() == ()
        bundle = make()
        place.push(bundle, ())
        place.probe()
        assert place.list() == (bundle.placed,)
        assert dict(place.aliases()) == {}

    # ------------------------------------------------------------ several writers

    def test_concurrent_pushes_get_numbers_of_their_own(
        self, place: StorageBackend, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        bundles = [make(1, seed) for seed in range(_RACERS)]
        receipts = race(place, bundles)
        numbers = [receipt.number for receipt in receipts]
        assert len(set(numbers)) == _RACERS
        listed = {placed.number: placed for placed in place.list()}
        assert sorted(listed) == sorted(numbers)
        for bundle, receipt in zip(bundles, receipts, strict=True):
            assert (
                receipt.digest == bundle.manifest.digest == listed[receipt.number].manifest.digest
            )
            assert pulled(
                place, listed[receipt.number], tmp_path / str(receipt.number)
            ) == contents(bundle)

    def test_the_same_version_pushed_at_once_is_there_once(
        self, place: StorageBackend, make: Callable[..., Bundle]
    ) -> None:
        bundle = make()
        receipts = race(place, [bundle] * _RACERS)
        assert {receipt.number for receipt in receipts} == {1}
        assert [receipt.unchanged for receipt in receipts].count(False) == 1
        assert place.list() == (bundle.placed,)

    def test_a_writer_who_saw_too_little_overwrites_nothing(
        self, place: StorageBackend, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        first, second = make(1, 1), make(1, 2)
        place.push(first, ())
        with suppress(Conflict):
            again = place.push(first, ())
            assert (again.number, again.unchanged) == (1, True), (
                "another writer had pushed the same"
            )
        with suppress(Conflict):
            assert place.push(second, ()).number == 2
        assert place.version(1) == first.placed
        assert pulled(place, first.placed, tmp_path / "pulled") == contents(first)

    # ------------------------------------------------------------ behind its back

    def test_a_version_without_its_manifest_does_not_exist(
        self, place: StorageBackend, behind: Behind, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        behind.write(f"v3/{CONFIG}", b"{}")
        assert place.list() == ()
        with pytest.raises(NotFound):
            place.version(3)
        bundle = make(3)
        number = place.push(bundle, place.list()).number
        assert number >= 3
        assert [placed.number for placed in place.list()] == [number]
        assert pulled(place, place.version(number), tmp_path / "pulled") == contents(bundle)

    def test_corrupt_bytes_are_delivered_for_the_caller_to_find(
        self, place: StorageBackend, behind: Behind, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        bundle = make()
        place.push(bundle, ())
        rotten = bytes(reversed(weights_of(1)))
        behind.write(f"v1/{WEIGHTS}", rotten)
        assert pulled(place, bundle.placed, tmp_path / "pulled")[WEIGHTS] == rotten

    def test_a_file_of_another_size_is_reported_and_a_push_sends_it_again(
        self, place: StorageBackend, behind: Behind, make: Callable[..., Bundle], tmp_path: Path
    ) -> None:
        bundle = make()
        place.push(bundle, ())
        assert dict(place.damage(bundle.placed)) == {}
        behind.write(f"v1/{WEIGHTS}", b"short")
        again = type(place).open(place.url)
        if type(place).damage is StorageBackend.damage:  # it cannot tell
            assert dict(again.damage(bundle.placed)) == {}
            return
        assert set(again.damage(bundle.placed)) == {WEIGHTS}
        if not self.repairs:
            with pytest.raises(StorageError, match=WEIGHTS):
                again.push(bundle, again.list())
            return
        receipt = again.push(bundle, again.list())
        assert (receipt.number, receipt.unchanged) == (1, False)
        assert WEIGHTS in receipt.note
        assert dict(again.damage(bundle.placed)) == {}
        assert pulled(again, bundle.placed, tmp_path / "pulled") == contents(bundle)

    def test_a_probe_leaves_no_file(
        self, place: StorageBackend, behind: Behind, make: Callable[..., Bundle]
    ) -> None:
        place.push(make(), ())
        before = behind.paths()
        place.probe()
        assert behind.paths() == before
