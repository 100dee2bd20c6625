"""Places of every kind beside each other: mirrored, locked, checked, merged and baked from, by URL."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import pytest
import tiny
from hubs import hub

from adaptkit import Workspace
from adaptkit.errors import Refused
from adaptkit.extend import PushOptions
from adaptkit.project.requirements import PROJECT

__all__ = ["hub"]
CREATE = PushOptions(create=True)


@pytest.fixture
def roots(tmp_path, moto, registry, hub, use):
    """A root of places of each kind, by scheme."""
    return {
        "file": f"file://{tmp_path}/team",
        "s3": f"s3://{use(moto)}",
        "oci": f"oci://{registry.host}/team-{secrets.token_hex(4)}",
        "hf": "hf://fleet",
    }


@pytest.fixture
def team(workspace, lora_pair, tmp_path, roots):
    """Three versions of `naval` (`prod` is the second) in a folder."""
    for number in (1, 2, 3):
        source = tiny.edit_config(
            shutil.copytree(lora_pair[0], tmp_path / f"made-{number}"), lora_alpha=number
        )
        workspace.add(source, "naval", alias="prod" if number == 2 else None)
        workspace.push("naval@prod" if number == 2 else "naval", f"{roots['file']}/naval")
    for scheme, url in roots.items():
        workspace.set_remote(scheme, url)
    return workspace


def held(ws, url):
    place = ws.places.open(url)
    return {p.number: p.manifest.digest for p in place.list()}, dict(place.aliases())


def test_versions_numbers_and_aliases_go_around_through_every_kind_of_place(team, roots, tmp_path):
    team.set_remote("back", f"file://{tmp_path}/back")
    for source, target in [("file", "s3"), ("s3", "oci"), ("oci", "hf"), ("hf:naval", "back")]:
        report = team.mirror(source, target, options=CREATE if target == "hf" else None)
        assert [(one.number, one.became) for one in report.versions] == [(1, 1), (2, 2), (3, 3)]
        assert all(one.unchanged for one in team.mirror(source, target).versions)
    numbers, aliases = held(team, f"{roots['file']}/naval")
    assert aliases == {"prod": 2}
    for url in (
        *(f"{roots[scheme]}/naval" for scheme in ("s3", "oci", "hf")),
        f"file://{tmp_path}/back/naval",
    ):
        assert held(team, url) == (numbers, aliases)


@pytest.mark.parametrize("scheme", ["s3", "oci", "hf"])
def test_a_lock_is_synced_on_a_new_machine_and_survives_moved_aliases(
    team, roots, tmp_path, scheme
):
    team.mirror("file", scheme, options=CREATE if scheme == "hf" else None)
    project = tmp_path / "project"
    project.mkdir()
    (project / PROJECT).write_text(
        f'[adapters]\nnaval = "{roots[scheme]}/naval@prod"\nfirst = "{roots[scheme]}/naval@<2"\n'
    )
    team.lock(project)
    pinned = team.version("naval@2").digest
    with Workspace.init(tmp_path / "ci", notify=lambda _: None) as ci:
        ready = {r.locked.name: r for r in ci.sync(project, frozen=True)}
        assert ready["naval"].version.digest == pinned
        assert ready["first"].version.digest == team.version("naval@1").digest
    place = team.places.open(f"{roots[scheme]}/naval")
    place.set_alias("prod", 3)
    with Workspace.init(tmp_path / "other", notify=lambda _: None) as other:
        assert {r.locked.name: r.version.digest for r in other.sync(project, frozen=True)}[
            "naval"
        ] == pinned


def test_a_tag_of_a_registry_that_was_moved_after_the_lock_is_refused(team, roots, tmp_path):
    team.mirror("file", "oci")
    project = tmp_path / "project"
    project.mkdir()
    (project / PROJECT).write_text(f'[adapters]\nnaval = "{roots["oci"]}/naval@2"\n')
    team.lock(project)
    place = team.places.open(f"{roots['oci']}/naval")
    place.manifests.put("v2", place.manifests.get("v3"))
    with (
        Workspace.init(tmp_path / "ci", notify=lambda _: None) as ci,
        pytest.raises(Refused) as refusal,
    ):
        ci.sync(project, frozen=True)
    assert f"{roots['oci']}/naval@2 is not what 'naval' was locked to" in refusal.value.what
    assert ci.list() == ()


def test_a_check_distinguishes_the_kinds_of_places_and_leaves_nothing(team, roots, rclone, use):
    team.mirror("file", "s3")
    before = {
        path: meta["size"] for path, meta in team.places.open(roots["s3"]).bucket.entries().items()
    }
    assert (
        team.check_remote("s3").promise.create_only,
        team.check_remote("s3").promise.compare_and_swap,
    ) == (
        True,
        True,
    )
    assert {
        path: m["size"] for path, m in team.places.open(roots["s3"]).bucket.entries().items()
    } == before
    assert (
        team.check_remote("oci").promise.create_only,
        team.check_remote("file").promise.create_only,
    ) == (
        False,
        True,
    )
    team.set_remote("careless", f"s3://{use(rclone)}")
    careless = team.check_remote("careless").promise
    assert (careless.create_only, careless.compare_and_swap) == (False, False)
    assert "this store ignores conditional writes" in careless.note


def test_the_documented_table_of_promises_is_what_the_probes_return(team, roots, rclone, use, hub):
    page = Path(__file__).parents[3] / "docs" / "sharing.md"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.read_text().split("\n")
        if line.startswith(("| `file", "| `s3", "| `oci", "| `hf"))
    ]
    documented = {(row[0].strip("`").partition(":")[0], row[1]): (row[2], row[3]) for row in rows}
    hub.create("fleet/naval")
    places = {
        ("file", "a folder"): "file",
        ("s3", "moto"): "s3",
        ("oci", "docker-registry"): "oci:naval",
        ("hf", "a Hub on loopback"): "hf:naval",
    }
    found = {key: team.check_remote(place).promise for key, place in places.items()}
    found["s3", "rclone"] = team.check_remote(f"s3://{use(rclone)}").promise
    words = {True: "yes", False: "no"}
    assert {
        key: (words[p.create_only], words[p.compare_and_swap]) for key, p in found.items()
    } == documented


@pytest.mark.parametrize("server", ["google", "azure", "azurite"])
def test_the_stores_of_google_and_azure_promise_both(server, workspace, use, request):
    running = request.getfixturevalue(server)
    promise = workspace.check_remote(f"{running.scheme}://{use(running)}").promise
    assert (promise.create_only, promise.compare_and_swap) == (True, True)


def test_a_check_of_a_registry_deletes_its_blob(team, roots, registry):
    def blobs():
        folder = registry.folder / "docker/registry/v2/repositories"
        return {link for link in folder.rglob("_layers/**/link") if "team-" in str(link)}

    team.mirror("file", "oci")
    before = blobs()
    assert before
    team.check_remote("oci:naval")
    assert blobs() == before


@pytest.mark.parametrize("scheme", ["file", "s3", "oci", "hf"])
def test_merge_bake_and_add_take_the_urls_of_every_scheme(
    team, roots, tmp_path, tiny_llama, lora_pair, scheme
):
    if scheme != "file":
        team.mirror("file", scheme, options=CREATE if scheme == "hf" else None)
    team.add(lora_pair[1], "medic")
    url = f"{roots[scheme]}/naval"
    merged = team.merge([f"{url}@2=0.5", "medic=0.5"], out=tmp_path / "merged")
    same = team.merge(["naval@2=0.5", "medic=0.5"], out=tmp_path / "same")
    assert merged.manifest.digest == same.manifest.digest
    baked = team.bake(f"{url}@prod", tiny_llama, tmp_path / "baked", force=True)
    assert baked.report.changed
    with Workspace.init(tmp_path / "other", notify=lambda _: None) as other:
        assert other.add(f"{url}@2").version.digest == team.version("naval@2").digest
        other.set_remote(scheme, roots[scheme])
        assert (
            other.merge([f"{scheme}:naval@1", f"{scheme}:naval@3=0.5"], name="both").version.ref
            == "both@1"
        )


def test_a_push_carries_its_alias_to_every_kind_of_place(team, roots, hub):
    hub.create("fleet/naval")
    done = team.push_to_all("naval@prod", list(roots))
    for pushed in done:
        assert held(team, pushed.receipt.place)[1] == {"prod": pushed.receipt.number}
    assert {p.place for p in team.show("naval@prod").placements} == {
        f"{url}/naval" for url in roots.values()
    }
