"""adaptkit_plugins.storage.hub: one commit per version whatever the Hub does, and nothing trusted that it returns."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from email.utils import formatdate

import pytest
from artifacts import bundle
from concurrency import killed
from hubs import hub
from loopback_hub import Fault, LoopbackHub

from adaptkit.errors import BadReference, Conflict, Corrupt, NotFound, StorageError
from adaptkit.extend import PushOptions, no_progress
from adaptkit.refs import Selector
from adaptkit.remotes import transfer
from adaptkit.store.content_store import Store
from adaptkit_plugins.storage.file import FileBackend
from adaptkit_plugins.storage.hub import HubBackend

__all__ = ["hub"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
COMMIT = r"POST .*/commit/"
URL = "hf://fleet/naval"


@pytest.fixture
def repo(hub):
    return hub.create("fleet/naval")


@pytest.fixture
def place(repo):
    return HubBackend.open(URL)


@pytest.fixture
def packed(tmp_path):
    """packed("content") → a bundle whose weights differ by content."""

    def make(content, number=1, **more):
        files = {
            CONFIG: b'{"r": 8}',
            WEIGHTS: str(content).encode() * 999,
            "README.md": b"# naval\n",
        } | more
        return bundle(tmp_path / f"src-{content}", files, number)

    return make


def message_of(call, *arguments):
    with pytest.raises((StorageError, Conflict, NotFound, Corrupt, BadReference)) as caught:
        call(*arguments)
    assert "hf_write" not in str(caught.value)
    return str(caught.value)


def commits(repo):
    """The commits of main that brought a version, the oldest first."""
    return [c for c in reversed(list(repo.history("main"))) if "adaptkit-version" in c.message]


# ---------------------------------------------------------------- what is stored there


def test_a_version_is_one_commit_of_a_plain_peft_folder_and_a_tag(place, repo, packed):
    receipt = transfer.push(place, packed("a"))
    (made,) = commits(repo)
    assert set(repo.files()) == {CONFIG, WEIGHTS, "README.md", "adaptkit.json"}
    assert json.loads(repo.files()["adaptkit.json"])["number"] == 1
    assert repo.tags == {"v1": made.oid}
    assert made.title == "v1: a message"
    assert receipt.link.endswith("/fleet/naval/tree/v1")


def test_a_second_version_sends_what_changed_and_drops_what_it_has_not(hub, place, repo, packed):
    transfer.push(place, packed("a", **{"vocab.txt": b"a\n"}))
    repo.commit({"notes.md": b"by hand"})
    before = hub.uploaded()
    second = packed("b", 2)
    receipt = transfer.push(place, second)
    assert receipt.sent == hub.uploaded() - before == len(b"b" * 999)
    assert set(repo.files()) == {CONFIG, WEIGHTS, "README.md", "adaptkit.json", "notes.md"}
    assert "vocab.txt" in repo.files("v1")


def test_an_unchanged_push_sends_no_byte_and_asks_for_no_commit(hub, place, packed):
    transfer.push(place, packed("a"))
    hub.seen.clear()
    assert transfer.push(place, packed("a", 7)).unchanged
    assert {seen.method for seen in hub.seen} == {"GET"}
    assert hub.uploaded() == 0


def test_large_files_go_up_in_parts(hub, place, repo, packed):
    hub.multipart_from = 1 << 20
    transfer.push(place, packed("a", **{WEIGHTS: b"abc" * 999_999}))
    assert sum("/part/" in seen.path for seen in hub.seen) == 3
    assert repo.files("v1")[WEIGHTS] == b"abc" * 999_999


def test_a_repository_is_made_only_when_asked_and_private_when_asked(hub, packed):
    place = HubBackend.open("hf://fleet/new")
    assert "there is no repository fleet/new" in message_of(transfer.push, place, packed("a"))
    assert "--create" in message_of(transfer.push, place, packed("a"))
    assert "--private is for a repository that is being created" in message_of(
        place.asked, PushOptions(private=True)
    )
    transfer.push(place.asked(PushOptions(create=True, private=True)), packed("a"))
    assert hub.repos["fleet/new"].private
    assert [v.number for v in place.list()] == [1]


def test_a_branch_has_versions_of_its_own_and_the_numbers_of_all(place, repo, packed):
    transfer.push(place, packed("a"))
    transfer.push(place.asked(PushOptions(branch="dev")), packed("b"))
    assert repo.head == repo.tags["v1"] != repo.tags["v2"] == repo.branches["dev"]
    assert [v.number for v in place.list()] == [1, 2]
    assert "leave one of --create-pr and --branch" in message_of(
        place.asked, PushOptions(create_pr=True, branch="dev")
    )


def test_a_proposal_has_no_number_and_no_tag_until_it_is_pushed_again(place, repo, packed):
    receipt = transfer.push(place.asked(PushOptions(create_pr=True)), packed("a"), alias="prod")
    assert (receipt.state, receipt.number) == ("proposed", 0)
    assert receipt.link.endswith("/fleet/naval/discussions/1")
    assert repo.tags == {}
    assert place.list() == ()
    repo.branches["main"] = repo.proposals[1]  # somebody merges it
    (merged,) = place.list()
    assert (merged.number, merged.described, merged.manifest.digest) == (
        0,
        True,
        packed("a").manifest.digest,
    )
    again = transfer.push(place, packed("a"))
    assert (again.number, again.unchanged, again.sent) == (1, False, 0)
    assert repo.tags == {"v1": repo.head}


def test_every_other_backend_refuses_the_options_by_name(tmp_path):
    place = FileBackend.open(tmp_path.as_uri())
    assert place.asked(PushOptions()) is place
    for option in ({"create": True}, {"private": True}, {"create_pr": True}, {"branch": "dev"}):
        name = next(iter(option)).replace("_", "-")
        assert f"does not support --{name}: this kind of place" in message_of(
            place.asked, PushOptions(**option)
        )


@pytest.mark.parametrize(
    "url",
    ["hf://a/b/c", "hf://", "hf://../x", "hf://a/..", "hf://a/b--c", "hf://a/.git", "hf://a/b c"],
)
def test_a_url_that_names_no_repository_is_refused(url):
    assert "for example hf://fleet/naval" in message_of(HubBackend.open, url)


def test_an_organisation_is_a_remote_whose_adapters_have_names(hub, packed):
    readme = b"---\ntags:\n- adaptkit\n---\n"
    for name in ("naval", "medic"):
        hub.create(f"fleet/{name}").commit({"README.md": readme})
    hub.create("fleet/whole-model")
    root = HubBackend.open("hf://fleet")
    assert root.names() == ("medic", "naval")
    assert "it names an organisation or a person" in message_of(root.list)


def test_aliases_are_one_file_written_on_the_head_that_was_read(hub, place, repo, packed):
    transfer.push(place, packed("a"))
    hub.faults.add(Fault(COMMIT, before=lambda: repo.commit({"notes.md": b"x"})))
    place.set_alias("prod", 1)
    assert place.aliases() == {"prod": 1}
    assert transfer.choose(place, Selector("alias", "prod")).number == 1
    assert repo.files()["notes.md"] == b"x"
    repo.commit({"refs.json": b"[]"})
    assert "refs.json of hf://fleet/naval cannot be read" in message_of(
        HubBackend.open(URL).aliases
    )


def test_a_probe_reports_what_the_hub_guarantees(hub, place, repo, packed):
    transfer.push(place, packed("a"))
    before = (dict(repo.tags), repo.head)
    promise = place.probe()
    assert (promise.create_only, promise.compare_and_swap) == (True, True)
    assert (repo.tags, repo.head) == before


# ---------------------------------------------------------------- faults while pushing


@pytest.mark.parametrize(
    "fault",
    [
        Fault(COMMIT, done=True, spoil="drop"),
        Fault(COMMIT, done=True, status=500),
        Fault(COMMIT, done=True, status=504),
        Fault(COMMIT, status=503, times=2),
        Fault(COMMIT, status=429, headers={"Retry-After": "7"}),
        Fault(r"GET .*/refs", status=502, times=2),
        Fault(r"GET .*/refs", spoil="drop"),
        Fault(r"POST .*/preupload/", status=503),
        Fault(r"POST .*/objects/batch", status=500),
        Fault(r"PUT /put/", status=500),
        Fault(r"PUT /put/", spoil="drop"),
        Fault(r"POST .*/tag/", done=True, spoil="drop"),
    ],
    ids=lambda f: f"{f.request}-{'done-' if f.done else ''}{f.spoil or f.status}",
)
def test_a_push_ends_in_exactly_one_commit(hub, place, repo, packed, fault):
    hub.faults.add(fault)
    receipt = transfer.push(place, packed("a"))
    assert not hub.faults.left()
    assert (receipt.number, receipt.unchanged) == (1, False)
    assert len(commits(repo)) == 1
    assert repo.tags == {"v1": repo.head}
    assert [v.number for v in HubBackend.open(URL).list()] == [1]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_retry_after_of_a_busy_hub_is_waited_for(hub, place, packed, status, form):
    value = "7" if form == "seconds" else formatdate(time.time() + 8, usegmt=True)
    hub.faults.add(Fault(COMMIT, status=status, headers={"Retry-After": value}))
    transfer.push(place, packed("a"))
    assert not hub.faults.left()
    assert any(6.0 <= pause <= 8.0 for pause in hub.pauses)


def test_a_hub_that_asks_for_an_hour_is_an_error_that_names_it(hub, place, packed):
    hub.faults.add(Fault(COMMIT, status=429, headers={"Retry-After": "3600"}))
    assert "too many requests (429), and the Hub asks to wait 3,600 seconds" in message_of(
        transfer.push, place, packed("b")
    )
    assert not [pause for pause in hub.pauses if pause > 1]


def test_a_lost_proposal_is_found_and_not_made_twice(hub, place, repo, packed):
    hub.faults.add(Fault(COMMIT, done=True, spoil="drop"))
    receipt = transfer.push(place.asked(PushOptions(create_pr=True)), packed("a"))
    assert receipt.link.endswith("/discussions/1")
    assert list(repo.proposals) == [1]


def test_a_writer_who_loses_takes_the_next_number_on_top(hub, place, repo, packed):
    other = HubBackend.open(URL)
    hub.faults.add(Fault(COMMIT, before=lambda: transfer.push(other, packed("theirs"))))
    assert transfer.push(place, packed("mine")).number == 2
    assert [v.manifest.digest for v in place.list()] == [
        packed(c).manifest.digest for c in ("theirs", "mine")
    ]


def test_a_conflict_that_stays_shows_both_heads(hub, place, repo, packed):
    heads = [repo.head]
    hub.faults.add(
        Fault(
            COMMIT,
            times=99,
            before=lambda: heads.append(repo.commit({"notes.md": b"%d" % len(heads)})),
        )
    )
    text = message_of(transfer.push, place, packed("a"))
    assert "somebody pushed to hf://fleet/naval first" in text
    assert f"was {heads[-2][:12]}, it is {heads[-1][:12]} now" in text
    assert commits(repo) == []


def test_a_head_that_lags_is_looked_at_until_it_shows(hub, place, repo, packed):
    transfer.push(place, packed("a"))
    hub.lag("fleet/naval", times=3)
    transfer.push(HubBackend.open(URL), packed("a"))  # sees it all the same
    hub.lag("fleet/naval", times=4)
    repo.commit({"notes.md": b"x"})
    assert transfer.push(HubBackend.open(URL), packed("b")).number == 2
    assert len(commits(repo)) == 2


def test_an_own_commit_that_a_lagging_head_hides_is_not_made_twice(hub, place, repo, packed):
    hub.faults.add(
        Fault(COMMIT, done=True, spoil="drop", before=lambda: hub.lag("fleet/naval", times=2))
    )
    assert transfer.push(place, packed("a")).number == 1
    assert len(commits(repo)) == 1


def test_a_head_that_never_shows_is_a_conflict_with_that_reason(hub, place, repo, packed):
    hub.lag("fleet/naval", times=99)
    repo.commit({"notes.md": b"x"})
    assert "the Hub refuses the commit and does not show what came since" in message_of(
        place.push, packed("a"), ()
    )


def test_a_tag_that_was_never_set_is_set_by_the_next_writer(hub, place, repo, packed):
    hub.faults.add(Fault(r"POST .*/tag/", status=500))
    first = transfer.push(place, packed("a"))
    assert first.number == 1
    assert repo.tags == {}
    repo.commit({"notes.md": b"by hand"})
    assert [(v.number, v.revision) for v in place.list()] == [(1, commits(repo)[0].oid)]
    assert transfer.push(HubBackend.open(URL), packed("b")).number == 2
    assert repo.tags == {"v1": commits(repo)[0].oid, "v2": commits(repo)[1].oid}


def test_a_number_that_another_branch_took_meanwhile_is_given_up(hub, place, repo, packed):
    def race():
        transfer.push(HubBackend.open(URL).asked(PushOptions(branch="dev")), packed("theirs"))

    hub.faults.add(Fault(COMMIT, before=race))
    assert transfer.push(place, packed("mine")).number == 2
    assert {v.number: v.manifest.digest for v in place.list()} == {
        1: packed("theirs").manifest.digest,
        2: packed("mine").manifest.digest,
    }


def test_a_hub_that_stays_down_is_named_and_nothing_is_left(hub, place, repo, packed):
    hub.faults.add(Fault(COMMIT, status=503, times=99))
    assert "cannot write hf://fleet/naval: the Hub returned 503 again and again" in message_of(
        transfer.push, place, packed("a")
    )
    assert commits(repo) == []
    assert len(hub.pauses) < 20


def test_a_refused_card_is_an_error_in_the_words_of_the_hub(hub, place, packed):
    body = json.dumps(
        {"errors": [{"message": "license \x1b[31m is unknown"}], "warnings": []}
    ).encode()
    hub.faults.add(Fault("validate-yaml", status=400, body=body))
    text = message_of(transfer.push, place, packed("a"))
    assert "license [31m is unknown" in text
    assert "fix the front matter of README.md" in text


def test_a_silent_hub_is_a_timeout(hub, monkeypatch, repo, packed):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.faults.add(Fault(r"GET .*/refs", times=99, spoil="hang"))
    assert "took too long to respond" in message_of(HubBackend.open(URL).list)


def test_a_commit_that_hangs_after_it_landed_is_found(hub, monkeypatch, repo, packed):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    made = packed("a")
    hub.faults.add(Fault(COMMIT, done=True, spoil="hang"))
    assert transfer.push(HubBackend.open(URL), made).number == 1
    assert len(commits(repo)) == 1


def test_a_server_that_is_not_a_hub_is_an_error_that_names_it(hub, place, repo):
    hub.faults.add(Fault(r"GET .*/refs", times=9, status=200, body=b"<html>hotel wifi</html>"))
    assert "is not what a Hub returns" in message_of(place.list)


def test_an_unreachable_hub_is_named_without_its_password(hub, monkeypatch):
    with LoopbackHub() as gone:
        pass
    monkeypatch.setenv("HF_ENDPOINT", gone.url.replace("http://", "http://ada:secret@"))
    text = message_of(HubBackend.open(URL).list)
    assert "cannot reach http://127.0.0.1:" in text
    assert "secret" not in text


def test_a_push_that_is_killed_leaves_the_old_state_or_the_new_one(hub, packed):
    made = packed("a", **{WEIGHTS: b"abc" * 99_999})
    interrupted = 0
    for number, after in enumerate(step / 100 for step in range(1, 25, 3)):
        repo, url = hub.create(f"fleet/killed-{number}"), f"hf://fleet/killed-{number}"
        interrupted += killed(lambda url=url: transfer.push(HubBackend.open(url), made), after)
        assert [placed.manifest.digest for placed in HubBackend.open(url).list()] in (
            [],
            [made.manifest.digest],
        )
        assert transfer.push(HubBackend.open(url), made).number == 1
        assert len(commits(repo)) == 1
        assert repo.tags == {"v1": repo.head}
    assert interrupted


# ---------------------------------------------------------------- who may


@pytest.mark.parametrize(
    ("token", "how", "words"),
    [
        ("", {"private": True}, "there is no repository fleet/naval, or it is private"),
        ("hf_other", {}, "the Hub does not accept the token (401)"),
        ("hf_read", {}, "your token may not do that (403)"),
    ],
)
def test_a_push_without_permission_names_the_reason(hub, monkeypatch, packed, token, how, words):
    hub.create("fleet/naval", **how)
    monkeypatch.setenv("HF_TOKEN", token)
    text = message_of(transfer.push, HubBackend.open(URL), packed("a"))
    assert words in text
    assert "hf auth login" in text
    assert "hf_" not in text


def test_a_gated_repository_shows_where_to_request_access(
    hub, monkeypatch, place, repo, packed, tmp_path
):
    transfer.push(place, packed("a"))
    repo.gated = True
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    text = message_of(HubBackend.open(URL).version)
    assert "it is gated" in text
    assert f"ask for access at {hub.url}/fleet/naval" in text


def test_a_revision_that_is_not_there_is_named(place, packed):
    transfer.push(place, packed("a"))
    assert "revision" in message_of(place.at_revision, "nowhere")
    assert "no version in hf://fleet/naval called '9': known is 1" in message_of(place.version, 9)


def test_offline_opens_no_socket(hub, monkeypatch, place):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, so no request is sent to the Hub" in message_of(place.list)
    assert hub.seen == []


def test_the_plugin_costs_nothing_until_it_is_used():
    code = "import sys, adaptkit_plugins.storage.hub; print(*(m for m in sys.modules if m.startswith(('huggingface', 'httpx'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# ---------------------------------------------------------------- faults while pulling

FILE = r"GET /get/.*safetensors"


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(FILE, spoil="truncate")],
        [Fault(FILE, spoil="truncate"), Fault(FILE, spoil="truncate")],
        [Fault(FILE, spoil="truncate"), Fault(FILE, spoil="no-range")],
        [Fault(FILE, spoil="truncate"), Fault(FILE, spoil="short-range")],
        [Fault(FILE, spoil="truncate", times=9)],
        [Fault(FILE, spoil="drop"), Fault(FILE, status=500), Fault(FILE, status=429)],
    ],
    ids=lambda f: "+".join(one.spoil or str(one.status) for one in f),
)
def test_a_download_is_finished_whatever_breaks_it_off(hub, place, packed, tmp_path, faults):
    transfer.push(place, packed("a"))
    for fault in faults:
        hub.faults.add(fault)
    arrived = []
    manifest = transfer.fetch(place, place.version(), Store(tmp_path / "store"), arrived.append)
    assert not hub.faults.left()
    assert manifest.digest == packed("a").manifest.digest
    assert sum(arrived) == sum(f.size for f in packed("a").files)


def test_what_broke_off_is_resumed_and_not_fetched_again(hub, place, packed, tmp_path):
    transfer.push(place, packed("a"))
    hub.faults.add(Fault(FILE, spoil="truncate"))
    transfer.fetch(place, place.version(), Store(tmp_path / "store"))
    assert [seen.range for seen in hub.seen if seen.origin == "store" and seen.method == "GET"] == [
        "",
        "bytes=499-",
    ]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("corrupt", "expected sha256"),
        ("long", "is longer than it should be"),
    ],
)
def test_other_bytes_are_found_and_not_kept(hub, place, packed, tmp_path, spoil, words):
    transfer.push(place, packed("a"))
    hub.faults.add(Fault(FILE, times=9, spoil=spoil))
    store = Store(tmp_path / "store")
    assert words in message_of(transfer.fetch, place, place.version(), store)
    assert store.digests() == ()


def test_a_poisoned_cache_of_the_hub_client_is_not_looked_at(hub, place, repo, packed, tmp_path):
    from huggingface_hub import constants, hf_hub_download

    transfer.push(place, packed("a"))
    path = hf_hub_download(
        "fleet/naval", WEIGHTS, revision="v1", endpoint=hub.url, cache_dir=constants.HF_HUB_CACHE
    )
    with open(path, "wb") as file:
        file.write(b"poison")
    manifest = transfer.fetch(place, place.version(), Store(tmp_path / "store"))
    assert manifest.digest == packed("a").manifest.digest


def test_a_download_that_trickles_is_given_up(hub, place, packed, tmp_path, monkeypatch):
    from adaptkit.io.http import limits as http_limits

    transfer.push(place, packed("a"))
    monkeypatch.setattr(http_limits, "GRACE", 0.1)
    hub.faults.add(Fault(FILE, times=9, spoil="trickle"))
    text = message_of(transfer.fetch, place, place.version(), Store(tmp_path / "store"))
    assert "comes at" in text
    assert "bytes a second" in text


def test_the_token_goes_to_the_hub_and_nowhere_else(hub, place, packed, tmp_path):
    transfer.push(place, packed("a"))
    transfer.fetch(place, place.version(), Store(tmp_path / "store"))
    assert {seen.authorization for seen in hub.seen if seen.origin == "hub"} == {"Bearer hf_write"}
    assert {seen.authorization for seen in hub.seen if seen.origin == "store"} == {""}


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("file:///etc/passwd", "to a file: address"),
        (
            "http://169.254.169.254/latest/meta-data",
            "to 169.254.169.254, which only this machine can reach",
        ),
        ("http://0.0.0.0/x", "to 0.0.0.0, which only this machine can reach"),
        ("http://2852039166/latest", "to 169.254.169.254, which only this machine can reach"),
        ("http://[::ffff:169.254.169.254]/x", "to 169.254.169.254, which only this machine"),
        ("http://[::1", "to a nameless: address"),
    ],
)
def test_a_redirect_to_where_no_hub_points_is_refused(hub, place, packed, tmp_path, where, words):
    transfer.push(place, packed("a"))
    hub.faults.add(Fault(r"GET .*/resolve/.*safetensors", redirect=where))
    text = message_of(transfer.fetch, place, place.version(), Store(tmp_path / "store"))
    assert words in text
    assert "do not trust that Hub" in text


def test_redirects_without_end_are_given_up(hub, place, packed, tmp_path):
    transfer.push(place, packed("a"))
    hub.faults.add(
        Fault(
            r"GET .*/resolve/.*safetensors",
            times=99,
            redirect=f"{hub.url}/fleet/naval/resolve/main/{WEIGHTS}",
        )
    )
    assert "from one address to the next" in message_of(
        transfer.fetch, place, place.version(), Store(tmp_path / "store")
    )


# ---------------------------------------------------------------- what others do to a repository


def test_a_tag_that_was_moved_is_not_believed(place, repo, packed):
    for content in ("a", "b"):
        transfer.push(place, packed(content))
    repo.tags["v1"] = repo.tags["v2"]
    fresh = HubBackend.open(URL)
    assert [v.number for v in fresh.list()] == [2]
    assert "the tag v1 of hf://fleet/naval cannot be trusted: somebody moved it" in message_of(
        fresh.version, 1
    )
    assert transfer.push(fresh, packed("a")).number == 3


def test_a_rewritten_branch_takes_no_version_away(place, repo, packed):
    for content in ("a", "b"):
        transfer.push(place, packed(content))
    repo.branches["main"] = repo.tags["v1"]
    fresh = HubBackend.open(URL)
    assert [v.number for v in fresh.list()] == [1, 2]
    assert transfer.push(fresh, packed("c")).number == 3


def test_a_readme_that_people_edit_afterwards_harms_no_version(place, repo, packed, tmp_path):
    transfer.push(place, packed("a"))
    repo.commit({"README.md": b"# better words\n"})
    assert (
        transfer.fetch(place, place.version(), Store(tmp_path / "one")).digest
        == packed("a").manifest.digest
    )
    there = place.at_revision("main")
    assert (there.number, there.manifest.extras) == (1, ())
    assert (
        transfer.fetch(place, there, Store(tmp_path / "two")).digest == packed("a").manifest.digest
    )


def test_weights_that_people_replace_are_another_adapter_at_that_revision(place, repo, packed):
    transfer.push(place, packed("a"))
    head = repo.commit({WEIGHTS: b"other"})
    assert place.version().manifest.digest == packed("a").manifest.digest
    there = transfer.choose(place, Selector("rev", "main"))
    assert (there.number, there.described, there.revision) == (0, False, head)
    assert there.manifest.facts["found"] == {
        "place": URL,
        "revision": head,
        "made_by": "not adaptkit",
    }


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"number": "x"}',
        b'{"schema": 99, "number": 1}',
        b"[" * 100_000,
        b'{"number": 1, "x": NaN}',
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_believed_is_refused_with_its_reason(place, repo, packed, data):
    transfer.push(place, packed("a"))
    repo.tags["v2"] = repo.commit({"adaptkit.json": data[:200_000]})
    fresh = HubBackend.open(URL)
    assert [v.number for v in fresh.list()] == [1]
    assert "cannot be trusted" in message_of(fresh.version, 2)


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "/etc/x",
        "a\\b",
        "C:/x",
        "a\0b",
        ".git/config",
        "x.",
        "x ",
        "//unc/x",
        "README.MD/x/../y",
        "adaptkit.json",
        "ADAPTER_config.json",
    ],
)
def test_a_path_that_leads_out_is_refused_before_anything_is_written(
    place, repo, packed, tmp_path, path
):
    content = packed("a").placed.to_json()
    content["extras"] = [{"path": path, "size": 1, "sha256": "0" * 64}]
    repo.tags["v1"] = repo.commit({"adaptkit.json": json.dumps(content).encode(), CONFIG: b"{}"})
    assert "cannot be trusted" in message_of(place.version, 1)
    assert list(tmp_path.rglob("evil")) == []


def test_a_repository_of_another_kind_holds_no_adapter(place, repo):
    repo.commit({"model.safetensors": b"x", "config.json": b"{}"})
    assert place.list() == ()
    assert "this is something else" in message_of(place.at_revision, "main")


def test_files_that_are_too_many_are_not_listed(place, repo, monkeypatch):
    from adaptkit_plugins.storage.hub import history

    monkeypatch.setattr(history, "_MOST_FILES", 10)
    repo.commit({f"{n}.txt": b"x" for n in range(20)})
    assert "it holds more than 10 files" in message_of(place.list)


def test_a_file_that_shrank_on_the_server_is_corrupt(hub, place, repo, packed, tmp_path):
    transfer.push(place, packed("a"))
    placed = place.version()
    repo.rot("v1", WEIGHTS, b"short")
    into = tmp_path / "into"
    into.mkdir()
    assert "RemoteProtocolError" in message_of(
        place.pull, placed, placed.manifest.files, into, no_progress
    )


def test_a_file_that_is_gone_from_its_commit_is_named_as_missing(
    hub, place, repo, packed, tmp_path
):
    transfer.push(place, packed("a"))
    placed = place.version()
    hub.faults.add(Fault(r"GET .*/resolve/", status=404, headers={"X-Error-Code": "EntryNotFound"}))
    assert "a file that should be there is not" in message_of(
        transfer.fetch, place, placed, Store(tmp_path / "store")
    )


def test_a_disk_that_cannot_be_written_is_not_blamed_on_the_hub(place, packed, tmp_path):
    transfer.push(place, packed("a"))
    placed = place.version()
    (tmp_path / WEIGHTS).touch()
    text = message_of(place.pull, placed, placed.manifest.files, tmp_path, no_progress)
    assert "cannot save what comes from hf://fleet/naval: File exists" in text
    assert "check that the disk has room" in text


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            Fault(
                "GET .*/refs", status=418, headers={"X-Error-Message": "I am a\tteapot \x1b[31m"}
            ),
            "the Hub returned 418: I am a teapot [31m",
        ),
        (
            Fault("GET .*/refs", redirect="file:///etc/passwd"),
            "redirects to a file: address",
        ),
        (Fault("GET .*/refs", status=403), "your token may not do that (403)"),
        (Fault("GET .*/refs", status=200, body=b"{}"), "is not what a Hub returns (KeyError)"),
    ],
)
def test_any_other_response_of_a_hub_is_one_error(hub, place, fault, words):
    hub.faults.add(fault)
    assert words in message_of(place.list)


@pytest.mark.parametrize("url", ["hf://hf_abcdefghijklmnop@org", "hf://hf_abcdefghijklmnop/x/y"])
def test_a_token_in_a_url_is_never_repeated(url):
    with pytest.raises(StorageError, match="cannot read a place in hf://…") as caught:
        HubBackend.open(url)
    assert "abcdef" not in str(caught.value)


def test_a_broken_token_is_found_in_the_cache_that_xdg_names(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_bytes(b"a\x1bb")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(StorageError, match="huggingface/token does not hold a token"):
        HubBackend.open("hf://fleet/naval").version()
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    with pytest.raises(
        StorageError
    ) as caught:  # the token of the environment comes first; there is no Hub
        HubBackend.open("hf://fleet/naval").version()
    assert "does not hold a token" not in str(caught.value)
