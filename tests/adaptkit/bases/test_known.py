"""Which declared bases are names on the Hub, and which are folders of one machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptkit.bases.known import declared_base, is_hub_id


@pytest.mark.parametrize("name", ["gpt2", "fleet/ship-7B", "a_b/c.d", "0x/1"])
def test_names_of_hub_repositories_are_recognised(name):
    assert is_hub_id(name)


@pytest.mark.parametrize(
    "name", ["", ".", "./gpt2", "../a/b", "/models/gpt2", "a/b/c", "a/.b", "-x", "C:\\gpt2", "é/b"]
)
def test_paths_are_no_names_of_hub_repositories(name):
    assert not is_hub_id(name)


def test_a_hub_name_has_no_folder_and_a_path_has_one_even_when_it_is_missing(tmp_path):
    def declared(value):
        return declared_base({"base_model_name_or_path": value}, tmp_path)

    assert declared("fleet/ship-7B") == ("fleet/ship-7B", None)
    assert declared("./missing") == ("./missing", Path("missing"))
    assert declared(None) == (None, None)
    folder = tmp_path / "ship"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert declared("ship") == ("ship", folder)


@pytest.mark.parametrize(
    "name", ["x" * 500, "a/" + "b" * 256, "a\0b", "/" + "é" * 200, "a/" * 3000]
)
def test_a_name_that_nothing_can_have_names_no_base(name, tmp_path):
    assert declared_base({"base_model_name_or_path": name}, tmp_path) == (None, None)
