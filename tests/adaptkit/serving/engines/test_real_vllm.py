"""vLLM itself, behind the gateway: it loads adapters of the registry and computes with them what PEFT does.

Opt-in: `ADAPTKIT_VLLM_PYTHON` names the Python of an environment with a vLLM that computes (docs/serving.md).
"""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import tiny
import torch
from command_line import ADAPTKIT
from packaging.version import Version
from safetensors.torch import load_file, save_file
from servers import free_port, serving

from adaptkit import Workspace

PROMPT = "Log: hull 90%. Status?"
TOKENS = 12
CLOSE = 1e-4  # between log-probabilities in float32
LIMIT = 12  # which vLLM does not know: it is started with 16
PLAIN = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
KINDS = {
    "rslora": {"use_rslora": True},
    "ranks": {"rank_pattern": {"v_proj": 2}},
    "alphas": {"alpha_pattern": {"v_proj": 32}},
    "gaussian": {"init_lora_weights": "gaussian"},
    "last_layer": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "dora": {"use_dora": True},
    "wide": {"r": 32},
    "one_wide": {"rank_pattern": {"v_proj": 32}},
    "lora_bias": {"lora_bias": True},
    "bias": {"bias": "all"},
    "head": {"modules_to_save": ["lm_head"]},
    "norm": {"modules_to_save": ["norm"]},
    "tokens": {"trainable_token_indices": [5, 6]},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "kasa": {"kasa_config": {}},
    "activated": {"alora_invocation_tokens": [5]},
    "repeated": {"layer_replication": [[0, 2], [1, 2]]},
    "head_update": {"target_modules": ["q_proj", "lm_head"]},
    "embedding_update": {"target_modules": ["q_proj", "embed_tokens"]},
}
"""Adapters of many kinds, as PEFT makes them: what differs from PLAIN."""


def python():
    found = os.environ.get("ADAPTKIT_VLLM_PYTHON")
    if not found:
        pytest.skip(
            "make an environment with vLLM (docs/serving.md), and set ADAPTKIT_VLLM_PYTHON to its Python"
        )
    return Path(found)


@pytest.fixture(scope="module")
def fleet_home(tmp_path_factory):
    """A workspace of adapters on the base of `adaptkit demo`: its heads are as wide as vLLM's kernels need."""
    python()
    folder = tmp_path_factory.mktemp("vllm")
    with Workspace.init(folder / "home", notify=lambda _: None) as ws:
        demo = ws.write_demo(folder / "demo")
        for name, path in demo.adapters:
            ws.add(path, name, base=str(demo.base))
        second = tiny.save_adapter(demo.base, folder / "second", 7, **PLAIN)
        ws.add(second, "naval", base=str(demo.base))
        ws.alias("naval", "prod", 1)
        blank = tiny.save_adapter(demo.base, folder / "blank", 8, **PLAIN)
        file = blank / "adapter_model.safetensors"
        tensors = load_file(file)
        save_file(
            {key: value * ("lora_B" not in key) for key, value in tensors.items()},
            file,
            {"format": "pt"},
        )
        ws.add(blank, "blank", base=str(demo.base))
        for name, seed in (("dora", 9), ("untold", 10)):
            made = tiny.save_adapter(demo.base, folder / name, seed, **PLAIN | KINDS.get(name, {}))
            ws.add(made, name, base=str(demo.base))
    return folder


@pytest.fixture(scope="module")
def gateway(fleet_home):
    """The gateway with vLLM behind it; at its end nothing of vLLM goes on running."""
    port, template = free_port(), fleet_home / "chat.jinja"
    template.write_text("{{ messages[0]['content'] }}")
    line = [
        *(ADAPTKIT, "--home", str(fleet_home / "home" / ".adaptkit"), "serve"),
        *("--base", str(fleet_home / "demo" / "ship"), "--engine", "vllm", "--port", str(port)),
        *("--slots", "2", "--rank-limit", str(LIMIT), "--json", "--", "--dtype", "float32"),
        *("--chat-template", str(template)),
    ]
    environment = {
        "PATH": f"{python().parent}:{os.environ['PATH']}",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "TORCHDYNAMO_DISABLE": "0",  # vLLM compiles
    }
    with serving(line, port, fleet_home / "log", start=600, **environment) as url:
        (ours,) = (child for child in psutil.Process().children() if str(port) in child.cmdline())
        engine = ours.children(recursive=True)
        assert engine
        yield url
    _, alive = psutil.wait_procs(engine, timeout=60)
    assert not alive


@pytest.fixture(scope="module")
def engine(gateway, fleet_home):
    """Where vLLM listens, behind the gateway."""
    text = (fleet_home / "log").read_text()
    shown, _ = json.JSONDecoder().raw_decode(text[text.index('{\n  "engine"') :])
    return f"http://127.0.0.1:{shown['command'][shown['command'].index('--port') + 1]}"


@pytest.fixture(scope="module")
def client(gateway):
    import openai

    with openai.OpenAI(base_url=f"{gateway}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def tokenizer(fleet_home):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(fleet_home / "demo" / "ship")


def ask(client, model, **more):
    made = client.completions.with_raw_response.create(
        model=model, prompt=PROMPT, max_tokens=TOKENS, temperature=0, logprobs=1, **more
    )
    return made.headers["x-adaptkit-version"], made.parse().choices[0]


def peft(fleet_home, adapter):
    """The base in float32 with an adapter, as PEFT loads it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = fleet_home / "demo" / "ship"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    return model if adapter is None else PeftModel.from_pretrained(model, adapter).eval()


def written(model, tokenizer):
    """What a model writes on, greedily, and the log-probability of each token."""
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids,
            max_new_tokens=TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    new = made.sequences[0, ids.shape[1] :]
    each = [
        torch.log_softmax(logits[0], -1)[token].item()
        for logits, token in zip(made.logits, new, strict=True)
    ]
    return tokenizer.decode(new, skip_special_tokens=True), each


def probabilities(url, model, tokens):
    """vLLM's log-probability of each token after those before it."""
    body = {"model": model, "prompt": tokens, "max_tokens": 1, "prompt_logprobs": 0}
    made = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
    assert made.status_code == 200, made.text
    each = zip(made.json()["choices"][0]["prompt_logprobs"][1:], tokens[1:], strict=True)
    return torch.tensor([entry[str(token)]["logprob"] for entry, token in each])


@pytest.mark.parametrize(
    ("model", "version", "adapter"),
    [
        ("base", "base", None),
        ("naval", "naval@2", "second"),
        ("naval@1", "naval@1", "demo/naval"),
        ("medic", "medic@1", "demo/medic"),
    ],
)
def test_vllm_writes_what_peft_writes(client, fleet_home, tokenizer, model, version, adapter):
    wanted, each = written(peft(fleet_home, adapter and fleet_home / adapter), tokenizer)
    exact, made = ask(client, model)
    assert exact == version
    assert made.text == wanted
    got = torch.tensor(made.logprobs.token_logprobs)
    torch.testing.assert_close(got, torch.tensor(each), atol=CLOSE, rtol=0)
    if adapter:
        alone = torch.tensor(ask(client, "base")[1].logprobs.token_logprobs)
        count = min(len(got), len(alone))
        assert (got[:count] - alone[:count]).abs().max() > 10 * CLOSE


def test_a_promoted_alias_counts_from_the_next_request_on(client, fleet_home):
    exact, before = ask(client, "naval@prod")
    assert exact == "naval@1"
    with Workspace.open(fleet_home / "home" / ".adaptkit", notify=lambda _: None) as ws:
        ws.alias("naval", "prod", 2)
    exact, after = ask(client, "naval@prod")
    assert exact == "naval@2"
    assert after.logprobs.token_logprobs != before.logprobs.token_logprobs
    assert ask(client, "naval@1")[1].text == before.text


def test_more_adapters_than_slots_are_each_applied(client, engine):
    models = ["naval@1", "medic", "naval@2"]
    version = Version(httpx.get(f"{engine}/version").json()["version"])
    if version >= Version("0.33"):  # https://github.com/vllm-project/vllm/pull/48421
        models.append("base")
    alone = {model: ask(client, model)[1].text for model in models}
    assert len(set(alone.values())) > 1
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda model: ask(client, model)[1].text, models * 4))
    assert made == [alone[model] for model in models * 4]


def test_a_stream_and_a_chat_are_answered_with_the_adapter(client):
    _, whole = ask(client, "naval@1")
    parts = client.completions.create(
        model="naval@1", prompt=PROMPT, max_tokens=TOKENS, temperature=0, stream=True
    )
    assert "".join(part.choices[0].text for part in parts) == whole.text
    said = [
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=TOKENS,
            temperature=0,
        )
        for model in ("naval@1", "base")
    ]
    assert said[0].model == "naval@1"
    assert said[0].choices[0].message.content != said[1].choices[0].message.content


@pytest.mark.parametrize(
    ("model", "error", "reason"),
    [
        ("nvaal", "NotFoundError", "no adapter called 'nvaal'"),
        ("dora", "BadRequestError", "does not apply all of it: use_dora"),
        ("blank", "BadRequestError", "blank@1 has no effect on this base"),
    ],
)
def test_what_is_not_applied_is_refused_with_the_reason(client, model, error, reason):
    import openai

    with pytest.raises(getattr(openai, error), match=reason):
        ask(client, model)


def test_a_version_that_vllm_was_never_told_of_is_found_by_the_resolver(
    engine, fleet_home, tokenizer
):
    here = [python(), "-c", "import adaptkit_plugins.engines.vllm"]
    if subprocess.run(here, check=False, capture_output=True).returncode:
        pytest.skip("install adaptkit in vLLM's environment too: pip install adaptkit-peft")
    tokens = tokenizer(PROMPT).input_ids
    got = probabilities(engine, "untold@1", tokens)
    wanted = of_tokens(peft(fleet_home, fleet_home / "untold"), tokens)
    torch.testing.assert_close(got, wanted, atol=CLOSE, rtol=0)
    for name in ("dora@1", "untold"):
        made = httpx.post(f"{engine}/v1/completions", json={"model": name, "prompt": PROMPT})
        assert made.status_code == 404
    log = (fleet_home / "log").read_text()
    assert "does not apply all of it: use_dora" in log
    assert "an alias would never move" in log


def of_tokens(model, tokens):
    """A model's log-probability of each token after those before it."""
    with torch.inference_mode():
        found = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0], -1)
    return found[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]


@pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed", "ignore:aLoRA is currently")
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("kind", KINDS)
def test_preflight_says_what_vllm_does(engine, fleet_home, tokenizer, tmp_path, kind):
    config = PLAIN | KINDS[kind]
    if kind == "kasa":
        from peft import KasaConfig

        config["kasa_config"] = KasaConfig()
    folder = tiny.save_adapter(fleet_home / "demo" / "ship", tmp_path / kind, 3, **config)
    with Workspace.open(fleet_home / "home" / ".adaptkit", notify=lambda _: None) as ws:
        found = ws.preflight(str(folder), "vllm", rank_limit=LIMIT)
    asked = {"lora_name": kind, "lora_path": str(folder)}
    made = httpx.post(f"{engine}/v1/load_lora_adapter", json=asked, timeout=60)
    assert (made.status_code == 200) == found.loads, (made.text, found.findings)
    if found.loads:
        tokens = tokenizer(PROMPT).input_ids
        got = probabilities(engine, kind, tokens)
        torch.testing.assert_close(
            got, of_tokens(peft(fleet_home, folder), tokens), atol=CLOSE, rtol=0
        )
        httpx.post(f"{engine}/v1/unload_lora_adapter", json={"lora_name": kind})
