"""Foreign text on a terminal: visible, on its own line, never acting; whichever command prints it."""

from __future__ import annotations

import json
import re

import pytest
from artifacts import manifest
from command_line import run
from hostile_text import acts
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adaptkit.cli.shell.inert import inert, inert_json, inert_lines
from adaptkit.types import BaseIdentity, Parent, Placement
from adaptkit_registry import Registry

HOSTILE = "ok\x1b]0;pwned\x07\x1b[2J\x1b[8mhidden \rFAKE\n  @prod: 1 → 9  forged [red]x[/red] \u202egnp.\x9b31m"


@given(st.text() | st.text(alphabet="\x1b\x07\r\n\x9b\u202e\u2028\ufeff[]/red\\ab", max_size=60))
@example(HOSTILE)
@example("\ud800")
def test_no_text_acts_on_a_terminal_or_takes_a_second_line(text):
    shown = inert(text)
    assert "\n" not in shown
    assert not acts(shown)
    assert not acts(inert_lines(text))
    assert inert_lines(text).count("\n") == text.count("\n")


def test_no_character_of_unicode_acts():
    assert [one for one in map(chr, range(0x110000)) if acts(inert(one))] == []


@given(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False)))
@example({"a": HOSTILE, "\U000e0041": "\x7f"})
def test_json_is_read_back_the_same_and_acts_on_nothing(value):
    text = inert_json(value)
    assert json.loads(text) == value
    assert not acts(text)


def test_ordinary_text_in_any_script_stays_as_it_is():
    for text in ("grüße → 9 × Σ", "日本語", "می‌خواهم", "👩‍🚀", "[red]"):
        assert inert(text) == text


def test_a_long_text_is_cut_with_its_length():
    assert inert("m" * 3_900_000, 300) == "m" * 300 + "… (3,900,000 characters)"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return tmp_path_factory.mktemp("shop")


def fill(home, text):
    """A registry in which everything that others may write is `text`."""
    home.mkdir()
    with Registry.open(home / "registry.db") as registry:
        first = manifest(
            "a",
            base=BaseIdentity(text[:100]),
            facts={
                "training": {"data": [{"label": text, "digest": text}]},
                "forced": [text],
                "loss": {"error": 0.5},
            },
        )
        registry.add_version("naval", first, message=text, author=text[:40])
        made = manifest("b", parents=(Parent(first.digest, 0.7, text[:30], text[:100]),))
        registry.add_version("naval", made, message=text, author=text[:40])
        registry.annotate("naval", 1, tags=[text[:100]], metrics={text[:100]: 1.0})
        registry.annotate("naval", 1, description=text, author=text[:40])
        registry.move_alias("naval", "prod", 2, author=text[:40])
        registry.record_placement(Placement(text[:100], 1, first.digest, "2026-01-01"))
    (home / "config.toml").write_text(
        f"author = {json.dumps(text.encode(errors='replace').decode())}\n"
        f"[remotes]\nteam = {json.dumps('file:///' + text.encode(errors='replace').decode())}\n"
    )


COMMANDS = [
    ["list"],
    ["list", "--all"],
    ["show", "naval@1"],
    ["show", "naval@2"],
    ["log", "naval"],
    ["log", "naval", "--graph"],
    ["log", "--events"],
    ["lineage", "naval"],
    ["lineage", "naval", "--mermaid"],
    ["remote", "list"],
    ["config", "list"],
    ["base", "list"],
    ["plugins"],
    ["info"],
    ["show", "TEXT"],
    ["pull", "team:TEXT"],
    ["TEXT"],
    ["list", "--rank", "TEXT"],
]

TABLES = [
    ["list"],
    ["list", "--all"],
    ["log", "--events"],
    ["remote", "list"],
    ["config", "list"],
    ["base", "list"],
    ["plugins"],
]


@given(
    text=st.text(
        alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        min_size=1,
        max_size=80,
    )
    | st.text(alphabet="\x1b\x07\r\n\x9b\u202e\u2028\ufeff[]/red\\ab", min_size=1, max_size=60)
)
@example(HOSTILE)
@settings(max_examples=6, suppress_health_check=list(HealthCheck), database=None)
def test_no_command_that_prints_lets_foreign_text_act(shop, text):
    number = len(list(shop.iterdir()))
    home = shop / str(number)
    fill(home, text.replace("\x7f", ""))
    for command in COMMANDS:
        line = [one.replace("TEXT", f"x{text}") for one in command]
        done = run(["--home", home, *line], shop)
        assert done.returncode in {0, 1, 2}
        assert "this is a bug" not in done.stderr, done.stderr
        stdout = done.stdout
        if command in TABLES:  # a pipe gets tabs between cells, and none from within one
            assert len({one.count("\t") for one in stdout.split("\n") if one}) <= 1, stdout
            stdout = stdout.replace("\t", "")
        for shown in (stdout, done.stderr):
            assert not acts(re.sub("\x1b\\[[0-9;]*m", "", shown) if "\x1b[" not in text else shown)


def test_a_line_feed_in_a_message_forges_no_line_of_the_log(tmp_path):
    fill(tmp_path / "home", HOSTILE)
    shown = run(["--home", tmp_path / "home", "log", "naval"], tmp_path).stdout
    assert r"\x0a  @prod: 1 → 9  forged" in shown
    assert not any(line.startswith("  @prod: 1 → 9") for line in shown.splitlines())
    assert "[red]x[/red]" in shown


def test_an_error_message_shows_what_a_name_hides(tmp_path):
    done = run(["--home", tmp_path / "home", "show", "na\x1b[2Jval"], tmp_path)
    assert r"'na\x1b[2Jval' is not a name" in done.stderr
    assert done.returncode == 1
