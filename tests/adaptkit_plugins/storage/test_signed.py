"""A signature and a corrected README.md go with push and pull through every kind of place, and a policy reads the signature there."""

from __future__ import annotations

import secrets
import shutil

import pytest
from hubs import hub
from keypairs import key_pair

from adaptkit import Workspace
from adaptkit.errors import Refused
from adaptkit.extend.attachments import CORRECTION

__all__ = ["hub"]


@pytest.fixture(
    params=["file", "moto", "ministack", "rclone", "google", "azure", "azurite", "oci", "hf"]
)
def url(request, tmp_path):
    if request.param == "file":
        return (tmp_path / "team" / "naval").as_uri()
    if request.param == "hf":
        request.getfixturevalue("hub").create("fleet/naval")
        return "hf://fleet/naval"
    if request.param == "oci":
        return f"oci://{request.getfixturevalue('registry').host}/team-{secrets.token_hex(4)}/naval"
    running = request.getfixturevalue(request.param)
    return f"{running.scheme}://{request.getfixturevalue('use')(running)}/naval"


def test_a_signature_travels_and_an_unsigned_version_is_refused(
    url, workspace, lora_pair, tmp_path
):
    pair = key_pair(tmp_path, "ada")
    (tmp_path / "policy.toml").write_text(
        '[keys]\nada = "ada.pub"\n[[rules]]\nnames = ["*"]\nkeys = ["ada"]\n'
    )
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "config.toml").write_text('[policy]\nfile = "../policy.toml"\n')
    workspace.add(lora_pair[0], "naval")
    digest = workspace.push("naval", url).receipt.digest
    with Workspace.open(tmp_path / "reader", notify=lambda _: None) as reader:
        with pytest.raises(Refused, match="naval@1 is not signed"):
            reader.pull(url)
        workspace.sign("naval", pair.private)
        receipt = workspace.push("naval", url).receipt
        assert (receipt.unchanged, receipt.sent, receipt.digest) == (True, 0, digest)
        assert reader.verify_signature(url, key=pair.public).key == "ada.pub"
        assert reader.list() == ()
        assert reader.pull(url).version.digest == digest
        assert reader.verify_signature("naval", policy=tmp_path / "policy.toml").key == "ada"
        other = key_pair(tmp_path, "bo")
        with pytest.raises(Refused, match="signed by a key that may not"):
            reader.verify_signature(url, key=other.public)


def test_a_corrected_readme_travels_and_the_version_stays_as_it_was(
    url, workspace, lora_pair, tmp_path
):
    folder = shutil.copytree(lora_pair[0], tmp_path / "naval")
    with Workspace.init(tmp_path / "reader", notify=lambda _: None) as reader:

        def text():
            return (reader.path("naval") / "README.md").read_text()

        (folder / "README.md").write_text("# one\n")
        workspace.add(folder, "naval")
        pushed = workspace.push("naval", url).receipt
        before = workspace.places.open(url).version(1)
        reader.pull(url)
        assert "# one" in text()
        (folder / "README.md").write_text("# corrected\n")
        workspace.add(folder, "naval")
        for _ in range(2):
            receipt = workspace.push("naval", url).receipt
            assert (receipt.unchanged, receipt.digest) == (True, pushed.digest)
        assert workspace.places.open(url).version(1) == before
        assert len(workspace.places.open(url).attached(1, CORRECTION)) == 1
        reader.pull(url)
        assert text() == "# corrected\n"
        workspace.pull(url)
        assert (workspace.path("naval") / "README.md").read_text() == "# corrected\n"


def _lose_readme(place, request):
    """Take the first README.md of v1 away behind the place's back."""
    scheme = place.url.partition(":")[0]
    if scheme == "file":
        (place.folder / "v1" / "README.md").unlink()
    elif scheme == "oci":
        (entry,) = [e for e in place.version(1).manifest.extras if e.path == "README.md"]
        request.getfixturevalue("registry").blob(f"sha256:{entry.sha256}").unlink()
    else:
        place.bucket.delete(["v1/README.md"])


def test_a_readme_that_a_place_lost_after_its_correction_goes_back_by_a_push(
    url, workspace, lora_pair, tmp_path, request
):
    folder = shutil.copytree(lora_pair[0], tmp_path / "naval")
    first = f"# naval {secrets.token_hex(4)}\n"  # a registry shares blobs between repositories
    (folder / "README.md").write_text(first)
    workspace.add(folder, "naval")
    workspace.push("naval", url)
    (folder / "README.md").write_text("# corrected\n")
    workspace.add(folder, "naval")
    workspace.gc(grace=0, trash=0)
    place = workspace.places.open(url)
    if url.startswith("hf:"):  # a commit loses nothing, but people delete the page
        repo = request.getfixturevalue("hub").repos["fleet/naval"]
        repo.commit({"README.md": None})
        receipt = workspace.push("naval", url).receipt
        assert (receipt.unchanged, receipt.card_refreshed, receipt.readme_corrected) == (True,) * 3
        assert "# corrected" in repo.files()["README.md"].decode()
        return
    _lose_readme(place, request)
    assert place.damage(place.version(1)) == {"README.md": "it is missing"}
    receipt = workspace.push("naval", url).receipt
    assert (receipt.unchanged, receipt.repaired) == (False, ("README.md",))
    assert (receipt.sent, receipt.readme_corrected) == (len(first), True)
    assert place.damage(place.version(1)) == {}
    with Workspace.init(tmp_path / "reader", notify=lambda _: None) as reader:
        reader.pull(url)
        assert (reader.path("naval") / "README.md").read_text() == "# corrected\n"
    _lose_readme(place, request)
    assert workspace.fsck(repair=True, deep=True).sound
    assert place.damage(place.version(1)) == {}
    assert workspace.push("naval", url).receipt.unchanged
