"""adaptkit.testing.storage: `file://` holds to it, and each of its checks can fail."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from adaptkit.errors import AdaptkitError
from adaptkit.extend import Promise, StorageBackend
from adaptkit.testing import FolderBehind, StorageConformance
from adaptkit.types import PlacedVersion, Receipt
from adaptkit_plugins.storage.file import FileBackend


class TestFile(StorageConformance):
    @pytest.fixture
    def place(self, tmp_path):
        return FileBackend.open((tmp_path / "team" / "naval").as_uri())

    @pytest.fixture
    def behind(self, place):
        return FolderBehind(place.folder)


class Drawer(FileBackend):
    """A place that keeps bytes and promises nothing; the plainest thing that could be handed in."""

    schemes = ("drawer",)

    def __init__(self, url):
        FileBackend.__init__(self, url.replace("drawer://", "file://"))
        self.url = url


def _without(**methods):
    return type("Bad", (Drawer,), methods)


def _late_manifest(self, bundle, expected, progress=lambda count: None):
    """Writes the manifest first, so that an interrupted push can be seen."""
    number = max([bundle.placed.number, *(p.number + 1 for p in self.list())])
    folder = self.folder / f"v{number}"
    folder.mkdir(parents=True)
    placed = replace(bundle.placed, number=number)
    (folder / "adaptkit.json").write_text(json.dumps(placed.to_json()))
    for file in bundle.files:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bundle.paths[file.path], folder / file.path)
        progress(file.size)
    return Receipt(
        self.url, number, bundle.manifest.digest, sum(file.size for file in bundle.files)
    )


def _trusting(self, bundle, expected, progress=lambda count: None):
    """Trusts what it is given to expect, and writes over what came since."""
    number = max([bundle.placed.number, *(p.number + 1 for p in expected)])
    folder = self.folder / f"v{number}"
    for file in bundle.files:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_bytes(bundle.paths[file.path].read_bytes())
    (folder / "adaptkit.json").write_text(
        json.dumps(replace(bundle.placed, number=number).to_json())
    )
    return Receipt(
        self.url, number, bundle.manifest.digest, sum(file.size for file in bundle.files)
    )


def _numbering_from_one(self, bundle, expected, progress=lambda count: None):
    return Drawer.push(
        self, replace(bundle, placed=replace(bundle.placed, number=1)), expected, progress
    )


def _pull_all(self, version, files, into, progress=lambda count: None):
    return Drawer.pull(
        self, version, version.manifest.files + version.manifest.extras, into, progress
    )


def _pull_short(self, version, files, into, progress=lambda count: None):
    Drawer.pull(self, version, files, into, progress)
    for path in into.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])


def _pull_checking(self, version, files, into, progress=lambda count: None):
    Drawer.pull(self, version, files, into, progress)
    (into / "adapter_model.safetensors").unlink()


def _littering_probe(self):
    self.folder.mkdir(parents=True, exist_ok=True)
    (self.folder / "probe.tmp").write_text("left")
    return Promise(True, True)


def _publishing_probe(self):
    return "fine"


def _forgetful_list(self):
    return Drawer.list(self) if getattr(self, "pushed", False) else ()


def _remembering_push(self, bundle, expected, progress=lambda count: None):
    self.pushed = True
    return Drawer.push(self, bundle, Drawer.list(self), progress)


def _folders(self):
    return tuple(self._folders())


def _one_invented(self):
    return (PlacedVersion(1, None),)


def _sending_all(self, bundle, expected, progress=lambda count: None):
    return replace(
        Drawer.push(self, bundle, expected, progress), sent=sum(f.size for f in bundle.files)
    )


def _attaching_inside(self, number, kind, files):
    """Puts it where the version is, so that a version that is not there begins to be one."""
    for name, data in files.items():
        (self.folder / f"v{number}").mkdir(exist_ok=True)
        (self.folder / f"v{number}" / name).write_bytes(data)
    return "inside"


CASES = [
    ("test_it_serves_a_scheme", {"schemes": ("s3",)}),
    ("test_a_place_that_is_not_there_is_empty", {"list": _one_invented}),
    ("test_what_was_pushed_is_listed_and_pulled_byte_for_byte", {"pull": _pull_short}),
    ("test_another_client_sees_it", {"list": _forgetful_list, "push": _remembering_push}),
    ("test_only_the_files_that_are_asked_for_are_pulled", {"pull": _pull_all}),
    ("test_what_is_there_already_is_not_sent_again", {"push": _sending_all}),
    (
        "test_a_version_keeps_its_number_if_larger_than_all_else_takes_the_next",
        {"push": _numbering_from_one},
    ),
    ("test_an_interrupted_push_leaves_nothing_to_see", {"push": _late_manifest}),
    ("test_aliases_are_kept_or_refused", {"set_alias": lambda self, alias, number: None}),
    (
        "test_what_is_attached_to_a_version_is_read_back_and_changes_nothing_else",
        {"attach": _attaching_inside},
    ),
    ("test_a_probe_tells_what_holds_and_changes_nothing", {"probe": _publishing_probe}),
    ("test_concurrent_pushes_get_numbers_of_their_own", {"push": _trusting}),
    ("test_the_same_version_pushed_at_once_is_there_once", {"push": _trusting}),
    ("test_a_writer_who_saw_too_little_overwrites_nothing", {"push": _trusting}),
    (
        "test_a_version_without_its_manifest_does_not_exist",
        {
            "numbers": _folders,
            "list": lambda self: tuple(PlacedVersion(n, None) for n in range(1, self.taken() + 1)),
        },
    ),
    ("test_corrupt_bytes_are_delivered_for_the_caller_to_find", {"pull": _pull_checking}),
    ("test_a_probe_leaves_no_file", {"probe": _littering_probe}),
    (
        "test_a_file_of_another_size_is_reported_and_a_push_sends_it_again",
        {"damage": lambda self, placed: {}},
    ),
]


@pytest.mark.parametrize(("check", "bad"), CASES, ids=[check for check, _ in CASES])
def test_each_check_catches_what_it_is_for(check, bad, tmp_path):
    kit, wanted = StorageConformance(), getattr(StorageConformance, check).__code__
    wanted = wanted.co_varnames[: wanted.co_argcount]

    def run(kind, folder):
        place = kind.open((folder / "naval").as_uri().replace("file://", "drawer://"))
        make = StorageConformance.make.__wrapped__(kit, folder)
        (folder / "work").mkdir(parents=True)
        given = {
            "place": place,
            "make": make,
            "tmp_path": folder / "work",
            "behind": FolderBehind(place.folder),
        }
        getattr(kit, check)(**{name: value for name, value in given.items() if name in wanted})

    run(Drawer, tmp_path / "good")
    with pytest.raises((AssertionError, AdaptkitError, OSError, KeyError, pytest.fail.Exception)):
        run(_without(**bad), tmp_path / "bad")


def test_every_check_is_in_the_table_above():
    assert {check for check, _ in CASES} == {
        name for name in vars(StorageConformance) if name.startswith("test_")
    }


def test_a_place_without_aliases_says_so_and_conforms(tmp_path):
    class NoAliases(StorageConformance):
        keeps_aliases = False

    place = Drawer.open((tmp_path / "naval").as_uri().replace("file://", "drawer://"))
    plain = type(
        "Plain",
        (Drawer,),
        {"aliases": StorageBackend.aliases, "set_alias": StorageBackend.set_alias},
    )
    NoAliases().test_aliases_are_kept_or_refused(
        plain.open(place.url), StorageConformance.make.__wrapped__(None, tmp_path)
    )
    with pytest.raises(pytest.fail.Exception):
        NoAliases().test_aliases_are_kept_or_refused(
            place, StorageConformance.make.__wrapped__(None, tmp_path)
        )
