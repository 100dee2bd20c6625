"""One grammar, one parser."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptkit import refs
from adaptkit.errors import BadRecipe, BadReference
from adaptkit.io.safe_paths import DEVICE
from adaptkit.refs import DigestRef, NameRef, PathRef, RemoteRef, Selector, UrlRef

DIGEST = "sha256:" + "0123abcd" * 8


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("naval", NameRef("naval")),
        ("naval@3", NameRef("naval", Selector("number", "3"))),
        ("naval@prod", NameRef("naval", Selector("alias", "prod"))),
        ("naval@sha256:0123abcd", NameRef("naval", Selector("digest", "sha256:0123abcd"))),
        ("team/naval@3", NameRef("team/naval", Selector("number", "3"))),
        ("naval-2.1_x", NameRef("naval-2.1_x")),
        (DIGEST, DigestRef(DIGEST)),
        ("sha256:0123abcd", DigestRef("sha256:0123abcd")),
        ("./out/naval", PathRef(Path("./out/naval"), "./out/naval")),
        ("../naval", PathRef(Path("../naval"), "../naval")),
        ("/models/na@val=x", PathRef(Path("/models/na@val=x"), "/models/na@val=x")),
        (".", PathRef(Path(), ".")),
        (r"C:\models", PathRef(Path(r"C:\models"), r"C:\models")),
        ("hf://fleet/naval", UrlRef("hf://fleet/naval")),
        ("hf://fleet/naval@3", UrlRef("hf://fleet/naval", Selector("number", "3"))),
        (
            "hf://fleet/naval@rev:refs/pr/3",
            UrlRef("hf://fleet/naval", Selector("rev", "refs/pr/3")),
        ),
        (
            "file:///mnt/team/naval/@prod",
            UrlRef("file:///mnt/team/naval", Selector("alias", "prod")),
        ),
        (
            f"oci://host:5000/repo@{DIGEST}",
            UrlRef("oci://host:5000/repo", Selector("digest", DIGEST)),
        ),
        ("team:naval@3", RemoteRef("team", "naval", Selector("number", "3"))),
        ("team:fleet/naval", RemoteRef("team", "fleet/naval")),
    ],
)
def test_every_form_of_the_grammar(text, wanted):
    assert refs.parse(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a/b/c",
        "-naval",
        ".hidden",
        "naval@",
        "naval@0",
        "naval@-1",
        "naval@sha256:abc",
        "naval.",
        "latest",
        "sha256",
        "sha256:XYZ",
        "sha256:0123",
        "tm1:00",
        "a..b",
        "x" * 300,
        "na\0val",
        "na\nval",
        "nаval",
        "naval＠3",
        "https://",
        "s3://a b",
        "file:///mnt/\udcff",
        "a:b:c",
        "CON",
        "com1",
        "team/LPT9",
        "nul.txt",
        "naval@3@4",
        "a\\b",
    ],
)
def test_what_is_no_reference_shows_the_grammar(text):
    with pytest.raises(BadReference) as caught:
        refs.parse(text)
    assert "naval@prod" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["s3://user@bucket/naval", "hf://fleet/naval?x=hush", "oci://host/a#hush", "ftp://a:hush@b"],
)
def test_a_url_with_a_user_or_a_query_is_refused_and_not_repeated(url):
    with pytest.raises(BadReference, match="it holds a user, a '\\?' or a '#'") as caught:
        refs.parse(url)
    assert "hush" not in str(caught.value)
    assert str(caught.value).startswith(f"cannot read a place in {url.partition(':')[0]}://…")


@pytest.mark.parametrize("scheme", ["file", "s3", "gs", "az", "oci", "hf"])
@pytest.mark.parametrize("host", ["[::1", "[x]", "a\u2100b"])
def test_a_url_whose_host_is_none_is_refused_wherever_it_stands(scheme, host, workspace):
    url = f"{scheme}://{host}/naval"
    for ask in (refs.parse, workspace.pull, workspace.places.open):
        with pytest.raises(BadReference, match="cannot read the URL") as caught:
            ask(url)
        assert caught.value.why.startswith("its host is none: ")


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True).filter(
    lambda n: n.lower() not in refs._RESERVED and not DEVICE.match(n)
)
selectors = st.one_of(
    st.none(),
    st.integers(1, 10**8).map(lambda n: Selector("number", str(n))),
    names.filter(lambda n: n[0].isalpha()).map(lambda n: Selector("alias", n)),
    st.just(Selector("digest", DIGEST)),
)


@given(names, names, selectors)
def test_a_reference_reads_back_as_it_was_written(team, name, selector):
    for ref in (
        NameRef(f"{team}/{name}", selector),
        UrlRef(f"s3://{team}/{name}", selector),
        RemoteRef(team, name, selector),
    ):
        assert refs.parse(str(ref)) == ref


def test_a_tilde_of_an_unknown_user_is_a_path_like_any_other():
    assert refs.parse("~nobody-of-that-name/x") == refs.PathRef(
        Path("~nobody-of-that-name/x"), "~nobody-of-that-name/x"
    )
    assert refs.parse("~/x") == refs.PathRef(Path.home() / "x", "~/x")


@given(st.text())
def test_no_text_breaks_the_parser(text):
    try:
        refs.parse(text)
    except BadReference as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("naval=0.7", ("naval", 0.7)),
        ("naval@prod=-1e-1", ("naval@prod", -0.1)),
        ("naval", ("naval", 1.0)),
        ("./a=b", ("./a=b", 1.0)),
        ("./a=b=2", ("./a=b", 2.0)),
    ],
)
def test_a_weight_follows_the_last_equals_sign_if_it_reads_as_a_number(text, wanted):
    assert refs.split_weight(text) == wanted


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf", "80%", "half", "1_0", "٣"])
def test_a_weight_that_is_no_finite_number_is_refused(weight):
    with pytest.raises(BadRecipe, match=f"the weight of 'naval' is {weight}"):
        refs.split_weight(f"naval={weight}")
    with pytest.raises(BadRecipe, match="the weight of 'naval' is empty"):
        refs.split_weight("naval=")


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("naval@latest", "naval"),
        ("team/naval@LATEST", "team/naval"),
        ("naval@v3", "naval@3"),
        ("file:///mnt/team/naval@v12", "file:///mnt/team/naval@12"),
        ("team:naval@latest", "team:naval"),
    ],
)
def test_the_latest_version_and_a_number_are_written_in_one_way(text, fix):
    with pytest.raises(BadReference, match="a name alone is its latest version") as caught:
        refs.parse(text)
    assert caught.value.fix == fix


@pytest.mark.parametrize("alias", ["3", "v3", "latest", "sha256", "", "a b", "ä", "x" * 65, "-a"])
def test_an_alias_must_not_read_as_a_version_or_a_reserved_word(alias):
    with pytest.raises(BadReference, match="cannot be an alias"):
        refs.check_alias(alias)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("naval=0.8,medic=0.2", "naval=0.8 medic=0.2"),
        ("naval, medic@2", "naval medic@2"),
        ("naval,medic,", "naval medic"),
    ],
)
def test_references_that_a_comma_joins_are_shown_apart(text, parts):
    with pytest.raises(BadReference, match=f"put blanks between them: {parts}$"):
        refs.weighted([text])


def test_a_weight_with_a_comma_is_shown_with_a_point():
    with pytest.raises(BadRecipe, match="a weight has a point, not a comma") as caught:
        refs.split_weight("medic@prod=0,8")
    assert caught.value.fix == "for example medic@prod=0.8"
