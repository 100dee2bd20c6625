"""A server that is killed, restarted, promoted under, and handed what cannot be served."""

from __future__ import annotations

import json
import resource
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
import tiny
import torch
from adaptkit_server import adaptkit_server
from documented import check
from safetensors.torch import load_file, save_file

from adaptkit import Workspace

pytestmark = pytest.mark.long
PROMPT = "hull 90%. status?"
HELD = {"naval": 1, "medic": 3, "ship@1": 2}
"""How often each is asked for before the server is killed."""


@pytest.fixture(scope="module")
def home(fleet, served_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lifecycle")
    with Workspace.init(folder / "other", notify=lambda _: None) as ws:
        ws.add(fleet.adapters["polite"], "lent", base=str(served_base))
        ws.push("lent", f"file://{folder}/team/lent")
    with Workspace.init(folder / "home", notify=lambda _: None) as ws:
        for name in ("naval", "medic", "polite", "cargo"):
            ws.add(fleet.adapters[name], name, base=str(served_base))
        ws.add(fleet.adapters["naval"], "ship", base=str(served_base), alias="prod")
        ws.add(fleet.adapters["polite"], "ship", base=str(served_base), new_version=True)
        ws.add(prompts(served_base, folder / "prompts"), "prompts", base=str(served_base))
        ws.add(untrained(served_base, folder / "blank"), "blank", base=str(served_base))
        ws.push("medic", f"file://{folder}/place/medic")
        ws.add_remote("team", f"file://{folder}/team")
        for name in ("medic", "cargo"):
            poison(ws, name)
        return ws.home.path


def prompts(base, folder):
    """An adapter of a method that the bank cannot serve."""
    from peft import PromptTuningConfig, get_peft_model
    from transformers import LlamaForCausalLM

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    tiny.save(get_peft_model(LlamaForCausalLM.from_pretrained(base), config), folder)
    return folder


def untrained(base, folder):
    """An adapter whose B factors are zero."""
    tiny.save_adapter(base, folder, seed=5, r=2, target_modules=["q_proj"])
    file = folder / "adapter_model.safetensors"
    zero = {k: torch.zeros_like(v) if "lora_B" in k else v for k, v in load_file(file).items()}
    save_file(zero, file, {"format": "pt"})
    return folder


def poison(workspace, name):
    """Turn a bit of an artifact's weights around in the store."""
    manifest = workspace.registry.manifest(workspace.version(name).digest)
    (sha256,) = (e.sha256 for e in manifest.files if e.path == "adapter_model.safetensors")
    file = workspace.store.root / "objects" / sha256[:2] / sha256
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.fixture(scope="module")
def server(home, served_base):
    options = ("naval", "--slots", "3", "--memory", "60MB")
    with adaptkit_server(home, served_base, *options, log=home.parent / "log", forked=True) as made:
        yield made


@pytest.fixture(scope="module")
def expected(fleet, served_base):
    """What each request alone gives: PEFT's greedy tokens, as text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(served_base)
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]])
    kept = {}

    def text(name):
        if name not in kept:
            with torch.no_grad():
                made = fleet.alone(name).generate(
                    input_ids=ids, max_new_tokens=8, do_sample=False, pad_token_id=0
                )
            new = made[0, ids.shape[1] :].tolist()
            end = new.index(2) if 2 in new else len(new)
            kept[name] = tokenizer.decode(new[:end], skip_special_tokens=True)
        return kept[name]

    return text


def ask(server, model, **how):
    body = {"model": model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0} | how
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=120)


def text_of(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["text"]


def test_the_plan_is_printed_before_the_server_starts(server):
    plan = check("serve", server.printed)["plan"]
    assert plan["slots"] == 3
    assert plan["used"] <= plan["memory"] == 60_000_000
    lines = server.log.read_text().splitlines()
    assert any(json.loads(line)["note"].startswith("60.0 MB for base, ") for line in lines[:1])
    page = httpx.get(f"{server.url}/metrics", timeout=60).text
    assert f"adaptkit_device_bytes {(plan['slots'] + 1) * plan['slot']}\n" in page


def test_a_poisoned_blob_is_fetched_again_or_refused(server, expected):
    assert text_of(ask(server, "medic")) == expected("medic")
    refused = ask(server, "cargo")
    assert refused.status_code == 503
    assert "is damaged" in refused.json()["error"]["message"]
    assert text_of(ask(server, "naval")) == expected("naval")


def test_what_a_remote_has_is_pulled_on_its_first_use(server, home, expected):
    for _ in range(2):
        reply = ask(server, "team:lent")
        assert text_of(reply) == expected("polite")
        assert reply.headers["x-adaptkit-version"] == "lent@1"
    with Workspace.open(home, notify=lambda _: None) as ws:
        assert ws.version("lent").origin == "pulled"
    unknown = ask(server, "team:nvaal")
    assert (unknown.status_code, "nvaal" in unknown.text) == (404, True)
    assert ask(server, "elsewhere:lent").status_code == 404


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("blank", "blank@1 has no effect on this base: 8 tokens have the very logits of the base"),
        ("prompts", "cannot serve prompts@1: adaptkit does not combine PROMPT_TUNING"),
    ],
)
def test_what_has_no_effect_or_no_way_is_refused_by_name(server, model, message):
    refused = ask(server, model)
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]


def test_a_negative_weight_takes_an_update_away(server, expected):
    taken = ask(server, "naval=-0.5")
    assert taken.headers["x-adaptkit-version"] == "naval@1=-0.5"
    assert text_of(ask(server, "naval+ship@2=-0")) == expected("naval")


def test_a_promoted_alias_never_mixes_two_versions_in_one_result(server, home, expected):
    wanted = {"ship@1": expected("naval"), "ship@2": expected("polite")}
    assert wanted["ship@1"] != wanted["ship@2"]
    done, moves = threading.Event(), 0

    def promote():
        nonlocal moves
        with Workspace.open(home, notify=lambda _: None) as ws:
            while not done.is_set():
                ws.alias("ship", "prod", 2 - moves % 2)
                moves += 1

    mover = threading.Thread(target=promote)
    mover.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(lambda _: ask(server, "ship@prod"), range(60)))
    finally:
        done.set()
        mover.join()
    assert {reply.headers["x-adaptkit-version"] for reply in replies} == set(wanted)
    for reply in replies:
        assert text_of(reply) == wanted[reply.headers["x-adaptkit-version"]]
    assert moves > 2


def test_many_idle_connections_do_not_keep_others_out(server, expected):
    count = 2000  # `test_many_connections` opens more
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 200:
        pytest.skip(f"ulimit -Hn {count + 200} (it is {hard})")
    host, port = server.url.removeprefix("http://").split(":")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
    try:
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            assert text_of(ask(server, "naval")) == expected("naval")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert httpx.get(f"{server.url}/healthz", timeout=60).json()["status"] == "ok"


def test_a_declared_body_of_100_mb_is_refused_before_it_is_sent(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n{"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_without_an_end_ends_the_connection(server):
    """Also when it is refused at once: what follows a refusal would be read for ever."""
    host, port = server.url.removeprefix("http://").split(":")
    piece = b"%x\r\n%s\r\n" % (1 << 20, bytes(1 << 20))  # of 200
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        with pytest.raises(ConnectionError):
            connection.sendall(piece * 200)


def test_a_killed_server_loses_nothing_and_starts_with_what_was_popular(
    home, served_base, expected, tmp_path
):
    file = home / "serving.json"
    with Workspace.open(home, notify=lambda _: None) as ws:
        medic = ws.version("medic").digest
        before = set(ws.fsck().findings)  # of cargo, and of what is not fetched again yet
    with adaptkit_server(home, served_base, "naval", log=tmp_path / "log", forked=True) as first:
        for name, times in HELD.items():
            for _ in range(times):
                text_of(ask(first, name))
        asked = {}
        while asked.get(medic, 0) < HELD["medic"]:  # it is written every few seconds
            if file.exists():
                (kept,) = json.loads(file.read_text())["bases"].values()
                asked = kept["asked"]
        first.process.kill()
        first.process.wait()
    with Workspace.open(home, notify=lambda _: None) as ws:
        assert set(ws.fsck().findings) <= before
        assert [v.ref for v in ws.registry.versions(name="ship")] == ["ship@1", "ship@2"]
    with adaptkit_server(home, served_base, log=tmp_path / "again", forked=True) as second:
        page = httpx.get(f"{second.url}/metrics", timeout=60).text
        (kept,) = json.loads(file.read_text())["bases"].values()
        loaded = len(kept["asked"])
        assert f"adaptkit_slots_used {loaded}\n" in page
        assert text_of(ask(second, "medic")) == expected("medic")
        after = httpx.get(f"{second.url}/metrics", timeout=60).text
        assert f"adaptkit_host_loads_total {loaded}\n" in after
    (kept,) = json.loads(file.read_text())["bases"].values()
    assert kept["pinned"] == ["naval"]
