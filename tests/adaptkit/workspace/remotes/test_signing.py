"""adaptkit.workspace.remotes.signing, and what a policy lets in: every refusal, with real keys and places that were tampered with."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from homes import copied
from keypairs import key_pair

from adaptkit import Workspace
from adaptkit.errors import AdaptkitError, Refused, StorageError
from adaptkit.extend.attachments import folder
from adaptkit.signing.signatures import BUNDLE, KIND
from adaptkit.types import FileEntry, artifact_digest


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    made = tmp_path_factory.mktemp("keys")
    return {name: key_pair(made, name) for name in ("ada", "bo")}


@pytest.fixture
def team(tmp_path):
    return (tmp_path / "team").as_uri()


@pytest.fixture(scope="module")
def made(lora_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signing") / "home"
    with Workspace.init(folder) as workspace:
        workspace.add(lora_pair[0], "naval", message="first")
        workspace.add(lora_pair[1], "medic")
    return folder


@pytest.fixture
def filled(made, team, tmp_path):
    with copied(made, tmp_path / "home") as opened:
        opened.set_remote("team", team)
        yield opened


@pytest.fixture
def policy(tmp_path, pairs):
    """policy(require=…, rules=…) → a policy's file that knows ada by her file and bo by his fingerprint."""

    def write(require=True, rules=(("*", "*", "ada"),)):
        shutil.copy(pairs["ada"].public, tmp_path / "ada.pub")
        lines = [
            f"require = {str(require).lower()}",
            "[keys]",
            'ada = "ada.pub"',
            f'bo = "{pairs["bo"].fingerprint}"',
        ]
        for names, places, who in rules:
            lines += [
                "[[rules]]",
                f'names = ["{names}"]',
                f'places = ["{places}"]',
                f'keys = ["{who}"]',
            ]
        (tmp_path / "policy.toml").write_text("\n".join(lines))
        return tmp_path / "policy.toml"

    return write


@pytest.fixture
def reader(tmp_path, team, policy):
    """Another workspace, whose config.toml names the policy."""
    home, noticed = tmp_path / "reader" / ".adaptkit", []
    home.mkdir(parents=True)
    (home / "config.toml").write_text(
        f'[policy]\nfile = "../../policy.toml"\n[remotes]\nteam = "{team}"\n'
    )
    policy()
    with Workspace.open(home, notify=noticed.append) as opened:
        opened.noticed = noticed
        yield opened


def published(workspace, pairs, ref="naval", who="ada"):
    if who:
        workspace.sign(ref, pairs[who].private)
    workspace.push(ref, "team")


def tampered(tmp_path, change, name="naval", number=1):
    """Change an `adaptkit.json` in the place as somebody who can write there may, digest and all."""
    file = tmp_path / "team" / name / f"v{number}" / "adaptkit.json"
    table = json.loads(file.read_text())
    change(table)
    table["digest"] = artifact_digest(FileEntry(**entry) for entry in table["files"])
    file.write_text(json.dumps(table))


def nothing_registered(workspace):
    return workspace.list() == () and not list((workspace.store.root / "objects").glob("??/*"))


# ---------------------------------------------------------------- what holds


def test_a_signature_travels_with_push_and_pull_and_leaves_the_digest_alone(
    filled, reader, pairs, policy
):
    before = filled.version("naval").digest
    signed = filled.sign("naval", pairs["ada"].private)
    assert (signed.ref, signed.digest, signed.key, signed.created) == (
        "naval@1",
        before,
        pairs["ada"].fingerprint,
        True,
    )
    assert not filled.sign("naval", pairs["ada"].private).created
    receipt = filled.push("naval", "team").receipt
    assert receipt.digest == before
    pulled = reader.pull("team:naval")
    assert pulled.version.digest == before
    assert reader.noticed == []
    for ref in ("naval", "team:naval", "team:naval@1"):
        found = reader.verify_signature(ref, policy=policy())
        assert (found.key, found.fingerprint) == ("ada", pairs["ada"].fingerprint)
        assert reader.verify_signature(ref, key=pairs["ada"].public).key == "ada.pub"
    assert [event.verb for event in filled.events("naval")].count("signed") == 1


def test_what_was_pulled_signed_is_pushed_on_signed(filled, reader, pairs, tmp_path, policy):
    published(filled, pairs)
    reader.pull("team:naval")
    mirror = (tmp_path / "mirror").as_uri()
    reader.push("naval", f"{mirror}/naval")
    assert reader.verify_signature(f"{mirror}/naval", policy=policy()).key == "ada"


def test_a_version_that_was_pushed_before_it_was_signed_is_signed_by_the_next_push(
    filled, reader, pairs, tmp_path
):
    published(filled, pairs, who=None)
    with pytest.raises(Refused):
        reader.pull("team:naval")
    published(filled, pairs)
    for _ in range(2):
        assert filled.push("naval", "team").receipt.unchanged
    assert len(list((tmp_path / "team" / "naval" / folder(1, KIND)).iterdir())) == 1
    assert reader.pull("team:naval").created


def test_any_of_several_signatures_may_be_the_one_that_counts(filled, reader, pairs, policy):
    filled.sign("naval", pairs["bo"].private)
    published(filled, pairs, who="ada")
    assert reader.pull("team:naval").created
    policy(rules=[("*", "*", "bo")])
    assert reader.verify_signature("naval", policy=policy(rules=[("*", "*", "bo")])).key == "bo"


def test_a_member_of_the_team_checks_what_another_signed_and_pushed(filled, pairs, policy):
    """Two workspaces may share a registry, and not a store: here the store has lost its signatures."""
    published(filled, pairs)
    shutil.rmtree(filled.store.root / "signatures")
    assert filled.verify_signature("naval", policy=policy()).key == "ada"
    assert (filled.store.root / "signatures").is_dir()


def test_a_policy_that_requires_nothing_warns(filled, reader, pairs, policy):
    policy(require=False)
    published(filled, pairs, who=None)
    assert reader.pull("team:naval").created
    (notice,) = reader.noticed
    assert "is not signed: policy.toml wants a signature of 'naval' by ada" in notice


# ---------------------------------------------------------------- what is refused


def test_an_unsigned_version_is_refused_before_a_byte_is_fetched(filled, reader, pairs, team):
    published(filled, pairs, who=None)
    message = f"{team}/naval@1 is not signed: policy.toml wants a signature of 'naval' by ada\n  ask who pushed it: adaptkit sign naval"
    with pytest.raises(Refused) as caught:
        reader.pull("team:naval")
    assert str(caught.value).startswith(message)
    assert nothing_registered(reader)
    with pytest.raises(Refused, match="naval@1 is not signed"):
        filled.verify_signature("naval", key=pairs["ada"].public)


def test_a_sync_brings_only_what_the_policy_lets_in(filled, reader, pairs, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "adaptkit.toml").write_text(
        '[adapters]\nnaval = "team:naval@1"\nmedic = "team:medic@1"\n'
    )
    published(filled, pairs)
    published(filled, pairs, ref="medic", who=None)
    with pytest.raises(
        AdaptkitError, match=r"medic@1 is not signed: policy.toml wants a signature"
    ):
        reader.sync(project)
    assert [version.name for version in reader.list()] in (["naval"], [])
    published(filled, pairs, ref="medic")
    reader.sync(project)
    assert {version.name for version in reader.list()} == {"naval", "medic"}


def test_a_mirror_takes_the_signatures_along(filled, reader, pairs, tmp_path):
    published(filled, pairs)
    mirror = (tmp_path / "mirror").as_uri()
    filled.mirror("team", mirror)
    filled.mirror("team", mirror)
    reader.pull(f"{mirror}/naval")
    assert reader.verify_signature("naval", key=pairs["ada"].public).key == "ada.pub"


def test_a_mirror_reviews_what_it_sends(filled, team, tmp_path, lora_pair):
    folder = shutil.copytree(lora_pair[0], tmp_path / "leaky")
    (folder / "README.md").write_text("# naval\ntoken: hf_" + "a1B2" * 9 + "\n")
    home = tmp_path / "careless" / ".adaptkit"
    home.mkdir(parents=True)
    (home / "config.toml").write_text('[review]\ndisable = ["secrets", "paths"]\n')
    with Workspace.open(home, notify=lambda _: None) as careless:
        careless.add(folder, "leak")
        careless.push("leak", f"{team}/leak")
    with pytest.raises(StorageError, match="line 2 of README.md holds a Hugging Face token"):
        filled.mirror("team:leak", (tmp_path / "mirror").as_uri() + "/leak")


def test_the_wrong_key_is_refused(filled, reader, pairs):
    published(filled, pairs, who="bo")
    with pytest.raises(
        Refused,
        match="is signed by a key that may not: bo signed it, and policy.toml lets ada sign 'naval'",
    ):
        reader.pull("team:naval")
    assert nothing_registered(reader)
    with pytest.raises(
        Refused,
        match="the unknown key sha256:.* signed it, and --key ada.pub lets ada.pub sign 'naval' here",
    ):
        filled.verify_signature("naval", key=pairs["ada"].public)


def test_a_key_counts_for_its_names_and_places_only(filled, reader, pairs, policy, team):
    published(filled, pairs, who="bo")
    for names, places in (("medic", "*"), ("fleet/*", "*"), ("*", "s3://fleet/*"), ("*", "local")):
        policy(rules=[("*", "*", "ada"), (names, places, "bo")])
        reader.__dict__.pop("_policy", None)
        with pytest.raises(Refused, match="bo signed it, and policy.toml lets ada sign"):
            reader.pull("team:naval")
    policy(rules=[("medic", "*", "ada")])
    reader.__dict__.pop("_policy", None)
    with pytest.raises(
        Refused, match="is refused: policy.toml lets no key sign 'naval' in file:.*\n  add a rule"
    ):
        reader.pull("team:naval")
    policy(rules=[("na*", f"{team}/*", "bo")])
    reader.__dict__.pop("_policy", None)
    assert reader.pull("team:naval").created


def _remove(table):
    table["files"] = [entry for entry in table["files"] if entry["path"] != "adapter_config.json"]


def _add(table):
    table["files"].append({"path": "handler.py", "size": 1, "sha256": sha256(b"x").hexdigest()})


def _change(table):
    table["files"][0]["sha256"] = sha256(b"other").hexdigest()


def _base(table):
    table["base"] = {
        "name": "fleet/boat",
        "levels": {"as1": {"value": "as1:" + "0" * 64, "measured": True}},
    }


CHANGES = [
    (_remove, "the file 'adapter_config.json' was removed after it was signed"),
    (_add, "the file 'handler.py' was added after it was signed"),
    (_change, "the file '.*' was changed after it was signed"),
    (_base, "it was signed for the base '.*' .* and says 'fleet/boat' \\(as1:000"),
    (
        lambda table: table.update(name="medic"),
        "it was signed as 'naval' and is stored as 'medic'",
    ),
    (
        lambda table: table.update(parents=[{"digest": "sha256:" + "1" * 64}]),
        "its parents in adaptkit.json is not what was signed",
    ),
    (
        lambda table: table.update(recipe={"a": 1}, rank=9),
        "its rank, recipe in adaptkit.json are not what was signed",
    ),
    (
        lambda table: table.update(facts={"forced": []}, created="x"),
        "its facts, time of making in adaptkit.json are not",
    ),
]


@pytest.mark.parametrize(("change", "notice"), CHANGES, ids=[notice for _, notice in CHANGES])
def test_what_was_changed_after_it_was_signed_is_refused(
    change, notice, filled, reader, pairs, tmp_path, policy
):
    published(filled, pairs)
    tampered(tmp_path, change)
    for work in (
        lambda: reader.pull(f"{reader.config.remote('team')}/naval"),
        lambda: reader.verify_signature("team:naval", policy=policy()),
    ):
        with pytest.raises(
            Refused,
            match=f"is not what was signed: .*ada's signature is of something else: .*{notice}",
        ) as caught:
            work()
        assert "trust neither the place nor what is there" in str(caught.value)
    assert nothing_registered(reader)


def test_message_and_readme_are_not_of_the_artifact_and_may_change(filled, reader, pairs, tmp_path):
    published(filled, pairs)
    tampered(tmp_path, lambda table: table.update(message="other", author="eve", extras=[]))
    assert reader.pull("team:naval").created


def test_a_whole_version_replayed_in_the_place_of_another_name_is_refused(
    filled, reader, pairs, tmp_path
):
    published(filled, pairs)
    shutil.copytree(tmp_path / "team" / "naval", tmp_path / "team" / "medic")
    with pytest.raises(Refused, match="'medic' was asked for, and this was signed as 'naval'"):
        reader.pull("team:medic")
    tampered(tmp_path, lambda table: table.update(name="medic"), name="medic")
    with pytest.raises(Refused, match="it was signed as 'naval' and is stored as 'medic'"):
        reader.pull("team:medic")
    assert nothing_registered(reader)


def test_a_signature_of_another_version_does_not_cover_this_one(
    filled, reader, pairs, tmp_path, lora_pair
):
    published(filled, pairs)
    filled.add(lora_pair[1], "naval", new_version=True)
    filled.push("naval", "team")
    place = tmp_path / "team" / "naval"
    shutil.copytree(place / "v1.attached", place / "v2.attached")
    with pytest.raises(
        Refused, match="naval@2 is not what was signed: .*was changed after it was signed"
    ):
        reader.pull("team:naval@2")
    assert reader.pull("team:naval@1").created


def test_a_forged_signature_differs_from_one_of_something_else(filled, reader, pairs, tmp_path):
    published(filled, pairs)
    (file,) = (tmp_path / "team" / "naval" / folder(1, KIND)).glob(f"*/{BUNDLE}")
    bundle = json.loads(file.read_text())
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = "MEUCIQ=="
    file.write_text(json.dumps(bundle))
    with pytest.raises(
        Refused, match="the signature in the name of ada does not hold: that key did not make it"
    ):
        reader.pull("team:naval")
    file.unlink()
    with pytest.raises(Refused, match="is not signed"):
        reader.pull("team:naval")


def test_a_merge_from_a_place_and_a_rebuild_obey_the_policy_too(
    filled, reader, pairs, lora_pair, tmp_path
):
    published(filled, pairs, who=None)
    with pytest.raises(Refused, match="is not signed"):
        reader.merge(["team:naval", str(lora_pair[1])], out=tmp_path / "merged")
    with pytest.raises(Refused, match="is not signed"):
        reader.rebuild("team")
    assert nothing_registered(reader)


def test_bytes_that_are_not_what_was_signed_are_refused_as_ever(filled, reader, pairs, tmp_path):
    published(filled, pairs)
    weights = tmp_path / "team" / "naval" / "v1" / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(bytes(reversed(weights.read_bytes())))
    with pytest.raises(AdaptkitError, match="is corrupt"):
        reader.pull("team:naval")
    assert reader.list() == ()


# ---------------------------------------------------------------- what cannot be done


def test_a_version_that_changed_since_it_was_signed_goes_without_and_says_so(
    filled, pairs, tiny_llama, lora_pair, tmp_path
):
    source = shutil.copytree(lora_pair[0], tmp_path / "source")
    (
        source / "README.md"
    ).unlink()  # it names the folder of the base, which a review keeps from leaving
    config = json.loads((source / "adapter_config.json").read_text()) | {
        "base_model_name_or_path": "fleet/ship"
    }
    (source / "adapter_config.json").write_text(json.dumps(config))
    assert filled.add(source, "naval", new_version=True).version.number == 2
    filled.sign("naval", pairs["ada"].private)
    filled.verify_base("naval", tiny_llama)
    filled.push("naval", "team")
    assert any(
        "naval@2 goes without its signature, which no longer fits: it was signed for the base"
        in text
        and "adaptkit sign naval@2 --key PRIVATE" in text
        for text in filled.noticed
    )
    with pytest.raises(Refused, match="it was signed for the base '.*' .* and says '.*verified"):
        filled.verify_signature("naval", key=pairs["ada"].public)
    assert filled.sign("naval", pairs["ada"].private).created
    filled.push("naval", "team")
    assert filled.verify_signature("team:naval", key=pairs["ada"].public).key == "ada.pub"


def test_a_place_that_keeps_no_signatures_gets_the_version_and_the_warning(
    filled, pairs, monkeypatch
):
    from adaptkit.extend import StorageBackend
    from adaptkit_plugins.storage.file import FileBackend

    monkeypatch.setattr(FileBackend, "attach", StorageBackend.attach)
    published(filled, pairs)
    (notice,) = filled.noticed
    assert "without its signature: file:" in notice
    assert "does not keep signatures: this kind of place cannot store them" in notice


def test_impossible_signing_and_verifying_are_refused(filled, pairs, policy):
    with pytest.raises(AdaptkitError, match="it takes a policy or a key, and one of them"):
        filled.verify_signature("naval")
    with pytest.raises(AdaptkitError, match="no adapter called 'nava'"):
        filled.sign("nava", pairs["ada"].private)


def test_a_policy_that_cannot_be_read_lets_nothing_in(filled, reader, pairs, tmp_path):
    published(filled, pairs)
    (tmp_path / "policy.toml").unlink()
    with pytest.raises(AdaptkitError, match="policy.toml"):
        reader.pull("team:naval")
    assert nothing_registered(reader)
    assert isinstance(reader.config.policy, Path)
