"""adaptkit's command line as a test types it: in this process through `main`, or as a process of its own.

In-process is the same code from the arguments to the exit code, without half a second of imports for each command.
What is about the process itself (what is imported, a kill, a pipe, the shell's environment) starts a real one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Sequence

ADAPTKIT = Path(sys.executable).with_name("adaptkit")


def run(
    arguments: Sequence[object], cwd: Path, given: str = "", **environment: str
) -> CompletedProcess[str]:
    """Run one command here: its exit code, and what it wrote to stdout and stderr."""
    from adaptkit.cli import main

    stdin = TextIOWrapper(BytesIO(given.encode()), encoding="utf-8")
    stdout, stderr = (
        TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)
    )
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, environment))
        stack.enter_context(chdir(cwd))
        stack.enter_context(patch.object(sys, "stdin", stdin))
        stack.enter_context(redirect_stdout(stdout))
        stack.enter_context(redirect_stderr(stderr))
        line = [str(argument) for argument in arguments]
        code = main(line)
    return CompletedProcess(line, code, _text(stdout), _text(stderr))


def run_process(
    arguments: Sequence[object], cwd: Path, given: str = "", **environment: str
) -> CompletedProcess[str]:
    """The same in a process of its own, started through the installed script."""
    return subprocess.run(
        [ADAPTKIT, *map(str, arguments)],
        cwd=cwd,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def typed(script: str, cwd: Path, **environment: str) -> CompletedProcess[str]:
    """The lines of a page: bash reads each word for word, and what it calls as `adaptkit` runs in this process.

    Stops at the first line that fails, as `bash -e` does.
    """
    whole = CompletedProcess[str](script, 0, "", "")
    for line in script.splitlines():
        done, calls = _read_by_bash(line, cwd, environment)
        for one in (done, *(run(words, cwd, **environment) for words in calls)):
            whole.stdout += one.stdout
            whole.stderr += one.stderr
            if one.returncode:
                whole.returncode = one.returncode
                return whole
    return whole


def typed_in_processes(script: str, cwd: Path, **environment: str) -> CompletedProcess[str]:
    """The same with a process for each command, as people type them."""
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def _read_by_bash(
    line: str, cwd: Path, environment: dict[str, str]
) -> tuple[CompletedProcess[str], list[list[str]]]:
    """Run a line in which `adaptkit` only writes down its words; what else stands there is really run."""
    read, write = os.pipe()
    with os.fdopen(read, encoding="utf-8") as words:
        note = f'adaptkit() {{ printf \'%s\\0\' "$#" "$@" >&{write}; }}'
        done = subprocess.run(
            ["bash", "-euc", f"{note}\n{line}"],
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | environment,
            pass_fds=[write],
        )
        os.close(write)
        noted = iter(words.read().split("\0")[:-1])
    return done, [[next(noted) for _ in range(int(count))] for count in noted]


def _text(stream: TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, BytesIO)
    return buffer.getvalue().decode()


class Shell:
    """Runs adaptkit in a folder with a workspace of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / ".adaptkit"

    def run(
        self, *arguments: object, code: int = 0, given: str = "", **environment: str
    ) -> CompletedProcess[str]:
        environment = {"ADAPTKIT_HOME": str(self.home)} | environment
        return checked(run(arguments, self.folder, given, **environment), code)

    def json(self, *arguments: object, **environment: str) -> Any:
        return json.loads(self.run(*arguments, "--json", **environment).stdout)

    def refused(self, *arguments: object, **environment: str) -> str:
        """The error message of a refusal: exit code 1, nothing on stdout."""
        done = self.run(*arguments, code=1, **environment)
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        return done.stderr


def checked(done: CompletedProcess[str], code: int = 0) -> CompletedProcess[str]:
    """It ended with that code, and with no traceback."""
    assert done.returncode == code, f"{done.args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done
