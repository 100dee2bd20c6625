"""adaptkit.workspace.adapters.aliases: aliases that are protected, names that change, what is searched by, and bad names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from homes import copied

from adaptkit import Workspace
from adaptkit.errors import AdaptkitError, BadReference, Conflict, NotFound, Refused


@pytest.fixture(scope="module")
def made(lora_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aliases")
    again = tiny.edit_config(Path(shutil.copytree(lora_pair[0], folder / "again")), lora_alpha=3)
    with Workspace.init(folder / "home") as workspace:
        workspace.add(lora_pair[0], "naval", message="Terse hull reports", alias="prod")
        workspace.add(again, "naval")
        workspace.add(lora_pair[1], "team/medic")
    return folder / "home"


@pytest.fixture
def filled(made, tmp_path):
    with copied(made, tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def guarded(filled):
    (filled.home.config_file).write_text('protected = ["prod"]\n')
    with Workspace.open(filled.home.path, notify=lambda _: None) as opened:
        yield opened


# ---------------------------------------------------------------- protected aliases


def test_a_protected_alias_moves_only_when_confirmed(guarded):
    with pytest.raises(
        Refused, match=r"naval@prod is protected \(config.toml\): adaptkit alias naval prod 2 --yes"
    ):
        guarded.alias("naval", "prod", 2)
    with pytest.raises(Refused, match="adaptkit alias naval prod --drop --yes"):
        guarded.alias("naval", "prod", None)
    assert guarded.version("naval@prod").number == 1
    assert guarded.alias("naval", "prod", 2, confirmed=True).new == 2
    with pytest.raises(Refused, match="protected"):
        guarded.rollback("naval", "prod")
    assert guarded.rollback("naval", "prod", confirmed=True).new == 1
    assert guarded.alias("naval", "canary", 2).new == 2


def test_neither_add_nor_merge_nor_pull_moves_a_protected_alias_on_the_way(
    guarded, lora_pair, tmp_path
):
    place = (tmp_path / "place").as_uri()
    guarded.push("naval@2", place)
    before = guarded.list(every=True)
    for moves in (
        lambda: guarded.add(lora_pair[0], "naval", alias="prod"),
        lambda: guarded.merge(["naval@1", "naval@2"], name="naval", alias="prod"),
        lambda: guarded.pull(place, name="naval", alias="prod"),
    ):
        with pytest.raises(Refused, match="protected"):
            moves()
    assert guarded.list(every=True) == before


def test_with_the_plugin_off_nothing_is_protected_and_the_event_says_so(guarded, monkeypatch):
    monkeypatch.setenv("ADAPTKIT_DISABLE_PLUGINS", "builtin-protected")
    with Workspace.open(guarded.home.path) as opened:
        assert opened.alias("naval", "prod", 2).new == 2


def test_protected_aliases_that_are_not_a_list_are_refused(filled):
    filled.home.config_file.write_text('protected = "prod"\n')
    with (
        pytest.raises(AdaptkitError, match="'protected' is text in quotes, and must be a list"),
        Workspace.open(filled.home.path) as opened,
    ):
        opened.alias("naval", "prod", 2)


# ---------------------------------------------------------------- aliases


def test_expect_makes_a_move_a_swap(filled):
    with pytest.raises(Conflict, match="points at 1, not at 2"):
        filled.alias("naval", "prod", 2, expect=2)
    with pytest.raises(Conflict, match="points at 1, not at nothing"):
        filled.alias("naval", "prod", 2, expect=None)
    assert filled.alias("naval", "prod", 2, expect=1).old == 1


def test_an_alias_can_be_dropped_once(filled):
    assert filled.alias("naval", "prod", None).old == 1
    with pytest.raises(NotFound, match="no alias of naval called 'prod'"):
        filled.alias("naval", "prod", None)


# ---------------------------------------------------------------- rename


def test_a_renamed_adapter_is_found_under_both_names_and_keeps_everything(filled, lora_pair):
    filled.rename("naval", "fleet/naval")
    for name in ("naval", "fleet/naval"):
        assert filled.version(name).ref == "fleet/naval@2"
        assert filled.version(f"{name}@prod").ref == "fleet/naval@1"
        assert len(filled.log(name).versions) == 2
        assert filled.log(name).former_names == ("naval",)
    assert filled.path("naval@1").is_dir()
    assert [v.ref for v in filled.list()] == ["fleet/naval@2", "team/medic@1"]
    added = filled.add(
        lora_pair[0], "naval"
    )  # who still says the old name adds to the same adapter
    assert added.version.ref == "fleet/naval@3"
    assert filled.alias("naval", "prod", 3, expect=1).new == 3
    filled.remove("naval@2")
    assert filled.restore("naval@2").ref == "fleet/naval@2"
    assert [e.verb for e in filled.events("naval")][-3:] == ["added", "alias-moved", "added"]
    assert [e.verb for e in filled.events("fleet/naval") if e.verb == "renamed"] == ["renamed"]


def test_a_name_that_is_taken_or_leads_elsewhere_is_refused(filled):
    with pytest.raises(Conflict, match="cannot rename naval to team/medic: that name is taken"):
        filled.rename("naval", "team/medic")
    filled.rename("naval", "marine")
    with pytest.raises(
        Conflict, match="cannot rename team/medic to naval: that name leads to an adapter"
    ):
        filled.rename("team/medic", "naval")
    with pytest.raises(NotFound, match="no adapter called 'nobody'"):
        filled.rename("nobody", "somebody")
    assert [v.name for v in filled.list()] == ["marine", "team/medic"]


def test_a_rename_can_be_taken_back_and_done_again(filled):
    for name in ("marine", "naval", "marine", "marine", "navy"):
        filled.rename("naval", name)
        assert filled.version("naval").name == name
    assert set(filled.log("naval").former_names) == {"naval", "marine"}


# ---------------------------------------------------------------- search


@pytest.fixture
def noted(filled):
    filled.note(
        "naval@1",
        tags=["sea"],
        metrics={"accuracy": 0.93, "loss": 0.2},
        description="Kürze für die Brücke",
    )
    filled.note("naval@2", metrics={"accuracy": 0.85})
    return filled


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"rank": "4"}, ["naval@1", "naval@2"]),
        ({"rank": ">=8"}, ["team/medic@1"]),
        ({"rank": "!=4"}, ["team/medic@1"]),
        ({"tag": "sea"}, ["naval@1"]),
        ({"metrics": ["accuracy>=0.9"]}, ["naval@1"]),
        ({"metrics": ["accuracy < 0.9"]}, ["naval@2"]),
        ({"metrics": ["accuracy>0.1", "loss=0.2"]}, ["naval@1"]),
        ({"metrics": ["nothing>0"]}, []),
        ({"words": ["HULL"]}, ["naval@1"]),
        ({"words": ["brücke"]}, ["naval@1", "naval@2"]),
        ({"words": ["BRÜCKE", "hull"]}, ["naval@1"]),
        ({"words": ["sea"]}, ["naval@1"]),
        ({"words": ["100%_"]}, []),
        ({"words": ["medic"]}, ["team/medic@1"]),
        ({"team": "team"}, ["team/medic@1"]),
        ({"method": "lora", "rank": "<8"}, ["naval@1", "naval@2"]),
    ],
)
def test_versions_are_found_by_what_is_asked(noted, filters, found):
    assert [v.ref for v in noted.list(every=True, **filters)] == found


def test_a_former_name_is_found_too(noted):
    noted.rename("naval", "marine")
    assert [v.ref for v in noted.list(words=["naval"])] == ["marine@2"]


@pytest.mark.parametrize(
    "text", ["accuracy", ">=0.9", "accuracy>=", "accuracy>=high", "accuracy=>1", "a>=nan", ""]
)
def test_what_is_no_condition_shows_how_one_is_written(noted, text):
    with pytest.raises(BadReference, match="is not a condition") as caught:
        noted.list(metrics=[text])
    assert "accuracy>=0.9" in caught.value.fix


# ---------------------------------------------------------------- bad input

BAD_NAMES = [
    "",
    ".",
    "..",
    "a..b",
    "/a",
    "a/",
    "a/b/c",
    "a\\b",
    "a b",
    "a\tb",
    "a\nb",
    "a\x00b",
    "a\x7fb",
    "a@b",
    "a:b",
    "nаval",
    "ｎaval",
    "naval\u200b",
    "na\u0301val",
    "n" * 300,
    "team/" + "n" * 300,
    "latest",
    "sha256",
    "LATEST",
    "con",
    "team/latest",
    "-naval",
    ".naval",
    "naval.",
    "naval\u202e",
    "\ud800",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_everywhere_and_changes_nothing(filled, lora_pair, name):
    before = filled.registry.events()
    for give in (
        lambda: filled.add(lora_pair[0], name),
        lambda: filled.rename("naval", name),
        lambda: filled.alias(name, "prod", 1),
        lambda: filled.merge(["naval", "team/medic"], name=name),
    ):
        with pytest.raises(BadReference, match="is not a name"):
            give()
    assert filled.registry.events() == before


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "3",
        "v3",
        "007",
        "1.0",
        "latest",
        "Latest",
        "sha256",
        "rev",
        "a b",
        "pröd",
        "a@b",
        "a/b",
        "p" * 65,
        "prod\n",
    ],
)
def test_a_bad_alias_is_refused_everywhere(filled, lora_pair, alias):
    for give in (
        lambda: filled.alias("naval", alias, 1),
        lambda: filled.add(lora_pair[0], "other", alias=alias),
        lambda: filled.merge(["naval", "team/medic"], name="other", alias=alias),
        lambda: filled.rollback("naval", alias),
    ):
        with pytest.raises(BadReference, match="cannot be an alias"):
            give()
    assert [v.name for v in filled.list()] == ["naval", "team/medic"]


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("sha256:abc", "it needs 8 to 64"),
        ("naval@sha256:abc", "after the @"),
        ("naval@0", "after the @"),
        ("naval@-1", "after the @"),
        ("naval@03", "after the @"),
        ("naval@9999999999", "after the @"),
        ("naval@", "after the @"),
        ("naval@7", "known are"),
        ("sha256:" + "0" * 64, "no artifact with digest"),
    ],
)
def test_a_bad_reference_is_refused(filled, ref, message):
    with pytest.raises(AdaptkitError, match=message):
        filled.version(ref)


@pytest.mark.parametrize(
    "note",
    [
        {"message": "a\x00b"},
        {"tags": ["\ud800"]},
        {"metrics": {"a\x00": 1.0}},
        {"description": "\x00"},
    ],
)
def test_an_invalid_note_is_refused(filled, note):
    with pytest.raises(BadReference, match="cannot write down"):
        filled.note("naval", **note)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None, [1]])
def test_a_metric_that_is_no_finite_number_is_refused(filled, value):
    with pytest.raises(BadReference, match="a metric is a finite number"):
        filled.note("naval", metrics={"accuracy": value})


def test_a_metric_may_be_a_number_of_numpy(filled):
    noted = filled.note("naval", metrics={"accuracy": np.float32(0.5), "steps": np.int64(7)})
    assert noted.metrics == {"accuracy": 0.5, "steps": 7.0}
