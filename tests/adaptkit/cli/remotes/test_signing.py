"""sign and verify from the shell; docs/signing.md word for word."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import command_line
import pytest
from command_line import checked, typed, typed_in_processes
from keypairs import key_pair

PAGE = (Path(__file__).parents[4] / "docs" / "signing.md").read_text()
BIN = Path(sys.executable).parent


@pytest.fixture
def project(tmp_path, lora_pair):
    shutil.copytree(lora_pair[0], tmp_path / "out" / "naval")
    run(tmp_path, "init")
    return tmp_path


def run(folder, *arguments, code=0, given="", **environment):
    environment = {"ADAPTKIT_HOME": str(folder / ".adaptkit")} | environment
    return checked(command_line.run(arguments, folder, given, **environment), code)


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed: apt-get install -y openssl"
)
@pytest.mark.parametrize("typed", [typed, pytest.param(typed_in_processes, marks=pytest.mark.soak)])
def test_the_commands_of_the_page_work_word_for_word(typed, project):
    policy, configuration, reviews = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (project / "policy.toml").write_text(policy)
    script = "\n".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)).replace(
        "/mnt/team", f"{project}/team"
    )
    script = script.replace("pip install 'adaptkit-peft[sign]'\n", "")
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ADAPTKIT_HOME": str(project / ".adaptkit"),
    }
    done = typed(script, project, **environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"naval@1  signed by sha256:", done.stdout)
    assert re.search(
        rf"file://{project}/team/naval@1  sha256:\w+…  signed by ada.pub \(sha256:", done.stdout
    )
    assert re.search(r"naval@1  sha256:\w+…  signed by ada \(sha256:", done.stdout)
    (project / ".adaptkit" / "config.toml").write_text(
        f"{configuration.replace('policy.toml', '../policy.toml')}\n{reviews}"
    )
    run(project, "pull", f"file://{project}/team/naval")
    assert (
        "names no licence"
        in run(project, "push", "naval", f"file://{project}/other", code=1).stderr
    )
    (sh,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    line = sh.replace("v3", "team/naval/v1")
    done = typed_in_processes(line, project, **environment)
    assert done.returncode == 0, done.stderr


def test_json_shows_who_signed_and_what_was_new(project):
    pair = key_pair(project, "ada")
    run(project, "add", "out/naval", "--name", "naval")
    first, again = (
        json.loads(run(project, "sign", "naval", "--key", "ada.pem", "--json").stdout)
        for _ in range(2)
    )
    assert (first["ref"], first["fingerprint"], first["created"], again["created"]) == (
        "naval@1",
        pair.fingerprint,
        True,
        False,
    )
    assert "signed already" in run(project, "sign", "naval", "--key", "ada.pem").stdout
    found = json.loads(run(project, "verify", "naval", "--key", "ada.pub", "--json").stdout)
    assert found == first | {"key": "ada.pub", "created": False}


def test_a_refusal_is_one_error_message_and_exit_1(project):
    key_pair(project, "ada")
    run(project, "add", "out/naval", "--name", "naval")
    done = run(project, "verify", "naval", "--key", "ada.pub", code=1)
    assert done.stdout == ""
    assert done.stderr.startswith(
        "error: naval@1 is not signed: --key ada.pub wants a signature of 'naval' by ada.pub\n  ask who"
    )


@pytest.mark.parametrize(
    "arguments", [["--key", "ada.pub"], ["naval", "--key", "a", "--policy", "b"]]
)
def test_verify_takes_one_reference_and_one_demand(arguments, project):
    assert (
        "give one REF, and either --policy or --key"
        in run(project, "verify", *arguments, code=2).stderr
    )


def test_the_password_is_asked_for_or_in_the_environment_and_never_shown(project):
    key_pair(project, "ada", password=b"aye-aye-captain")
    run(project, "add", "out/naval", "--name", "naval")
    done = run(
        project,
        "sign",
        "naval",
        "--key",
        "ada.pem",
        code=1,
        ADAPTKIT_KEY_PASSWORD="nay-nay-captain",
    )
    assert "the password is missing or is not the right one" in done.stderr
    assert "captain" not in done.stdout + done.stderr
    done = run(
        project, "sign", "naval", "--key", "ada.pem", ADAPTKIT_KEY_PASSWORD="aye-aye-captain"
    )
    assert "captain" not in done.stdout + done.stderr
    assert "captain" not in "".join(
        path.read_text(errors="replace")
        for path in (project / ".adaptkit").rglob("*")
        if path.is_file()
    )


def test_help_push_and_pull_without_a_policy_import_no_cryptography(project):
    run(project, "add", "out/naval", "--name", "naval")
    code = (
        "import sys; from adaptkit.cli import main; main(['sign', '--help']); main(['push', 'naval', sys.argv[1]]); main(['pull', sys.argv[1]]); "
        "print(sorted({'cryptography', 'model_signing'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, (project / "team" / "naval").as_uri()],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"ADAPTKIT_HOME": str(project / ".adaptkit")},
    )
    assert "unchanged" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
