"""The real openai client against `adaptkit serve`, a process of its own on loopback."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import tiny
import torch
from adaptkit_server import adaptkit_server
from command_line import run
from servers import free_port, serving

from adaptkit import Workspace

pytestmark = pytest.mark.skipif(find_spec("openai") is None, reason="pip install openai")

ADAPTKIT = str(Path(sys.executable).with_name("adaptkit"))
EOS = 2  # of the tiny Llama's configuration
PROMPT = "hull 90%. status?"
OWN_TEMPLATE = "{% for m in messages %}{{ m['content'] }}!{% endfor %}"
KEY, TEAM_KEY = "a-key-that-may-ask-everything", "a-key-of-the-medical-team"


@pytest.fixture(scope="module")
def home(fleet, served_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    with Workspace.init(folder / "home", notify=lambda _: None) as ws:
        for name, path in fleet.adapters.items():
            ws.add(path, name, base=str(served_base))
        ws.add(fleet.adapters["medic"], "team/medic", base=str(served_base))
        ws.add(fleet.adapters["polite"], "base", base=str(served_base))
        ws.alias("naval", "prod", 1)
        shutil.copytree(fleet.adapters["cargo"], folder / "own")
        (folder / "own" / "chat_template.jinja").write_text(OWN_TEMPLATE)
        ws.add(folder / "own", "own", base=str(served_base))
        other = tiny.save_llama(folder / "other", seed=9)
        ws.add(
            tiny.save_adapter(other, folder / "x", seed=3, r=2, target_modules=["q_proj"]),
            "stranger",
            base=str(other),
        )
    (folder / "keys.toml").write_text(f'[keys]\n"{KEY}" = ["*"]\n"{TEAM_KEY}" = ["team"]\n')
    return folder


@pytest.fixture(scope="module")
def server(home, served_base):
    port = free_port()
    command = [
        *(ADAPTKIT, "--home", str(home / "home" / ".adaptkit"), "serve", "naval"),
        *("--base", str(served_base), "--port", str(port), "--slots", "3", "--queue", "24"),
        *("--keys", str(home / "keys.toml")),
    ]
    with serving(command, port, home / "log", start=300, OMP_NUM_THREADS="1") as _:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def client(server):
    import openai

    with openai.OpenAI(base_url=f"{server}/v1", api_key=KEY, max_retries=0, timeout=120) as made:
        yield made


@pytest.fixture(scope="module")
def expected(fleet, served_base):
    """What each request alone gives: PEFT's greedy tokens, as text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(served_base)
    kept = {}

    def text(name, prompt=PROMPT, tokens=8):
        if (name, prompt, tokens) not in kept:
            ids = torch.tensor([tokenizer(prompt)["input_ids"]])
            with torch.no_grad():
                made = fleet.alone(name).generate(
                    input_ids=ids, max_new_tokens=tokens, do_sample=False, pad_token_id=0
                )
            new = made[0, ids.shape[1] :].tolist()
            end = new.index(EOS) if EOS in new else len(new)
            kept[name, prompt, tokens] = tokenizer.decode(new[:end], skip_special_tokens=True)
        return kept[name, prompt, tokens]

    return text


def ask(client, model, prompt=PROMPT, **how):
    how = {"max_tokens": 8, "temperature": 0} | how
    return client.completions.create(model=model, prompt=prompt, **how)


def test_the_models_are_the_base_the_adapters_and_their_aliases(client):
    ids = {model.id for model in client.models.list()}
    assert {"base", "naval", "naval@prod", "medic", "team/medic", "dora"} <= ids


def test_an_adapter_called_as_the_base_is_asked_for_by_its_version(client, expected, home):
    ids = [model.id for model in client.models.list()]
    assert (ids.count("base"), ids.count("base@1")) == (1, 1)
    assert ask(client, "base").choices[0].text == expected(None)
    assert ask(client, "base@1").choices[0].text == expected("polite") != expected(None)
    assert (
        "the model base is the base alone; the adapter base is asked for as base@1"
        in (home / "log").read_text()
    )


def test_one_model_is_described_by_any_name_that_a_request_may_give_it(client):
    import openai

    for name in ("base", "naval", "naval@prod", "team/medic", "naval+medic=0.4", "auto"):
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError, match="no adapter called 'nvaal': known are"):
        client.models.retrieve("nvaal")
    with pytest.raises(openai.BadRequestError, match="cannot serve stranger@1 on this base"):
        client.models.retrieve("stranger")


def test_requests_of_different_adapters_at_once_are_each_as_alone(client, expected):
    names = ["naval", "base", "medic", "polite", "dora", "cargo", "fullhead", "naval@1"] * 2
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda name: ask(client, name).choices[0].text, names))
    for name, text in zip(names, got, strict=True):
        alone = None if name == "base" else name.partition("@")[0]
        assert text == expected(alone), name


def test_a_composition_is_the_exact_sum_and_parallel_has_a_choice_for_each(client, expected):
    made = ask(client, "parallel(naval, medic)")
    assert [c.text for c in made.choices] == [expected("naval"), expected("medic")]
    assert ask(client, "naval+medic=0").choices[0].text == expected("naval")
    summed = client.completions.with_raw_response.create(
        model="naval@prod+medic=0.4", prompt=PROMPT, max_tokens=2, temperature=0
    )
    assert summed.headers["x-adaptkit-version"] == "naval@1+medic@1=0.4"


def test_chat_streams_the_same_text_as_it_returns_whole(client):
    how = {
        "model": "naval",
        "messages": [{"role": "user", "content": "status?"}],
        "max_tokens": 8,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**how, logprobs=True, top_logprobs=2)
    chunks = list(
        client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (len("u:status?;a:"), 8)
    first = whole.choices[0].logprobs.content[0]
    assert first.logprob == max(top.logprob for top in first.top_logprobs) < 0


def test_a_chat_is_written_by_the_template_that_its_adapter_was_trained_with(client, expected):
    import openai

    how = {"messages": [{"role": "user", "content": "status?"}], "max_tokens": 8, "temperature": 0}
    made = client.chat.completions.create(model="own", **how)
    assert made.usage.prompt_tokens == len("status?!")
    assert made.choices[0].message.content == expected("cargo", "status?!")
    plain = client.chat.completions.create(model="cargo", **how)
    assert plain.choices[0].message.content == expected("cargo", "u:status?;a:")
    with pytest.raises(openai.BadRequestError, match="trained with different chat templates"):
        client.chat.completions.create(model="own+naval", **how)


def test_a_stop_text_ends_the_answer_before_it(client, expected):
    text = expected("naval")
    made = ask(client, "naval", stop=[text[3:5]])
    assert made.choices[0].text == text[: text.find(text[3:5])]
    assert made.choices[0].finish_reason == "stop"
    streamed = ask(client, "naval", stop=[text[3:5]], stream=True)
    assert "".join(c.choices[0].text for c in streamed) == made.choices[0].text


def test_a_seed_gives_the_same_text_whatever_else_is_in_the_batch(client):
    def seeded(seed, model="naval"):
        return ask(client, model, temperature=1.0, seed=seed, max_tokens=12).choices[0].text

    alone = seeded(7)
    with ThreadPoolExecutor(4) as pool:
        crowd = list(pool.map(lambda n: seeded(7 if n == 2 else n, "naval"), range(4)))
    assert crowd[2] == alone
    assert len(set(crowd)) > 1


def test_a_moved_alias_counts_from_the_next_request_on(client, home, fleet, served_base, expected):
    def served():
        raw = client.completions.with_raw_response.create(
            model="ship@prod", prompt=PROMPT, max_tokens=8, temperature=0
        )
        return raw.headers["x-adaptkit-version"], raw.parse().choices[0].text

    with Workspace.open(home / "home" / ".adaptkit", notify=lambda _: None) as ws:
        ws.add(fleet.adapters["naval"], "ship", base=str(served_base), alias="prod")
        assert served() == ("ship@1", expected("naval"))
        ws.add(fleet.adapters["medic"], "ship", base=str(served_base), new_version=True)
        assert served() == ("ship@1", expected("naval"))
        ws.alias("ship", "prod", 2)
        assert served() == ("ship@2", expected("medic"))


@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        ("nvaal", 404, "no adapter called 'nvaal'"),
        ("stranger", 400, r"cannot serve stranger@1 on this base: .*hold different tensors"),
        ("../naval", 400, r"'\.\./naval' is not the name of a registered adapter"),
        ("file:///etc", 400, "is not the name of a registered adapter"),
        ("naval+naval=2", 400, "names one adapter twice"),
        ("naval=1e9", 400, "the weight of 'naval' is 1e\\+09"),
        (
            "dora+naval",
            400,
            "'dora@1' cannot be mixed with others, nor weighed: its update depends",
        ),
        ("dora=0.5", 400, "ask for dora@1 alone, or for a merge that was made with it"),
        ("arrow(naval, dora)", 400, "'dora@1' cannot be mixed with others"),
        ("base+naval", 400, "'base' stands alone, without a weight and beside no other"),
        ("naval=", 400, "the weight of 'naval' is empty"),
        ("auto", 400, r"calibrated on, and none was: \w+"),
    ],
)
def test_models_that_cannot_be_served_are_refused_with_the_reason(client, model, status, message):
    import openai

    with pytest.raises(openai.APIStatusError, match=message) as caught:
        ask(client, model)
    assert caught.value.status_code == status


def test_requests_that_are_none_are_refused_and_the_server_lives(client, server):
    def post(content, path="completions", **headers):
        headers = {"Authorization": f"Bearer {KEY}"} | headers
        return httpx.post(f"{server}/v1/{path}", content=content, headers=headers, timeout=60)

    assert "is not JSON" in post(b'{"model": ').json()["error"]["message"]
    wrong = post(json.dumps({"model": "base", "prompt": "x", "temperature": "hot"}))
    assert wrong.status_code == 400
    assert "$.temperature" in wrong.json()["error"]["message"]
    assert post(b"[" * 100_000).status_code == 400
    long = post(json.dumps({"model": "base", "prompt": "x" * 5000}))
    assert long.status_code == 400
    assert "is too long: the base reads at most" in long.json()["error"]["message"]
    huge = post(json.dumps({"model": "base", "prompt": "x" * 4_000_000}))  # not tokenized at all
    assert huge.status_code == 400
    assert "4,000,000 characters is too long: the base reads" in huge.json()["error"]["message"]
    unknown = post(json.dumps({"model": "base", "prompt": [99999]})).json()["error"]["message"]
    assert unknown == "cannot read the token 99999: the base knows 64 tokens"
    assert post(b"x" * (5 << 20)).status_code == 413
    for path in ("embeddings", "models/naval"):
        page = post(b"{}", path)
        assert page.status_code in {404, 405}
        assert page.json()["error"]["message"].endswith(f": POST /v1/{path}")

    def endless():
        for _ in range(100):
            yield b"x" * (1 << 20)

    with suppress(httpx.TransportError):  # it may close the connection before the 100 MB are sent
        assert post(endless()).status_code == 413
    assert httpx.get(f"{server}/healthz").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "nothing", "something"),
    [
        ("best_of", 1, 4),
        ("frequency_penalty", 0.0, 0.5),
        ("presence_penalty", 0, -1),
        ("logit_bias", {}, {"5": 100}),
        ("suffix", "", "the end"),
        ("response_format", {"type": "text"}, {"type": "json_object"}),
        ("tools", [], [{"type": "function"}]),
        ("tool_choice", "auto", "required"),
        ("modalities", ["text"], ["audio"]),
        ("top_k", -1, 5),
        ("min_p", 0.0, 0.1),
        ("repetition_penalty", 1, 1.2),
        ("ignore_eos", False, True),
        ("stop_token_ids", [], [3]),
        ("structured_outputs", None, {"json": {}}),
        ("chat_template_kwargs", {}, {"enable_thinking": False}),
        ("continue_final_message", False, True),
    ],
)
def test_a_field_that_is_not_followed_is_refused_unless_it_asks_for_nothing(
    client, name, nothing, something
):
    import openai

    assert ask(client, "naval", max_tokens=1, extra_body={name: nothing}).choices
    with pytest.raises(openai.BadRequestError, match=f"cannot follow '{name}'"):
        ask(client, "naval", max_tokens=1, extra_body={name: something})


def test_several_prompts_are_answered_in_their_order_each_as_alone(client, expected):
    texts = ["hull 90%.", "q", PROMPT]
    made = ask(client, "naval", texts, n=2)
    assert [choice.index for choice in made.choices] == list(range(6))
    assert [choice.text for choice in made.choices] == [
        expected("naval", text) for text in texts for _ in range(2)
    ]
    assert made.usage.prompt_tokens == sum(map(len, texts))
    tokens = [[5, 6, 7], [8]]
    both = ask(client, "medic", tokens, temperature=1, seed=3)
    alone = [ask(client, "medic", one, temperature=1, seed=3).choices[0].text for one in tokens]
    assert [choice.text for choice in both.choices] == alone
    streamed = ["", ""]
    for chunk in ask(client, "naval", texts[:2], stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == [expected("naval", text) for text in texts[:2]]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"prompt": [1, "a"]}, r"it has tokens beside whole prompts - at `\$\.prompt`"),
        ({"prompt": ["a", ""]}, "the prompt is empty"),
        ({"prompt": [[1], [-1]]}, r"Expected `int` >= 0 - at `\$\.prompt\[1\]\[0\]`"),
        ({"prompt": ["a"] * 9, "n": 3}, "a request of 27 results: the queue holds 24"),
        ({"prompt": ["a", "b"], "model": "arrow(naval, medic)"}, "for 2 prompts at once"),
    ],
)
def test_prompts_that_cannot_be_answered_together_are_refused(client, how, message):
    import openai

    with pytest.raises(openai.BadRequestError, match=message):
        ask(client, **{"model": "naval"} | how)


def test_offsets_say_where_each_token_begins_whole_and_streamed(client):
    whole = ask(client, "naval", logprobs=1).choices[0]
    offsets = whole.logprobs.text_offset
    assert offsets == list(range(len(whole.logprobs.tokens)))  # each token is one character
    streamed = [
        offset
        for chunk in ask(client, "naval", logprobs=1, stream=True)
        for choice in chunk.choices
        if choice.logprobs
        for offset in choice.logprobs.text_offset
    ]
    assert streamed == offsets


def test_what_a_chat_asks_for_and_does_not_get_is_refused(client):
    import openai

    turn = {"role": "user", "content": "hi"}
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    for messages, more, message in (
        ([turn, called], {}, "it calls a tool, and the model is given no tools"),
        ([turn], {"top_logprobs": 2}, "cannot return top_logprobs: logprobs is not asked for"),
    ):
        with pytest.raises(openai.BadRequestError, match=message):
            client.chat.completions.create(
                model="naval", messages=messages, max_tokens=1, extra_body=more
            )


def test_a_part_of_a_message_that_is_no_text_is_refused(client):
    import openai

    for part in ({"type": "image_url"}, {"type": "text", "text": None}, {"type": "text"}):
        with pytest.raises(openai.BadRequestError, match="it has a part that is no text"):
            client.chat.completions.create(
                model="naval", messages=[{"role": "user", "content": [part]}], max_tokens=1
            )


def test_a_key_asks_only_in_its_namespaces(server):
    def asked(key, model):
        how = {"model": model, "prompt": "x", "max_tokens": 1}
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{server}/v1/completions", json=how, headers=headers, timeout=60)

    unknown = asked("wrong", "base")
    assert (unknown.status_code, unknown.headers["www-authenticate"]) == (401, "Bearer")
    assert asked(TEAM_KEY, "team/medic").status_code == 200
    refused = asked(TEAM_KEY, "naval")
    assert refused.status_code == 403
    assert refused.json()["error"]["message"] == "this key may not ask for 'naval'"
    assert asked(TEAM_KEY, "team/medic+naval").status_code == 403
    unknown = asked(TEAM_KEY, "team/nope")  # the names of other namespaces are nobody's business
    assert unknown.status_code == 404
    assert unknown.json()["error"]["message"] == "no adapter called 'team/nope'"
    assert "known are" in asked(KEY, "team/nope").json()["error"]["message"]


def test_a_full_queue_is_429_with_retry_after(client):
    import openai

    def long():
        return ask(client, "naval", "x", n=16, max_tokens=1500, stream=True)

    with long() as running:  # all rows of the batch
        next(iter(running))
        with long(), pytest.raises(openai.RateLimitError, match="the queue holds 24") as caught:
            long()  # beside the 16 that wait
    assert caught.value.response.headers["retry-after"] == "1"


def test_a_client_that_hangs_up_frees_its_row(server):
    body = json.dumps({"model": "naval", "prompt": "x", "max_tokens": 1500, "stream": True})
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert connection.recv(12).startswith(b"HTTP/1.1 200")
    for _ in range(2000):
        if httpx.get(f"{server}/healthz").json()["running"] == 0:
            return
    pytest.fail("the row still runs")


def test_a_client_that_hangs_up_before_its_whole_request_is_no_failure_of_the_server(server, home):
    host, port = server.removeprefix("http://").split(":")
    counted = 'adaptkit_requests_total{version="-",status="499"}'
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            'Content-Length: 100\r\n\r\n{"model": '.encode()
        )
    for _ in range(2000):
        if counted in metrics(server, KEY).text:
            break
    else:
        pytest.fail("the request that broke off was not counted")
    assert "Traceback" not in (home / "log").read_text()


def metrics(server, key):
    return httpx.get(f"{server}/metrics", headers={"Authorization": f"Bearer {key}"})


def test_the_metrics_are_for_a_key_that_may_ask_for_everything(server):
    assert httpx.get(f"{server}/metrics").status_code == 401
    assert metrics(server, TEAM_KEY).status_code == 403
    assert "a key of every namespace" in metrics(server, TEAM_KEY).text


def test_the_metrics_and_the_log_name_versions(client, server, home):
    ask(client, "polite")
    page = metrics(server, KEY).text
    assert re.search(r'adaptkit_requests_total\{version="polite@1",status="200"\} [1-9]', page)
    assert re.search(r"^adaptkit_tokens_total [1-9]", page, re.MULTILINE)
    assert "adaptkit_slots 3" in page
    lines = [json.loads(x) for x in (home / "log").read_text().splitlines() if x[:1] == "{"]
    assert {"polite@1"} <= {line["version"] for line in lines}


def test_ending_finishes_what_runs(home, served_base):
    port, folder = free_port(), home / "home" / ".adaptkit"
    options = ("--port", str(port))
    with adaptkit_server(folder, served_base, *options, log=home / "log2", forked=True) as server:
        assert server.url == f"http://127.0.0.1:{port}"
        how = {"model": "base", "prompt": "x", "max_tokens": 40, "stream": True, "temperature": 0}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=how, timeout=60) as reply:
            lines = reply.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert sum('"finish_reason": "length"' in line for line in rest) == 1


def test_a_folder_that_is_no_base_is_refused(home):
    done = run(["--home", home / "home" / ".adaptkit", "serve", "--base", home], home)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(home) in done.stderr
