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


@pytest.fixture(params=["file", "moto", "ministack", "rclone", "oci", "hf"])
def url(request, tmp_path):
    if request.param == "file":
        return (tmp_path / "team" / "naval").as_uri()
    if request.param == "hf":
        request.getfixturevalue("hub").create("fleet/naval")
        return "hf://fleet/naval"
    if request.param == "oci":
        return f"oci://{request.getfixturevalue('registry').host}/team-{secrets.token_hex(4)}/naval"
    return f"s3://{request.getfixturevalue('use')(request.getfixturevalue(request.param))}/naval"


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
