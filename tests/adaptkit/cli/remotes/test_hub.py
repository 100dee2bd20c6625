"""push and pull through a Hub from the shell: two teammates, one of whom may have no adaptkit at all."""

from __future__ import annotations

import json
from pathlib import Path

import command_line
import pytest
import tiny
from command_line import checked
from hubs import hub

__all__ = ["hub"]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return [
        tiny.make_adapter(
            tiny.llama(), folder / name, seed, r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"
        )
        for seed, name in enumerate(("naval", "medic"), 1)
    ]


@pytest.fixture
def shell(hub, tmp_path):
    """shell("push", …) → its output; `who` chooses whose home it is."""

    def shell(*arguments, who="ada", code=0, **environment):
        more = {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "hf_write",
            "HF_HUB_OFFLINE": "0",
            "ADAPTKIT_HOME": str(tmp_path / who),
        }
        # huggingface_hub reads this one when it is imported
        own = "HF_HUB_OFFLINE" in environment
        run = command_line.run_process if own else command_line.run
        done = checked(run(arguments, tmp_path, **(more | environment)), code)
        assert "hf_write" not in done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    return shell


def test_what_one_pushes_another_pulls_with_adaptkit_or_without(hub, shell, adapters, tmp_path):
    from huggingface_hub import snapshot_download

    shell("add", adapters[0], "--name", "naval", "-m", "terse answers", "--alias", "prod")
    pushed = json.loads(
        shell("push", "naval@prod", "hf://fleet/naval", "--create", "--private", "--json")
    )
    assert (pushed["number"], pushed["state"], pushed["unchanged"]) == (1, "published", False)
    assert hub.repos["fleet/naval"].private
    assert "unchanged, nothing sent" in shell("push", "naval@prod", "hf://fleet/naval")

    pulled = json.loads(shell("pull", "hf://fleet/naval@prod", "--json", who="grace"))
    assert (pulled["name"], pulled["version"], pulled["digest"]) == ("naval", 1, pushed["digest"])
    assert "terse answers" in shell("show", "naval", who="grace")

    plain = Path(
        snapshot_download(
            "fleet/naval", local_dir=tmp_path / "plain", endpoint=hub.url, token="hf_write"
        )
    )
    tiny.reload_strictly(tiny.llama(), plain)
    card = (plain / "README.md").read_text()
    assert card.startswith("---\n")
    assert "library_name: peft" in card
    assert "terse answers" in card
    assert str(tmp_path) not in card
    assert "More Information Needed" not in card


def test_words_that_people_write_on_the_page_stay_when_the_next_version_comes(hub, shell, adapters):
    for number, folder in enumerate(adapters, 1):
        shell("add", folder, "--name", "naval")
        shell("push", "naval", "hf://fleet/naval", "--create")
        page = hub.repos["fleet/naval"].files()["README.md"].decode()
        if number == 1:
            hub.repos["fleet/naval"].commit(
                {"README.md": f"{page}\n## Ours\n\nAsk Grace.\n".encode()}
            )
    page = hub.repos["fleet/naval"].files("v2")["README.md"].decode()
    assert page.endswith("\n## Ours\n\nAsk Grace.\n")
    assert json.loads(shell("list", "--json"))[0]["digest"] in page
    shell("pull", "hf://fleet/naval", who="grace")
    assert shell("verify", "naval", who="grace")


def test_an_adapter_that_adaptkit_never_touched_is_pulled_and_merged(hub, shell, adapters):
    files = {path.name: path.read_bytes() for path in adapters[0].iterdir()}
    head = hub.create("fleet/plain").commit(
        files | {"optimizer.pt": b"x" * 99, "checkpoint-1/junk.bin": b"x"}
    )
    pulled = json.loads(shell("pull", "hf://fleet/plain", "--json"))
    assert (pulled["name"], pulled["version"], pulled["method"], pulled["rank"]) == (
        "plain",
        1,
        "lora",
        4,
    )
    shown = json.loads(shell("show", "plain", "--json"))
    assert shown["facts"]["found"] == {
        "place": "hf://fleet/plain",
        "revision": head,
        "made_by": "not adaptkit",
    }
    assert {file["path"] for file in shown["files"]} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    assert not any("optimizer" in seen.path or "junk" in seen.path for seen in hub.seen)
    assert not json.loads(shell("pull", "hf://fleet/plain", "--json"))["created"]
    hub.repos["fleet/plain"].commit(
        {"adapter_model.safetensors": (adapters[1] / "adapter_model.safetensors").read_bytes()}
    )
    assert (
        json.loads(shell("pull", f"hf://fleet/plain@rev:{head[:9]}", "--json"))["digest"]
        == pulled["digest"]
    )
    shell("merge", "hf://fleet/plain", "plain=0.5", "--name", "both")
    assert json.loads(shell("push", "plain", "hf://fleet/plain", "--json"))["number"] == 1


def test_a_plain_adapter_that_no_add_would_take_is_refused_as_add_would(hub, shell, adapters):
    files = {path.name: path.read_bytes() for path in adapters[0].iterdir()}
    weights = files.pop("adapter_model.safetensors")
    hub.create("fleet/pickled").commit(files | {"adapter_model.bin": b"\x80\x04}."})
    assert "hf://fleet/pickled holds a pickle" in shell("pull", "hf://fleet/pickled", code=1)
    hub.create("fleet/pointer").commit(
        files | {"adapter_model.safetensors": b"version https://git-lfs.github.com/spec/v1\n"}
    )
    assert "hf://fleet/pointer" in shell("pull", "hf://fleet/pointer", code=1)
    hub.create("fleet/broken").commit(
        files | {"adapter_model.safetensors": weights, "adapter_config.json": b"{"}
    )
    assert "hf://fleet/broken: cannot read adapter_config.json" in shell(
        "pull", "hf://fleet/broken", code=1
    )
    assert shell("list", "--json").strip() == "[]"


def test_a_proposal_is_no_placement(hub, shell, adapters):
    hub.create("fleet/naval")
    shell("add", adapters[0], "--name", "naval")
    proposed = shell("push", "naval", "hf://fleet/naval", "--create-pr")
    assert f"naval@1 → hf://fleet/naval  proposed: {hub.url}/fleet/naval/discussions/1" in proposed
    assert json.loads(shell("show", "naval", "--json"))["placements"] == []
    assert hub.repos["fleet/naval"].tags == {}


def test_a_remote_of_an_organisation_pushes_and_pulls_by_name(hub, shell, adapters):
    shell("add", adapters[0], "--name", "naval")
    shell("remote", "add", "team", "hf://fleet")
    shell("push", "naval", "team", "--create")
    assert json.loads(shell("pull", "hf://fleet/naval", "--json", who="grace"))["version"] == 1
    shell("push", "naval", "team:other", "--create", "--branch", "dev")
    assert hub.repos["fleet/other"].tags["v1"] == hub.repos["fleet/other"].branches["dev"]


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["pull", "hf://fleet/nothing"], {}, "there is no repository fleet/nothing"),
        (
            ["pull", "hf://fleet/secret"],
            {"HF_TOKEN": ""},
            "or it is private and your token may not see it",
        ),
        (
            ["pull", "hf://fleet/secret"],
            {"HF_TOKEN": "hf_wrong"},
            "the Hub does not accept the token (401)",
        ),
        (["pull", "hf://fleet/secret"], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        (
            ["pull", "hf://fleet/secret"],
            {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "https://hub.example.org"},
            "HF_HUB_OFFLINE is set",
        ),
        (
            ["pull", "hf://fleet/secret"],
            {"HF_ENDPOINT": "http://127.0.0.1:1"},
            "cannot reach http://127.0.0.1:1",
        ),
        (["pull", "hf://fleet/secret@rev:nowhere"], {}, "revision"),
        (["pull", "hf://fleet"], {}, "it names an organisation or a person"),
        (["push", "naval", "hf://fleet/nothing"], {}, "push with --create to make it"),
        (
            ["push", "naval", "file:///tmp/x", "--create-pr"],
            {},
            "file:///tmp/x does not support --create-pr",
        ),
        (["push", "naval", "hf://fleet/secret", "--private"], {}, "add --create"),
    ],
)
def test_what_cannot_be_done_is_one_error_message(
    hub, shell, adapters, arguments, environment, words
):
    hub.create("fleet/secret", private=True)
    if arguments[0] == "push":
        shell("add", adapters[0], "--name", "naval")
    text = shell(*arguments, code=1, **environment)
    assert text.startswith("error: ")
    assert words in text


def test_a_configured_endpoint_is_taken_unless_the_environment_says_another(
    hub, shell, adapters, tmp_path
):
    shell("add", adapters[0], "--name", "naval")
    (tmp_path / "ada" / "config.toml").write_text(f'[endpoints]\nhf = "{hub.url}/"\n')
    shell("push", "naval", "hf://fleet/naval", "--create", HF_ENDPOINT="")
    assert hub.repos["fleet/naval"].tags
    text = shell("pull", "hf://fleet/naval", code=1, HF_ENDPOINT="http://127.0.0.1:1")
    assert "cannot reach http://127.0.0.1:1" in text
    (tmp_path / "ada" / "config.toml").write_text('[endpoints]\nfile = "http://x"\n')
    assert "does not support another server: config.toml sets endpoints.file = 'http://x'" in shell(
        "pull", "file:///tmp/x", code=1
    )
