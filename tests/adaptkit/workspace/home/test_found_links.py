"""A `.adaptkit/` that came with a repository cannot make a command read, write or delete anywhere else."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from command_line import checked, run

AGE = 10 * 24 * 3600


@pytest.fixture
def precious(tmp_path):
    """A user's own folder, with old files under all names that a workspace gives to its own."""
    folder = tmp_path / "precious"
    digits = "ab" + "0" * 62
    for name in ("thesis.tex", "1/thesis.tex", digits, f"ab/{digits}", f"objects/ab/{digits}"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("years of work")
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (path.stat().st_mtime - AGE,) * 2)
    return folder


@pytest.fixture
def clone(tmp_path, monkeypatch):
    folder = tmp_path / "clone"
    (folder / ".adaptkit" / "store").mkdir(parents=True)
    (folder / ".adaptkit" / "config.toml").touch()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shell(clone, tmp_path):
    user = {name: str(tmp_path / "user") for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME")}

    def call(*arguments):
        return run(list(map(str, arguments)), clone, ADAPTKIT_HOME="", **user)

    return call


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "part", ["tmp", "store", "store/tmp", "store/trash", "store/objects", "store/trees", ""]
)
def test_a_link_in_a_found_workspace_is_refused_and_nothing_behind_it_is_deleted(
    part, clone, precious, shell
):
    before, at = contents(precious), clone / ".adaptkit" / part
    if at.exists():
        shutil.rmtree(at)
    at.symlink_to(precious)
    if not part:
        (precious / "tmp").mkdir()  # what makes a folder look like a workspace
    for command in (
        ["gc", "--grace", "0s", "--trash", "0s", "--yes"],
        ["fsck", "--repair"],
        ["list"],
    ):
        done = shell(*command)
        assert done.returncode == 1
        assert f"it was only found, and {at} is a symbolic link" in done.stderr
        assert f"if it is yours, say so: adaptkit trust {clone}/.adaptkit" in done.stderr
    assert contents(precious) == before


@pytest.mark.parametrize("part", ["registry.db", "config.toml", "store/gc.lock"])
def test_a_pipe_in_a_found_workspace_is_refused_at_once(part, clone, shell):
    at = clone / ".adaptkit" / part
    at.unlink(missing_ok=True)
    os.mkfifo(at)
    done = shell("list")
    assert done.returncode == 1
    assert f"{at} is neither a file nor a folder" in done.stderr


@pytest.mark.parametrize("part", ["store/objects/ab", "store/trash/1"])
def test_gc_follows_no_link_within_the_store(part, clone, precious, shell):
    before, at = contents(precious), clone / ".adaptkit" / part
    at.parent.mkdir(parents=True)
    at.symlink_to(precious)
    checked(shell("gc", "--grace", "0s", "--trash", "0s", "--yes"))
    assert contents(precious) == before
    assert at.is_symlink()


def test_a_workspace_behind_a_link_is_used_when_it_is_named(clone, precious, shell, tmp_path):
    (tmp_path / "disk").mkdir()
    (clone / ".adaptkit" / "store").rmdir()
    (clone / ".adaptkit" / "store").symlink_to(tmp_path / "disk")
    checked(shell("--home", clone / ".adaptkit", "gc"))
    assert shell("gc").returncode == 1


@pytest.mark.parametrize("part", ["store", "store/objects", ""])
def test_a_link_that_was_trusted_counts_until_it_leads_elsewhere(part, clone, shell, tmp_path):
    at, disk = clone / ".adaptkit" / part, tmp_path / "disk"
    (disk / "tmp").mkdir(parents=True)
    if at.exists():
        shutil.rmtree(at)
    at.symlink_to(disk)
    assert shell("list").returncode == 1

    said = json.loads(checked(shell("trust", clone, "--json")).stdout)
    assert said["links"] == {str(at): str(disk)}
    assert f"{at} is trusted: it leads to {disk}" in shell("trust").stdout
    checked(shell("gc", "--yes"))

    disk.rename(tmp_path / "moved")
    disk.symlink_to(tmp_path / "moved")  # the link itself is as it was
    assert f"{at} is a symbolic link" in shell("list").stderr
    checked(shell("trust"))
    checked(shell("list"))

    assert f"{at} is not trusted" in shell("trust", clone, "--revoke").stdout
    assert shell("list").returncode == 1


def test_another_link_and_a_pipe_are_refused_beside_a_trusted_one(clone, shell, tmp_path):
    (tmp_path / "disk").mkdir()
    (clone / ".adaptkit" / "store").rmdir()
    (clone / ".adaptkit" / "store").symlink_to(tmp_path / "disk")
    checked(shell("trust"))
    checked(shell("list"))
    (clone / ".adaptkit" / "tmp").symlink_to(tmp_path)
    assert shell("gc", "--yes").returncode == 1
    (clone / ".adaptkit" / "tmp").unlink()
    os.mkfifo(tmp_path / "disk" / "gc.lock")
    for command in ("list", "trust"):
        done = shell(command)
        assert done.returncode == 1
        assert "store/gc.lock is neither a file nor a folder" in done.stderr
