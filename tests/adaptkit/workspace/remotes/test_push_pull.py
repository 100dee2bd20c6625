"""adaptkit.workspace.push_pull: what the reviews say before anything leaves."""

from __future__ import annotations

import shutil

import pytest

from adaptkit import Workspace
from adaptkit.errors import BadReference, NotFound, Refused


@pytest.fixture
def source(lora_pair, tmp_path):
    return shutil.copytree(lora_pair[0], tmp_path / "source")


def opened(tmp_path, text=""):
    home = tmp_path / "home" / ".adaptkit"
    home.mkdir(parents=True)
    (home / "config.toml").write_text(text)
    return Workspace.open(home, notify=lambda _: None)


def test_a_push_is_refused_for_each_secret_and_path_and_nothing_is_written(source, tmp_path):
    token = "hf_" + "aB3dE6gH" * 5
    (source / "README.md").write_text(f"# Naval\nlogin with {token}\ntrained in /home/ada/runs\n")
    with opened(tmp_path) as workspace:
        workspace.add(source, "naval")
        with pytest.raises(Refused) as caught:
            workspace.push("naval", (tmp_path / "team").as_uri())
    assert caught.value.what == "the push of naval@1 was refused by a plugin"
    assert "builtin-secrets: line 2 of README.md holds a Hugging Face token" in caught.value.why
    assert "builtin-paths: line 3 of README.md names the home folder of 'ada'" in caught.value.why
    assert token not in str(caught.value)
    assert not (tmp_path / "team").exists()


def test_the_configuration_switches_reviews_on_and_off(source, tmp_path):
    (source / "README.md").write_text("# Naval\ntrained in /home/ada/runs\n")
    text = '[review]\nenable = ["licence"]\ndisable = ["paths"]\n'
    with opened(tmp_path, text) as workspace:
        workspace.add(source, "naval")
        with pytest.raises(Refused, match="builtin-licence: naval@1 names no licence") as caught:
            workspace.push("naval", (tmp_path / "team").as_uri())
        assert "builtin-paths" not in str(caught.value)
        (source / "README.md").write_text("---\nlicense: mit\n---\ntrained in /home/ada/runs\n")
        (source / "tokenizer_config.json").write_text("{}")
        workspace.add(source, "naval")
        assert workspace.push("naval", (tmp_path / "team").as_uri()).receipt.number == 2


@pytest.mark.parametrize("text", ['enable = ["license"]', 'disable = ["path"]'])
def test_an_unknown_review_name_is_an_error(text, source, tmp_path):
    with opened(tmp_path, f"[review]\n{text}\n") as workspace:
        workspace.add(source, "naval")
        with pytest.raises(
            NotFound,
            match="no review in \\[review\\] of config.toml called '(license|path)': known are (licence|paths)",
        ):
            workspace.push("naval", (tmp_path / "team").as_uri())


@pytest.fixture
def published(tmp_path, lora_pair):
    """naval@1 and naval@2, of which @2 is in the remote `team`."""
    with Workspace.open(tmp_path / "home", notify=lambda _: None) as ws:
        ws.add_remote("team", f"file://{tmp_path}/team")
        ws.add(lora_pair[0], "naval")
        ws.add(lora_pair[1], "naval", new_version=True)
        ws.push("naval@2", "team")
        yield ws


def test_pushing_an_older_version_is_refused_until_it_is_decided_what_is_latest(published):
    with pytest.raises(Refused, match="naval@1 is older than the latest in .*/team/naval") as error:
        published.push("naval@1", "team")
    assert error.value.why == "@2 there is naval@2, and this would get a higher number"
    assert error.value.fix.startswith("--yes pushes it and leaves the latest as it is; --as-latest")
    assert published.push("naval@1", "team", older="keep-latest").receipt.number == 3
    place, _ = published.places.to_pull("team:naval")
    assert (place.version().number, place.version(3).latest) == (2, False)
    assert published.list(words=["team:"])[0].number == 2
    assert published.push("naval@1", "team").receipt.unchanged


def test_an_older_version_can_become_the_latest_and_a_pull_says_that_it_goes_back(
    published,
):
    heard = []
    published.notify = heard.append
    published.pull("team:naval")
    assert heard == []
    published.push("naval@1", "team", older="as-latest")
    assert published.pull("team:naval").version.ref == "naval@1"
    assert heard[-1].endswith("@3, is naval@1 here, which is older than naval@2")


def test_what_is_typed_in_the_wrong_place_is_named_with_the_command_to_type(source, tmp_path):
    team = tmp_path / "team"
    with opened(tmp_path, f'[remotes]\nteam = "{team.as_uri()}"\n') as workspace:
        workspace.add(source, "naval")
        with pytest.raises(BadReference, match="the adapter comes first") as caught:
            workspace.push_to_all("team", ["naval"])
        assert caught.value.fix == "adaptkit push naval team"
        with pytest.raises(BadReference, match="is a path: a pull names a URL") as caught:
            workspace.pull(str(team / "naval"))
        assert f"adaptkit pull {team.as_uri()}/naval" in caught.value.fix


def test_a_rebuild_from_where_nothing_is_says_so(tmp_path):
    nowhere = (tmp_path / "taem").as_uri()
    with opened(tmp_path) as workspace:
        said = []
        workspace.notify = said.append
        assert workspace.rebuild(nowhere) == ()
    assert said == [f"no version is in {nowhere}: check it for a typo"]
