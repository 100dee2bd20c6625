"""`adaptkit config`: settings are listed, read and written; a file that people wrote keeps its comments."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from adaptkit import AdaptkitError, Workspace
from adaptkit.cli.app import app


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `adaptkit config …` in a home of its own, without settings from the environment."""
    for name in ("USER", "ADAPTKIT_AUTHOR", "ADAPTKIT_REGISTRY_URL"):
        monkeypatch.delenv(name, raising=False)

    def config(*arguments):
        done = CliRunner().invoke(app, ["--home", str(tmp_path), "config", *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.stdout

    return config


def test_what_is_set_is_read_and_listed(run):
    run("set", "author", "ada")
    run("set", "protected", "prod", "release")
    run("set", "review.enable", "licence")
    run("set", "quotas.store", "200 GB")
    run("set", "remotes.team", "file:///mnt/team/")
    assert run("get", "author") == "ada\n"
    assert run("get", "protected") == "prod\nrelease\n"
    assert json.loads(run("get", "protected", "--json")) == ["prod", "release"]
    assert json.loads(run("list", "--json")) == [
        {"key": "author", "value": "ada"},
        {"key": "protected", "value": ["prod", "release"]},
        {"key": "review.enable", "value": ["licence"]},
        {"key": "remotes.team", "value": "file:///mnt/team"},
        {"key": "quotas.store", "value": "200 GB"},
    ]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("endpoints.hf", "http://ada:hush@hub.example", "http://ada:***@hub.example"),
        ("registry_url", "postgresql://ada:hush@db/x", "postgresql://ada:***@db/x"),
        ("registry_url", "postgresql://db/x?user=ada&password=hush", "password=***"),
        ("executor", "dask://ada:hush@10.0.0.1:8786", "dask://ada:***@10.0.0.1:8786"),
    ],
)
def test_a_password_is_shown_to_who_asks_for_that_setting_only(run, tmp_path, key, value, shown):
    (tmp_path / "config.toml").write_text(f'{key} = "{value}"\n')
    for text in (run("list"), run("list", "--json")):
        assert "hush" not in text
        assert shown in text
    assert run("get", key) == f"{value}\n"


def test_a_password_that_is_set_is_not_repeated(run):
    done = run("set", "endpoints.hf", "http://ada:hush@hub.example", "--json")
    assert json.loads(done)["value"] == ["http://ada:***@hub.example"]
    assert run("get", "endpoints.hf") == "http://ada:hush@hub.example\n"


def test_a_setting_is_removed_and_comments_stay(run, tmp_path):
    (tmp_path / "config.toml").write_text('# ours\nauthor = "ada"\nprotected = ["prod"] # keep\n')
    run("unset", "author")
    run("unset", "policy.file")
    assert run("get", "author") == "\n"
    assert (tmp_path / "config.toml").read_text() == '# ours\nprotected = ["prod"] # keep\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("get", "auhtor"), "no setting called 'auhtor': known are author, "),
        (("set", "polcy.file", "x"), "no setting called 'polcy.file': known are policy.file, "),
        (("set", "remotes", "x"), "no setting called 'remotes': known are remotes.NAME, "),
        (("set", "author", "x", "y"), "cannot set author to 2 values: it takes one"),
        (("set", "protected", "a b"), "cannot set protected: 'a b' cannot be an alias"),
        (("set", "remotes.team", "nowhere"), "'nowhere' is no URL: a place is behind a URL"),
        (("set", "remotes.author", "file:///x"), "cannot set remotes.author: 'author' stands in"),
    ],
)
def test_what_cannot_be_set_is_an_error_and_nothing_is_written(run, tmp_path, arguments, message):
    with pytest.raises(AdaptkitError) as caught:
        run(*arguments)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "config.toml").exists()


def test_a_misspelt_protection_stops_every_command(run, tmp_path):
    (tmp_path / "config.toml").write_text('protectd = ["prod"]\n')
    with pytest.raises(AdaptkitError, match="config.toml, line 1: .*nearest is 'protected'"):
        run("list")


def test_a_change_holds_for_the_workspace_that_made_it(tmp_path):
    with Workspace.open(tmp_path) as workspace:
        assert workspace.config.protected == ()
        workspace.set_config("protected", ["prod"])
        assert workspace.config.protected == ("prod",)
        assert workspace.get_config("protected") == ("prod",)
