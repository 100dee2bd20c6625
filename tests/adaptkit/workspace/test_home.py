"""Where a workspace lives, and what its configuration may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptkit import AdaptkitError
from adaptkit.errors import BadReference, NotFound, StorageError
from adaptkit.workspace.context.home import Home


def test_what_is_given_comes_before_the_environment_and_that_before_the_folders_upward(
    tmp_path, monkeypatch
):
    (tmp_path / "project" / ".adaptkit").mkdir(parents=True)
    (tmp_path / "project" / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "project" / "deep")
    environment = {"ADAPTKIT_HOME": str(tmp_path / "said")}
    assert Home.find(tmp_path / "given", environment).path == tmp_path / "given"
    assert Home.find(None, environment).path == tmp_path / "said"
    assert Home.find(None, {}).path == tmp_path / "project" / ".adaptkit"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Home.find(None, {}).path == tmp_path / "data" / "adaptkit"


def test_a_home_is_made_only_when_something_is_written(tmp_path):
    home = Home(tmp_path / "home")
    assert home.read_config({}).remotes == {}
    assert not home.path.exists()
    home.set_remote("team", "file:///mnt/team")
    assert home.read_config({}).remote("team") == "file:///mnt/team"


def test_comments_and_other_settings_survive_a_change_of_remotes(tmp_path):
    home = Home(tmp_path)
    home.config_file.write_text(
        '# ours\nauthor = "ada"  # me\n\n[remotes]\nold = "file:///old" # keep\n'
    )
    home.set_remote("team", "file:///team")
    home.set_remote("absent", None)
    text = home.config_file.read_text()
    assert "# ours" in text
    assert 'author = "ada"  # me' in text
    assert 'old = "file:///old" # keep' in text
    assert home.read_config({}).remotes == {"old": "file:///old", "team": "file:///team"}


def test_the_environment_overrides_the_file(tmp_path):
    home = Home(tmp_path)
    home.config_file.write_text('author = "ada"\nregistry_url = "sqlite:///x"\n')
    assert home.read_config({"USER": "root"}).author == "ada"
    config = home.read_config(
        {"ADAPTKIT_AUTHOR": "bo", "ADAPTKIT_REGISTRY_URL": "postgresql+psycopg://host/db"}
    )
    assert (config.author, config.registry_url) == ("bo", "postgresql+psycopg://host/db")


@pytest.mark.parametrize(
    "text", ["author = ", "remotes = 3", "remotes = [1]", '[remotes]\n"a/b/c" = "x"', "\xff"]
)
def test_a_broken_configuration_is_a_sentence_and_stays_as_it_was(text, tmp_path):
    home = Home(tmp_path)
    home.config_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(AdaptkitError):
        home.read_config({})
    assert home.config_file.read_bytes() == text.encode("latin-1")


def test_names_of_remotes_are_checked_and_unknown_ones_show_the_known(tmp_path):
    home = Home(tmp_path)
    home.set_remote("team", "file:///team")
    with pytest.raises(BadReference):
        home.set_remote("../evil", "file:///x")
    with pytest.raises(StorageError, match="cannot name a remote"):
        home.set_remote("a/b", "file:///x")
    with pytest.raises(NotFound, match="no remote called 'tame': known are team"):
        home.read_config({}).remote("tame")


def test_the_policy_and_the_reviews_are_read_and_a_relative_file_is_beside_the_configuration(
    tmp_path,
):
    home = Home(tmp_path)
    assert (home.read_config({}).policy, home.read_config({}).reviews.enable) == (None, ())
    home.config_file.write_text(
        '[policy]\nfile = "../policy.toml"\n[review]\nenable = ["licence"]\ndisable = ["paths"]\n'
    )
    config = home.read_config({})
    assert config.policy == tmp_path / ".." / "policy.toml"
    assert (config.reviews.enable, config.reviews.disable) == (("licence",), ("paths",))
    assert config.reviews.on("licence", default=False)
    assert not config.reviews.on("paths", default=True)
    home.config_file.write_text('[policy]\nfile = "/etc/adaptkit/policy.toml"\n')
    assert home.read_config({}).policy == Path("/etc/adaptkit/policy.toml")


@pytest.mark.parametrize(
    "text",
    [
        'policy = "x"',
        '[policy]\nfiles = "x"',
        "[policy]\nfile = 3",
        '[review]\nenable = "licence"',
        '[review]\nenabled = ["licence"]',
        "review = 3",
        '[policy]\nfile = ""',
    ],
)
def test_a_rule_is_not_passed_over_for_a_slip_of_the_pen(text, tmp_path):
    home = Home(tmp_path)
    home.config_file.write_text(text)
    with pytest.raises(
        AdaptkitError, match="cannot read .*config.toml: .*\n  mend it: docs/signing.md"
    ):
        home.read_config({})
