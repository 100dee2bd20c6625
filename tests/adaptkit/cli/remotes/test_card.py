"""`adaptkit card`: the page before it is pushed; and a push refreshes the page when what it shows changed."""

from __future__ import annotations

import json
import shutil

import pytest
from command_line import checked, run
from hubs import hub

__all__ = ["hub"]


@pytest.fixture
def shell(hub, tmp_path):
    """Runs adaptkit in a home of its own, with the Hub of this test."""

    def shell(*arguments):
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "hf_write",
            "HF_HUB_OFFLINE": "0",
            "ADAPTKIT_HOME": str(tmp_path / "home"),
        }
        return checked(run(arguments, tmp_path, **environment)).stdout

    return shell


def test_a_card_is_shown_before_it_is_pushed_and_refreshed_when_it_changes(hub, shell, lora_pair):
    shell("add", lora_pair[0], "--name", "naval", "-m", "terse answers")
    preview = shell("card", "naval", "--to", "hf://fleet/naval")
    assert "terse answers" in preview
    assert "adaptkit pull hf://fleet/naval" in preview
    assert "hf://OWNER/naval" in shell("card", "naval")
    assert hub.repos == {}
    first = json.loads(shell("push", "naval", "hf://fleet/naval", "--create", "--json"))
    assert shell("card", "naval", "--to", "hf://fleet/naval") == preview
    again = json.loads(shell("push", "naval", "hf://fleet/naval", "--json"))
    assert (again["unchanged"], again["card_refreshed"]) == (True, False)

    note = ["note", "naval", "--metric", "accuracy=0.93", "--describe", "Short reports at sea."]
    shell(*note, "--tag", "license:mit", "--tag", "language:en", "--tag", "sea")
    assert "its model card was refreshed" in shell("push", "naval", "hf://fleet/naval")
    page = shell("card", "naval", "--to", "hf://fleet/naval")
    assert "| accuracy | 0.93 |" in page
    assert "## Intended use\n\nShort reports at sea." in page
    assert "license: mit" in page
    assert "- sea" in page
    assert "unchanged, nothing sent" in shell("push", "naval", "hf://fleet/naval")
    pulled = json.loads(shell("pull", "hf://fleet/naval", "--name", "copy", "--json"))
    assert pulled["digest"] == first["digest"]
    assert json.loads(shell("show", "hf://fleet/naval", "--json"))["version"] == 1


def test_a_corrected_readme_goes_to_the_page_unless_people_wrote_there(
    hub, shell, lora_pair, tmp_path
):
    folder = shutil.copytree(lora_pair[0], tmp_path / "naval")
    (folder / "README.md").write_text("# Naval\n\nTerse reprots.\n")
    shell("add", folder, "--name", "naval")
    shell("push", "naval", "hf://fleet/naval", "--create")

    def page():
        return hub.repos["fleet/naval"].files()["README.md"].decode()

    assert "Terse reprots." in page()
    (folder / "README.md").write_text("# Naval\n\nTerse reports.\n")
    shell("add", folder, "--name", "naval")
    sent = shell("push", "naval", "hf://fleet/naval")
    assert sent.strip().endswith("  README.md corrected, its model card was refreshed")
    assert "Terse reports." in page()
    assert "Terse reprots." not in page()
    assert "unchanged, nothing sent" in shell("push", "naval", "hf://fleet/naval")

    hub.repos["fleet/naval"].commit({"README.md": f"{page()}\nAsk Grace.\n".encode()})
    (folder / "README.md").write_text("# Naval\n\nVery terse reports.\n")
    shell("add", folder, "--name", "naval")
    again = json.loads(shell("push", "naval", "hf://fleet/naval", "--json"))
    assert (again["unchanged"], again["readme_corrected"], again["repaired"]) == (True, True, [])
    assert "Terse reports." in page()
    assert page().endswith("\nAsk Grace.\n")
