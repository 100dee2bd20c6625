"""No secret is published, and no objection tells one."""

from __future__ import annotations

import pytest
from publishing import publish, texts

from adaptkit.extend.review import Delete, Severity
from adaptkit_plugins.reviews.secrets import KINDS, review

LETTERS = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF"  # 32; put together here, so that no scanner takes this page for a leak
SECRETS = [
    ("a private key", "-----BEGIN " + "EC PRIVATE KEY-----"),
    ("a private key", "-----BEGIN " + "OPENSSH PRIVATE KEY-----"),
    ("a private key", "-----BEGIN " + "PRIVATE KEY-----"),
    ("a Hugging Face token", "hf" + "_" + LETTERS),
    ("an AWS access key", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("an AWS secret key", "aws_secret_access_key = " + (LETTERS * 2)[:40]),
    ("an Azure storage key", "AccountKey=" + LETTERS * 2),
    ("a Google API key", "AIza" + (LETTERS * 2)[:35]),
    ("an API key (sk-…)", "sk-" + LETTERS),
    ("an API key (sk-…)", "sk-proj-" + LETTERS),
    ("an API key (sk-…)", "sk-ant-api03-" + LETTERS),
    ("a Stripe key", "sk_live_" + LETTERS),
    ("a GitHub token", "ghp_" + (LETTERS * 2)[:36]),
    ("a GitHub token", "github_pat_" + LETTERS * 2),
    ("a GitLab token", "glpat-" + LETTERS),
    ("a Slack token", "xoxb-" + LETTERS),
    ("a PyPI token", "pypi-AgEI" + LETTERS * 2),
    ("an npm token", "npm_" + (LETTERS * 2)[:36]),
    ("a Weights & Biases key", '"WANDB_API_KEY": "' + "0123456789abcdef" * 3),
    ("a signed token (JWT)", "eyJ" + LETTERS + ".eyJ" + LETTERS + "." + LETTERS),
    ("a password in a URL", "https://ada:" + LETTERS + "@example.org/x"),
]


def test_every_kind_is_tried_below():
    assert {kind for kind, _ in SECRETS} == set(KINDS)


@pytest.mark.parametrize(("kind", "secret"), SECRETS, ids=[kind for kind, _ in SECRETS])
def test_a_secret_is_refused_with_file_line_and_kind_and_never_its_value(kind, secret, tmp_path):
    text = f"# Naval\r\n\nexport X='{secret}'\n"
    (one,) = review(publish(tmp_path, {"README.md": text.encode()}))
    assert one.severity is Severity.REFUSE
    assert (
        one.text
        == f"line 3 of README.md holds {kind}: take it out, revoke it, and add the adapter again"
    )
    assert LETTERS[:8] not in one.text


@pytest.mark.parametrize(
    "text",
    [
        "task-" + LETTERS,
        "hf_model",
        "sk-container-id-2-text-repr-fallback",
        "https://example.org:8080/a@b",
        "npm_install",
        "sha256:" + "0123456789abcdef" * 4,
        "https://user:${TOKEN}@host",
        "-----BEGIN PUBLIC KEY-----",
        "shf_" + LETTERS,
    ],
)
def test_what_only_looks_like_one_passes(text, tmp_path):
    assert review(publish(tmp_path, {"README.md": text.encode()})) == []


def test_it_reads_every_text_whatever_its_encoding_and_no_binary(tmp_path):
    secret = dict(SECRETS)["a Hugging Face token"]
    files = {
        "b/notes.txt": secret.encode("utf-16"),
        "latin.txt": b"\xe9\n" + secret.encode(),
        "tokenizer.json": b"{}\n" * 9 + secret.encode(),
        "adapter_model.safetensors": bytes(8) + secret.encode(),
    }
    objections = texts(review(publish(tmp_path, files)))
    assert [text.partition(" holds")[0] for text in objections] == [
        "line 1 of b/notes.txt",
        "line 2 of latin.txt",
        "line 10 of tokenizer.json",
    ]


def test_a_secret_at_the_cut_of_an_endless_line_is_found(tmp_path):
    secret = dict(SECRETS)["a Hugging Face token"].encode()
    objections = texts(
        review(
            publish(
                tmp_path, {"a.json": b" " * ((4 << 20) - 9) + secret + b" " * 99 + b"\n" + secret}
            )
        )
    )
    assert [text.partition(" holds")[0] for text in objections] == [
        "line 1 of a.json",
        "line 2 of a.json",
    ]


def test_message_and_facts_are_read_too(tmp_path):
    secret = dict(SECRETS)["a GitHub token"]
    for more in ({"message": secret}, {"facts": {"note": secret}}):
        assert texts(review(publish(tmp_path, {}, **more))) == [
            "adaptkit.json holds a GitHub token: take it out, revoke it, and add the adapter again"
        ]


def test_a_file_full_of_them_is_one_page(tmp_path):
    objections = texts(
        review(publish(tmp_path, {"a.txt": (dict(SECRETS)["a GitHub token"] + "\n").encode() * 50}))
    )
    assert len(objections) == 21
    assert objections[-1] == "and 30 more like these"


def test_it_is_on_unless_switched_off_and_speaks_of_publishing_only(tmp_path):
    secret = dict(SECRETS)["a GitHub token"].encode()
    assert review(publish(tmp_path, {"a.txt": secret}))
    assert review(publish(tmp_path, {"a.txt": secret}, disable=("secrets",))) is None
    assert review(Delete(())) is None
