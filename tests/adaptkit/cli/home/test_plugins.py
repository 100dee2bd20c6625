"""`adaptkit plugins` and `plugins doctor`: what is installed, what is wrong with it, what to type next."""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points

import pytest
from scratch import BROKEN, EVERYTHING

from adaptkit.cli.plugins import as_json, fix, is_broken, rows
from adaptkit.plugin.record import PluginRecord

GOOD = PluginRecord(
    "good", "acme", "1.0", "loaded", {"strategies": ("a", "b"), "hooks": ("review",)}
)
OFF = PluginRecord("off", "acme", "1.0", "disabled", {}, "in ADAPTKIT_DISABLE_PLUGINS")
CLASH = PluginRecord(
    "clash", "acme", "1.0", "loaded", {"methods": ("m",)}, "the method 'm' is claimed by z too"
)
DEAD = PluginRecord("dead", "acme", "1.0", "failed", {}, "ImportError: no x")
STRAY = PluginRecord("stray", "", "", "failed", {}, "ImportError: no x")


def test_a_row_says_what_was_registered_or_why_not():
    assert rows([GOOD, CLASH, DEAD]) == [
        ("good", "acme", "1.0", "loaded", "strategies: a, b; hooks: review"),
        ("clash", "acme", "1.0", "loaded", "methods: m; the method 'm' is claimed by z too"),
        ("dead", "acme", "1.0", "failed", "ImportError: no x"),
    ]


def test_json_holds_every_field_and_only_json():
    assert (
        json.loads(json.dumps(as_json(GOOD)))
        == as_json(GOOD)
        == {
            "plugin": "good",
            "distribution": "acme",
            "version": "1.0",
            "status": "loaded",
            "registered": {"strategies": ["a", "b"], "hooks": ["review"]},
            "reason": "",
        }
    )


def test_what_is_broken_has_something_to_type_and_the_rest_has_not():
    assert [is_broken(record) for record in (GOOD, OFF, CLASH, DEAD)] == [False, False, True, True]
    assert (fix(GOOD), fix(OFF)) == ("", "")
    assert fix(DEAD) == "pip install -U acme, or ADAPTKIT_DISABLE_PLUGINS=dead goes on without it"
    assert fix(CLASH) == "pip install -U acme, or ADAPTKIT_DISABLE_PLUGINS=clash goes on without it"
    assert fix(STRAY) == "ADAPTKIT_DISABLE_PLUGINS=stray goes on without it"


# ---------------------------------------------------------------- in an environment full of broken plugins


def test_the_list_works_with_every_plugin_broken(scratch):
    done = scratch.adaptkit("plugins")
    assert done.returncode == 0
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert {len(line) for line in lines} == {5}
    found = {line[0]: tuple(line[1:4]) for line in lines}
    assert found["good"] == ("acme-good", "1.2", "loaded")
    assert {found[name][2] for name in BROKEN} == {"failed"}
    assert "methods: good-method; backends: good, goods;" in done.stdout
    assert "ModuleNotFoundError: No module named 'a_library_that_is_not_there'" in done.stdout


def test_the_list_works_with_nothing_but_broken_plugins(scratch):
    whole = sorted(
        {
            *EVERYTHING,
            *(
                point.name
                for point in entry_points(group="adaptkit")
                if point.name.startswith("builtin-")
            ),
        }
    )
    off = ",".join(name for name in whole if name not in BROKEN)
    found = json.loads(scratch.adaptkit("plugins", "--json", ADAPTKIT_DISABLE_PLUGINS=off).stdout)
    assert sorted(record["plugin"] for record in found if record["status"] == "failed") == sorted(
        BROKEN
    )
    assert [record["plugin"] for record in found if record["status"] == "loaded"] == []


def test_doctor_says_what_is_wrong_and_what_to_type_and_exits_with_1(scratch):
    done = scratch.adaptkit("plugins", "doctor")
    assert done.returncode == 1
    warnings = dict(re.findall(r"^warning: (\S+): (.*)$", done.stderr, re.MULTILINE))
    assert sorted(warnings) == sorted([*BROKEN, "first", "second", "commander"])
    assert "'linear2' is claimed by second too" in warnings["first"]
    assert warnings["commander"] == "the command 'merge' exists already, so its own was left out"
    assert (
        "\n  pip install -U acme-broken, or ADAPTKIT_DISABLE_PLUGINS=broken goes on without it\n"
        in done.stderr
    )


def test_what_doctor_says_to_type_makes_it_well(scratch):
    found = json.loads(scratch.adaptkit("plugins", "doctor", "--json").stdout)
    advice = [re.search(r"ADAPTKIT_DISABLE_PLUGINS=(\S+)", record["fix"]) for record in found]
    off = ",".join(match[1] for match in advice if match)
    done = scratch.adaptkit("plugins", "doctor", "--json", ADAPTKIT_DISABLE_PLUGINS=off)
    assert done.returncode == 0, done.stderr
    well = {record["plugin"]: record for record in json.loads(done.stdout)}
    assert {well[name]["status"] for name in off.split(",")} == {"disabled"}
    assert {record["fix"] for record in well.values()} == {""}
    assert "every plugin is well" in done.stderr


def test_doctor_notices_a_misspelt_switch(scratch):
    done = scratch.adaptkit("plugins", "doctor", ADAPTKIT_DISABLE_PLUGINS="goood")
    assert (
        "warning: ADAPTKIT_DISABLE_PLUGINS names 'goood', and no plugin is called that"
        in done.stderr
    )


@pytest.mark.parametrize("command", [("plugins", "--json"), ("plugins", "doctor", "--json")])
def test_stdout_holds_only_json(scratch, command):
    found = json.loads(scratch.adaptkit(*command).stdout)
    assert {"plugin", "distribution", "version", "status", "registered", "reason"} <= set(found[0])
    assert {record["distribution"] for record in found} >= {
        "adaptkit-peft",
        "acme-source",
        "acme-editable",
    }
    assert len(found) >= len(EVERYTHING)
