"""The one error boundary: what was done is reported as done, and no library's own kind of error gets by."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import click
import pytest
from command_line import ADAPTKIT, run

from adaptkit.cli.shell.session import Session


def shell(script, folder, **environment):
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=240,
        env=os.environ
        | {"adaptkit": str(ADAPTKIT), "ADAPTKIT_HOME": str(folder / "home")}
        | environment,
    )


def test_a_full_stdout_is_told_apart_from_work_that_failed(tmp_path):
    done = shell("$adaptkit config set author ada; $adaptkit config list > /dev/full", tmp_path)
    assert done.returncode == 74
    assert b"was carried out, but its result could not be written: No space left" in done.stderr
    assert b"bug" not in done.stderr


def test_a_closed_stdout_and_a_reader_that_left_are_no_failures(tmp_path):
    done = shell(
        "$adaptkit config set author ada; $adaptkit config list >&- ; echo closed $?;"
        " $adaptkit config list | true; echo list ${PIPESTATUS[0]};"
        " $adaptkit --help | true; echo help ${PIPESTATUS[0]}",
        tmp_path,
    )
    assert done.stdout.decode().split() == ["closed", "0", "list", "0", "help", "0"]
    assert b"rror" not in done.stderr


def test_what_an_encoding_lacks_is_written_as_an_escape(tmp_path):
    done = shell(
        "mkdir home; $adaptkit config get author",
        tmp_path,
        PYTHONIOENCODING="cp1252",
        ADAPTKIT_AUTHOR="grüße → 日",
    )
    assert done.returncode == 0
    assert done.stdout.decode("cp1252") == "grüße \\u2192 \\u65e5\n"


class PanicException(BaseException):
    pass


@pytest.mark.parametrize(
    ("raised", "code", "shown"),
    [
        (PanicException("called `Result::unwrap()`"), 1, "PanicException: called"),
        (GeneratorExit(), 1, "GeneratorExit"),
        (SystemExit(3), 3, ""),
        (SystemExit("no"), 1, ""),
        (ConnectionResetError(104, "gone"), 1, "ConnectionResetError"),
        (BrokenPipeError(32, "a socket's"), 1, "BrokenPipeError"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_a_command_raises_ends_with_a_message_and_a_true_exit_code(
    tmp_path, monkeypatch, raised, code, shown
):
    @click.command()
    def explode():
        raise raised

    monkeypatch.setattr(
        Session, "add_plugin_commands", lambda self, cli: cli.add_command(explode, "explode")
    )
    done = run(["explode"], tmp_path)
    assert done.returncode == code
    assert shown in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "line", [["export", "naval"], ["demo"], ["diff", "naval"], ["add", "--name", "x"]]
)
def test_a_path_that_no_file_system_takes_is_an_error_message_not_a_bug(line, tmp_path):
    done = run([*line, f"./{'o' * 5000}/x"], tmp_path, ADAPTKIT_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    assert "this is a bug" not in done.stderr
    assert len(done.stderr) < 12_000


def test_the_error_of_a_path_names_it_cut(tmp_path, monkeypatch):
    @click.command()
    def explode():
        Path("o" * 5000).is_dir()

    monkeypatch.setattr(
        Session, "add_plugin_commands", lambda self, cli: cli.add_command(explode, "explode")
    )
    done = run(["explode"], tmp_path)
    assert done.returncode == 1
    assert f"error: cannot use {'o' * 200}: File name too long" in done.stderr
    assert "  give another path" in done.stderr
