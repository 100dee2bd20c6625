"""adaptkit.plugin.entry_points: the same result as importlib.metadata, without reading every distribution."""

from __future__ import annotations

import json
import os
import shutil
import zipfile

import pytest

from adaptkit.plugin.entry_points import EntryPoint, installed, qualified

ASK_BOTH = """
import json, sys
from adaptkit.plugin.entry_points import installed
ours = sorted([e.name, e.value, *e.distribution()] for e in installed("adaptkit"))
from importlib.metadata import entry_points
theirs = sorted([e.name, e.value, e.dist.name, e.dist.version] for e in entry_points(group="adaptkit"))
print(json.dumps([ours, theirs]))
"""


def distribution(folder, name, text, version="1.0", kind="dist-info"):
    info = folder / (f"{name}-{version}.dist-info" if kind == "dist-info" else f"{name}.egg-info")
    info.mkdir(parents=True)
    (info / ("METADATA" if kind == "dist-info" else "PKG-INFO")).write_text(
        f"Name: {name}\nVersion: {version}\n"
    )
    if text is not None:
        (info / "entry_points.txt").write_text(text)
    return info


def found(*path, group="adaptkit"):
    return [
        (entry.name, entry.value) for entry in installed(group, [str(folder) for folder in path])
    ]


def test_it_finds_what_importlib_finds_in_a_real_environment(scratch):
    ours, theirs = json.loads(scratch.run("-c", ASK_BOTH).stdout)
    assert ours == theirs
    assert ["good", "acme_good", "acme-good", "1.2"] in ours
    assert ["source", "acme_source", "acme-source", "1.0"] in ours
    assert ["editable", "acme_editable", "acme-editable", "1.0"] in ours


def test_a_distribution_shadows_its_name_further_back_on_the_path(tmp_path):
    distribution(tmp_path / "near", "My_Plugin", "[adaptkit]\nnew = new\n", "2.0")
    distribution(tmp_path / "near", "bare", None)
    distribution(tmp_path / "far", "my.plugin", "[adaptkit]\nold = old\n")
    distribution(tmp_path / "far", "bare", "[adaptkit]\nbare = bare\n")
    distribution(tmp_path / "far", "other", "[adaptkit]\nother = other\n", kind="egg-info")
    assert found(tmp_path / "near", tmp_path / "far") == [("new", "new"), ("other", "other")]
    assert sorted(found(tmp_path / "far", tmp_path / "near")) == [
        ("bare", "bare"),
        ("old", "old"),
        ("other", "other"),
    ]


def test_only_the_group_asked_for_is_read_and_comments_are_not(tmp_path):
    text = "[console_scripts]\nx = y\n\n[adaptkit]\n# z = z\n A = pkg.mod:Object.part [extra]\n[adaptkit2]\nq = q\n"
    distribution(tmp_path, "one", text)
    assert found(tmp_path) == [("A", "pkg.mod:Object.part [extra]")]
    assert found(tmp_path, group="console_scripts") == [("x", "y")]


def test_what_a_plugin_offers_is_read_from_the_groups_below(tmp_path):
    text = (
        "[adaptkit]\na = pkg.a\nb = pkg.b\nc = pkg.c\n"
        "[adaptkit.commands]\na = pkg.a\nc = pkg.other\n[adaptkit.review]\na = pkg.a\nd = pkg.d\n"
    )
    distribution(tmp_path, "one", text)
    a, b, c = installed("adaptkit", [str(tmp_path)])
    assert a.declared == {"commands", "review"}
    assert (a.may_offer("commands"), a.may_offer("methods")) == (True, False)
    assert (b.declared, c.declared) == (frozenset(), frozenset())  # silent: they may offer anything
    assert b.may_offer("commands")


def test_what_cannot_be_read_hides_nothing_else(tmp_path):
    distribution(tmp_path, "binary", "").joinpath("entry_points.txt").write_bytes(
        b"\xff\xfe[adaptkit]"
    )
    distribution(tmp_path, "sectionless", "x = y\n")
    distribution(tmp_path, "lineless", "[adaptkit]\nonly-a-name\n= value\n")
    distribution(tmp_path, "whole", "[adaptkit]\nwhole = whole\n")
    (tmp_path / "file.egg-info").write_text("Name: file\n")
    (tmp_path / "file.py").write_text("")
    assert found(tmp_path / "file.py", tmp_path / "gone", tmp_path) == [
        ("only-a-name", ""),
        ("= value", "value"),
        ("whole", "whole"),
    ]
    with pytest.raises(ValueError, match="'only-a-name', not NAME = MODULE"):
        EntryPoint("only-a-name", "").load()


def test_a_folder_is_read_again_once_a_distribution_was_installed_or_removed(tmp_path, monkeypatch):
    read, listdir = [], os.listdir

    def counted(folder):
        read.append(folder)
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", counted)
    one = distribution(tmp_path, "one", "[adaptkit]\none = one\n")
    os.utime(tmp_path, (1e9, 1e9))
    assert found(tmp_path) == found(tmp_path) == [("one", "one")]
    assert len(read) == 1
    distribution(tmp_path, "two", "[adaptkit]\ntwo = two\n")
    assert found(tmp_path) == [("one", "one"), ("two", "two")]
    shutil.rmtree(one)  # at the same time of the clock of some file systems
    assert found(tmp_path) == [("two", "two")]
    os.utime(tmp_path, (2e9, 2e9))  # a clock that was wrong
    assert found(tmp_path) == found(tmp_path) == [("two", "two")]
    assert len(read) == 5


def test_a_zip_on_the_path_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("zipped-3.1.dist-info/METADATA", "Name: zipped\nVersion: 3.1\n")
        archive.writestr(
            "zipped-3.1.dist-info/entry_points.txt", "[adaptkit]\nzipped = zipped_module\n"
        )
        archive.writestr("bare-1.dist-info/METADATA", "Name: bare\nVersion: 1\n")
    (entry,) = installed("adaptkit", [str(tmp_path / "app.pyz")])
    assert (entry.name, entry.value, entry.distribution()) == (
        "zipped",
        "zipped_module",
        ("zipped", "3.1"),
    )


def test_a_half_removed_distribution_still_has_a_name(tmp_path):
    info = distribution(tmp_path, "left_over", "[adaptkit]\nleft = left\n")
    (info / "METADATA").unlink()
    (entry,) = installed("adaptkit", [str(tmp_path)])
    assert entry.distribution() == ("left_over", "1.0")
    assert EntryPoint("by hand", "x").distribution() == ("", "")


@pytest.mark.parametrize(
    "value", ["json.decoder:JSONDecoder.decode", "json.decoder : JSONDecoder.decode [fast]"]
)
def test_an_object_in_a_module_is_loaded(value):
    assert EntryPoint("decode", value).load() is json.JSONDecoder.decode


def test_every_entry_point_gets_a_name_of_its_own(tmp_path):
    one = EntryPoint("x", "a", distribution(tmp_path, "one", ""))
    two = EntryPoint("x", "b", distribution(tmp_path, "two", ""))
    again = EntryPoint("x", "c", two.metadata)
    alone = EntryPoint("a", "a")
    assert qualified([two, one, alone, again, one]) == [
        ("a", alone),
        ("one:x", one),
        ("two:x", two),
        ("two:x=c", again),
    ]
    assert qualified([EntryPoint("x", "a"), EntryPoint("x", "b")])[1] == (
        "b:x",
        EntryPoint("x", "b"),
    )
