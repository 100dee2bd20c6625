"""`adaptkit serve --engine vllm`: aliases are resolved before an engine that caches by name, here vLLM's twin."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import tiny
import torch
import vllm_server
from command_line import ADAPTKIT
from safetensors.torch import load_file, save_file
from servers import free_port, serving

from adaptkit import Workspace
from adaptkit.serving.engines.rules import rules_of

KEY, TEAM_KEY = "a-key-that-may-ask-everything", "a-key-of-the-medical-team"
TWIN = Path(vllm_server.__file__)


@pytest.fixture(scope="module")
def home(fleet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    second = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    with Workspace.init(folder / "home", notify=lambda _: None) as ws:
        for path in (
            fleet.adapters["naval"],
            tiny.save_adapter(fleet.base, folder / "n2", 21, **second),
        ):
            ws.add(path, "naval", base=str(fleet.base))
        blank = shutil.copytree(fleet.adapters["medic"], folder / "blank")
        untrained(blank / "adapter_model.safetensors")
        for name, path in (*fleet.adapters.items(), ("blank", blank)):
            if name in {"medic", "dora", "blank"}:
                ws.add(path, name, base=str(fleet.base))
        ws.add(fleet.adapters["medic"], "team/medic", base=str(fleet.base))
        ws.alias("naval", "prod", 1)
    (folder / "keys.toml").write_text(f'[keys]\n"{KEY}" = ["*"]\n"{TEAM_KEY}" = ["team"]\n')
    program = folder / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TWIN}" "$@"\n')
    program.chmod(0o755)
    return folder


def untrained(file):
    """Give an adapter the B factors that it has before any training."""
    tensors = {
        key: torch.zeros_like(value) if "lora_B" in key else value
        for key, value in load_file(file).items()
    }
    save_file(tensors, file, {"format": "pt"})


def command(home, fleet, port, *more):
    return [
        *(ADAPTKIT, "--home", str(home / "home" / ".adaptkit"), "serve", "--base", str(fleet.base)),
        *("--engine", "vllm", "--port", str(port), "--rank-limit", "12", "--json"),
        *("--keys", str(home / "keys.toml"), *more),
    ]


def path(home):
    return f"{home / 'bin'}:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def gateway(home, fleet):
    port = free_port()
    with serving(command(home, fleet, port), port, home / "log", start=120, PATH=path(home)) as url:
        yield url


@pytest.fixture(scope="module")
def engine(gateway, home):
    """Where the twin listens, behind the gateway."""
    text = (home / "log").read_text()
    shown, _ = json.JSONDecoder().raw_decode(text[text.index('{\n  "engine"') :])
    return f"http://127.0.0.1:{shown['command'][shown['command'].index('--port') + 1]}"


def ask(gateway, model, *, key=KEY, **more):
    body = {"model": model, "prompt": "hull 90%"} | more
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway}/v1/completions", json=body, headers=headers, timeout=60)


def until_gone(engine):
    """Ask an engine until it is away: after SIGKILL it is Linux that ends it, in its time."""
    for _ in range(10_000):
        httpx.get(f"{engine}/health")


def weights(fleet, name):
    data = (fleet.adapters[name] / "adapter_model.safetensors").read_bytes()
    return sha256(data).hexdigest()[:12]


def test_a_port_in_use_is_an_error_before_the_engine_is_started(home, fleet):
    with socket.create_server(("127.0.0.1", 0)) as other:
        line = command(home, fleet, other.getsockname()[1])
        ended = subprocess.run(
            line,
            env=os.environ | {"PATH": path(home)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 1
    assert "cannot listen on 127.0.0.1, port" in ended.stderr
    assert "engine" not in ended.stdout


def test_a_promoted_alias_counts_from_the_next_request_on(gateway, home, fleet):
    before = ask(gateway, "naval@prod")
    assert before.json()["choices"][0]["text"] == weights(fleet, "naval")
    assert before.headers["x-adaptkit-version"] == before.json()["model"] == "naval@1"
    with Workspace.open(home / "home" / ".adaptkit", notify=lambda _: None) as ws:
        ws.alias("naval", "prod", 2)
    after = ask(gateway, "naval@prod")
    assert after.headers["x-adaptkit-version"] == "naval@2"
    assert after.json()["choices"][0]["text"] not in {weights(fleet, "naval"), vllm_server.BASE}
    assert ask(gateway, "naval@1").json()["choices"] == before.json()["choices"]


def test_the_engine_is_started_with_the_next_limit_of_the_rank_that_it_knows(gateway, home):
    log = (home / "log").read_text()
    assert "vllm knows no limit of 12: it is started for ranks up to 16" in log
    assert re.search(r'"--max-lora-rank",\s+"16"', log)


def test_the_base_is_passed_on_without_an_adapter(gateway):
    made = ask(gateway, "base")
    assert made.json()["choices"][0]["text"] == vllm_server.BASE
    assert made.headers["x-adaptkit-version"] == "base"


def test_many_waiters_load_a_version_once_and_a_stream_is_passed_on(gateway, engine, fleet):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ask(gateway, "medic", stream=True), range(8)))
    for one in made:
        assert one.headers["content-type"].startswith("text/event-stream")
        assert one.headers["x-adaptkit-version"] == "medic@1"
        assert weights(fleet, "medic") in one.text
        assert one.text.endswith("data: [DONE]\n\n")
    assert httpx.get(f"{engine}/loaded").json()["loads"].count("medic@1") == 1


def test_an_engine_that_forgot_a_version_gets_it_again(gateway, engine, fleet):
    first = ask(gateway, "naval@1")
    gone = httpx.post(f"{engine}/v1/unload_lora_adapter", json={"lora_name": "naval@1"})
    assert gone.status_code == 200
    again = ask(gateway, "naval@1")
    assert again.status_code == 200
    assert again.json()["choices"] == first.json()["choices"]


def test_a_version_without_effect_is_refused_and_unloaded(gateway, engine):
    for _ in range(2):
        made = ask(gateway, "blank")
        assert made.status_code == 400
        message = made.json()["error"]["message"]
        assert message.startswith(
            "blank@1 has no effect on this base: in the engine 8 tokens have the very probabilities"
        )
        assert "train it, or name an earlier version" in message
    assert httpx.get(f"{engine}/loaded").json()["loads"].count("blank@1") == 1
    assert httpx.post(f"{engine}/v1/completions", json={"model": "blank@1"}).status_code == 404


@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        ("nvaal", 404, "no adapter called 'nvaal'"),
        ("dora", 400, "vllm 0.33 does not apply all of it: use_dora"),
        ("naval+medic=0.4", 400, "adaptkit compose --live 'naval+medic=0.4' --name NAME"),
        ("auto", 400, "it applies one adapter at a time, at its own weight"),
        ("../naval", 400, "is not the name of a registered adapter"),
    ],
)
def test_what_the_engine_must_not_get_is_refused_with_the_reason(gateway, model, status, reason):
    made = ask(gateway, model)
    assert made.status_code == status
    assert reason in made.json()["error"]["message"]


def test_keys_keep_namespaces_apart(gateway):
    assert ask(gateway, "team/medic", key=TEAM_KEY).status_code == 200
    assert ask(gateway, "naval", key=TEAM_KEY).status_code == 403
    assert ask(gateway, "naval", key="no-key-of-this-server").status_code == 401
    headers = {"Authorization": f"Bearer {TEAM_KEY}"}
    shown = httpx.get(f"{gateway}/v1/models", headers=headers).json()["data"]
    assert [model["id"] for model in shown] == ["base", "team/medic"]


def test_bad_bodies_are_refused(gateway):
    headers = {"Authorization": f"Bearer {KEY}"}
    for body, status, text in (
        (b"{", 400, "is not JSON"),
        (b'{"model": 3}', 400, "it names no model"),
        (b" " * (5 << 20), 413, "larger than"),
        (b'{"model": "base", "prompt": "x", "temperature": NaN}', 400, "is not finite"),
        (b'{"model": "base", "prompt": "x", "temperature": 1e999}', 400, "is not finite"),
    ):
        made = httpx.post(f"{gateway}/v1/completions", content=body, headers=headers)
        assert made.status_code == status
        assert text in made.json()["error"]["message"]
    half = b'{"model": "base", "prompt": "half a character: \\ud800"}'
    assert httpx.post(f"{gateway}/v1/completions", content=half, headers=headers).status_code == 200


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_engine_has_the_workspace_in_its_environment_and_ends_with_the_gateway(
    home, fleet, how
):
    port = free_port()
    with subprocess.Popen(
        command(home, fleet, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PATH": path(home)},
        text=True,
    ) as process:
        try:
            shown = ""
            while not shown.endswith("}\n"):
                shown += process.stdout.readline()
            parts = json.loads(shown)["command"]
            engine = f"http://127.0.0.1:{parts[parts.index('--port') + 1]}"
            there = httpx.get(f"{engine}/loaded").json()
            assert there["home"] == str(home / "home" / ".adaptkit")
            process.send_signal(how)
            process.wait(30)
            with pytest.raises(httpx.TransportError):
                until_gone(engine)
        finally:
            process.kill()


def test_an_engine_gets_its_own_options_and_one_without_probabilities_is_named(home, fleet):
    port, more = free_port(), {"TWIN_IS_QUIET": "1", "VLLM_PLUGINS": "ascend"}
    line = command(home, fleet, port, "--", "--seed", "7")
    with serving(line, port, home / "quiet", start=120, PATH=path(home), **more) as url:
        assert ask(url, "medic").json()["choices"][0]["text"] == weights(fleet, "medic")
        text = (home / "quiet").read_text()
        assert "medic@1: the engine gives no probabilities, so its effect is unknown" in text
        shown, _ = json.JSONDecoder().raw_decode(text[text.index('{\n  "engine"') :])
        assert shown["command"][-2:] == ["--seed", "7"]
        inner = shown["command"][shown["command"].index("--port") + 1]
        there = httpx.get(f"http://127.0.0.1:{inner}/loaded").json()
        assert (there["seed"], there["plugins"]) == ("7", "ascend,adaptkit")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--dtype", "bfloat16"], "--dtype is for adaptkit's own server: vllm takes its own"),
        (["--route-within", "3"], "--route-within is for adaptkit's own server"),
        (["naval"], "vllm loads adapters when they are asked for: leave REF out"),
    ],
)
def test_options_that_an_engine_is_not_started_with_are_refused(home, fleet, more, why):
    done = subprocess.run(
        command(home, fleet, free_port(), *more), check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert why in " ".join(done.stderr.split())


def test_an_engine_that_does_not_start_is_named(home, fleet):
    done = subprocess.run(
        command(home, fleet, free_port()),
        check=False,
        capture_output=True,
        env=os.environ | {"PATH": path(home), "TWIN_FAILS": "1"},
        text=True,
    )
    assert done.returncode == 1
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert (error["what"], error["why"]) == ("the engine ended", "its exit code is 3")


def test_the_twin_has_the_api_of_the_real_server():
    wheel = os.environ.get("ADAPTKIT_VLLM_WHEEL")
    if not wheel:
        pytest.skip(
            "pip download vllm --no-deps, unzip it, and set ADAPTKIT_VLLM_WHEEL to the folder"
        )
    found = [
        text
        for file in (Path(wheel) / "vllm").rglob("*.py")
        if "load_lora_adapter" in (text := file.read_text("utf-8", "ignore"))
        or "class LoadLoRAAdapterRequest" in text
    ]
    source = "\n".join(found)
    for route in vllm_server.ROUTES[:2]:
        assert f'"{route}"' in source
    (request,) = (text for text in found if "class LoadLoRAAdapterRequest" in text)
    assert all(f"{field}: str" in request for field in vllm_server.FIELDS)
    plain = source.replace('"\n', "").replace("  ", "").replace('"', "")
    assert vllm_server.ALREADY.split()[-1] in plain
    assert vllm_server.ADDED in plain
    (ranks,) = re.findall(
        r"^MaxLoRARanks = Literal\[(.*)\]$",
        (Path(wheel) / "vllm" / "config" / "lora.py").read_text(),
        re.MULTILINE,
    )
    listed = tuple(map(int, ranks.split(",")))
    assert listed == vllm_server.RANKS == rules_of("vllm").ranks
