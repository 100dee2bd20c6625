"""adaptkit_plugins.storage.objects.profiles: credentials from ~/.aws, where the environment has none."""

from __future__ import annotations

import pytest

from adaptkit.errors import StorageError
from adaptkit_plugins.storage.objects.profiles import profile_credentials

pytest.importorskip("botocore", reason="pip install botocore")
URL = "s3://team/naval"


@pytest.fixture
def home(tmp_path, monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def _write(home):
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = ONE\naws_secret_access_key = first\n"
        "[fleet]\naws_access_key_id = TWO\naws_secret_access_key = second\n"
    )
    (home / ".aws" / "config").write_text("[profile fleet]\nregion = eu-central-1\n")


def test_the_default_profile_and_the_named_one_are_read(home, monkeypatch):
    assert profile_credentials(URL) is None
    _write(home)
    found = profile_credentials(URL)
    assert (found()["access_key_id"], found()["secret_access_key"]) == ("ONE", "first")
    monkeypatch.setenv("AWS_PROFILE", "fleet")
    found = profile_credentials(URL)
    assert (found()["access_key_id"], found.region) == ("TWO", "eu-central-1")


def test_a_key_in_the_environment_counts_more(home, monkeypatch):
    _write(home)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "THREE")
    assert profile_credentials(URL) is None


def test_a_profile_that_is_not_there_is_named_as_the_variable(home, monkeypatch):
    _write(home)
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(StorageError, match="AWS_PROFILE or a file in"):
        profile_credentials(URL)
