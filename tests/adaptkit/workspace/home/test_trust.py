"""A configuration that was merely found decides nothing until the user trusted this very content."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest
from command_line import ADAPTKIT, run
from keypairs import key_pair

from adaptkit.errors import NotFound
from adaptkit.workspace.context.context import Context
from adaptkit.workspace.context.home import Home
from adaptkit.workspace.context.signatures import policy
from adaptkit.workspace.context.trust import Decisions

HOSTILE = """\
author = "mallory"
registry_url = "sqlite:////tmp/elsewhere.db"
protected = ["prod"]

[endpoints]
hf = "http://127.0.0.1:5700"

[policy]
file = "weak.toml"

[review]
disable = ["secrets"]

[remotes]
team = "file:///mnt/team"
"""
SETS = ("author", "registry_url", "policy", "review.disable", "endpoints")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A cloned repository with a `.adaptkit/` of its own, and this user's folders."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")  # the author falls back on git's
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    folder = tmp_path / "clone"
    (folder / ".adaptkit").mkdir(parents=True)
    (folder / ".adaptkit" / "config.toml").write_text(HOSTILE)
    monkeypatch.chdir(folder)
    return folder


def found():
    return Home.find(None, {}).read_config({"USER": "me"})


def test_a_found_file_sets_no_server_database_author_policy_or_review(clone):
    config = found()
    assert (config.endpoints, config.registry_url, config.author) == ({}, "", "me")
    assert (config.policy, config.reviews.disable) == (None, ())
    assert config.withheld == SETS
    assert config.remotes == {"team": "file:///mnt/team"}
    assert config.protected == ("prod",)


def test_the_users_own_policy_and_endpoints_stay_in_force(clone, tmp_path):
    own = tmp_path / "data" / "adaptkit"
    own.mkdir(parents=True)
    (own / "config.toml").write_text(
        'author = "ada"\n[endpoints]\nhf = "https://hub.example"\n[policy]\nfile = "mine.toml"\n'
    )
    config = found()
    assert (config.author, config.policy) == ("ada", own / "mine.toml")
    assert config.endpoints == {"hf": "https://hub.example"}


def test_trust_is_for_this_content_only_and_can_be_revoked(clone):
    done = run(["trust", "."], clone)
    assert "is trusted: it sets author, registry_url, policy" in done.stdout
    assert found().endpoints == {"hf": "http://127.0.0.1:5700"}
    run(["trust", ".", "--revoke"], clone)
    assert found().endpoints == {}
    run(["trust", "."], clone)
    (clone / ".adaptkit" / "config.toml").write_text(HOSTILE + "# another commit\n")
    assert found().endpoints == {}
    assert Decisions.of_user().file.stat().st_mode & 0o777 == 0o600


def test_a_changed_policy_file_has_to_be_trusted_again(clone):
    (clone / ".adaptkit" / "weak.toml").write_text("require = true\n")
    run(["trust", "."], clone)
    assert found().policy == clone / ".adaptkit" / "weak.toml"
    (clone / ".adaptkit" / "weak.toml").write_text("require = false\n")
    assert found().policy is None


def test_a_changed_key_of_a_policy_has_to_be_trusted_again(clone):
    """The policy names the file of a key: whoever changes that file says who may sign."""
    (clone / ".adaptkit" / "weak.toml").write_text('[keys]\nada = "ada.pub"\n')
    (clone / ".adaptkit" / "ada.pub").write_text("the key of ada")
    run(["trust", "."], clone)
    assert found().policy
    (clone / ".adaptkit" / "ada.pub").write_text("the key of mallory")
    assert found().policy is None
    (clone / ".adaptkit" / "ada.pub").unlink()
    assert found().policy is None


def test_what_was_judged_is_what_is_used_though_the_files_change_between(clone):
    """Between the look at a file and its use, whoever may write there could exchange it."""
    ada, mallory = (key_pair(clone, name) for name in ("ada", "mallory"))
    public = clone / ".adaptkit" / "ada.pub"
    public.write_bytes(ada.public.read_bytes())
    (clone / ".adaptkit" / "weak.toml").write_text('[keys]\nada = "ada.pub"\n')
    run(["trust", "."], clone)
    with Context(Home.find(None, {})) as context:
        assert context.config.policy
        public.write_bytes(mallory.public.read_bytes())
        (clone / ".adaptkit" / "weak.toml").write_text("require = false\n")
        rules = policy(context)
    assert rules.require
    assert rules.keys == {"ada": ada.fingerprint}


def test_a_file_that_is_named_by_the_user_counts(clone, monkeypatch):
    assert Home.find(clone / ".adaptkit", {}).read_config({}).author == "mallory"
    assert Home.find(None, {"ADAPTKIT_HOME": str(clone / ".adaptkit")}).read_config({}).endpoints


def test_what_the_user_writes_into_a_found_file_counts(clone):
    (clone / ".adaptkit" / "config.toml").unlink()
    run(["config", "set", "author", "bob"], clone)
    assert found().author == "bob"


def test_writing_a_remote_into_an_untrusted_file_does_not_trust_it(clone):
    run(["remote", "add", "other", "file:///mnt/other"], clone)
    config = found()
    assert "other" in config.remotes
    assert config.withheld == SETS


def test_the_warning_names_the_settings_and_what_to_type(clone):
    done = run(["config", "list"], clone)
    assert "may not set author, registry_url, policy, review.disable, endpoints" in done.stderr
    assert f"adaptkit trust {clone}" in done.stderr


def test_nothing_to_trust_is_an_error_message(clone, workspace):
    with pytest.raises(NotFound, match=r"no configuration called .*nowhere"):
        workspace.trust(clone / "nowhere")


def test_a_person_at_a_terminal_is_asked_once(clone):
    for given, asked in ((b"n\n", True), (b"y\n", False)):
        parent, child = pty.openpty()
        os.write(parent, given)
        done = subprocess.run(
            [ADAPTKIT, "config", "list"],
            stdin=child,
            stdout=subprocess.PIPE,
            stderr=child,
            cwd=clone,
            timeout=120,
            check=False,
            env={k: v for k, v in os.environ.items() if k != "ADAPTKIT_HOME"},
        )
        shown = os.read(parent, 65536).decode()
        os.close(parent)
        os.close(child)
        assert ("trust it" in shown) is asked
        assert done.returncode == 0
        assert b"5700" not in done.stdout
    (entry,) = json.loads(Decisions.of_user().file.read_text()).values()
    assert entry["trusted"] is False
