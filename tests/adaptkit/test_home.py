"""Where a workspace lives, and what its configuration may say."""

from __future__ import annotations

import pytest

from adaptkit import AdaptkitError
from adaptkit.errors import BadReference, NotFound, StorageError
from adaptkit.home import Home


def test_what_is_given_comes_before_the_environment_and_that_before_the_folders_upward(tmp_path, monkeypatch):
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
    home.config_file.write_text('# ours\nauthor = "ada"  # me\n\n[remotes]\nold = "file:///old" # keep\n')
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
    config = home.read_config({"ADAPTKIT_AUTHOR": "bo", "ADAPTKIT_REGISTRY_URL": "postgresql+psycopg://host/db"})
    assert (config.author, config.registry_url) == ("bo", "postgresql+psycopg://host/db")


@pytest.mark.parametrize("text", ["author = ", "remotes = 3", "remotes = [1]", '[remotes]\n"a/b/c" = "x"', "\xff"])
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
