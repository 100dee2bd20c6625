"""docs/adaptkit.schema.json describes what adaptkit writes, all of it, and nothing that it would not read."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import jsonschema
import msgspec
import pytest

from adaptkit.types import (
    BaseIdentity,
    Level,
    Manifest,
    Parent,
    PlacedVersion,
    Quantisation,
    artifact_digest,
)
from adaptkit.types.checks.schema import _Manifest, _Placed

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "adaptkit.schema.json").read_text())
CHECK = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture
def written(workspace, lora_pair, tiny_llama, tmp_path):
    """Every kind of `adaptkit.json` that a workspace writes."""
    source = shutil.copytree(lora_pair[0], tmp_path / "source")
    (source / "README.md").write_text("# naval\n")
    workspace.add(source, "naval", base=tiny_llama, message="first")
    workspace.add(lora_pair[1], "medic", base=tiny_llama)
    workspace.merge(["naval=0.7", "medic=0.3"], name="bridge")
    workspace.merge(["naval", "medic"], out=tmp_path / "merged", strategy="ties", rank=4)
    for name in ("naval", "bridge"):
        workspace.push(name, (tmp_path / "team" / name).as_uri())
    workspace.export("bridge", tmp_path / "exported")
    return {
        path.relative_to(tmp_path).as_posix(): json.loads(path.read_text())
        for part in ("team", "merged", "exported", "home")
        for path in (tmp_path / part).rglob("*.json")
        if path.name == "adaptkit.json" or path.parent.name == "manifests"
    }


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_what_is_written_is_valid(written):
    assert {path.split("/")[0] for path in written} == {"team", "merged", "exported", "home"}
    for path, table in written.items():
        assert [error.message for error in CHECK.iter_errors(table)] == [], path


def test_every_field_is_in_the_schema():
    full = PlacedVersion(1, _manifest(), "naval", "first", "ada", latest=False).to_json()
    assert set(SCHEMA["properties"]) == set(full)
    assert set(SCHEMA["$defs"]["file"]["properties"]) == set(full["files"][0])
    assert set(SCHEMA["$defs"]["parent"]["properties"]) == set(full["parents"][0])
    assert set(SCHEMA["$defs"]["base"]["properties"]) == set(full["base"])
    assert set(SCHEMA["$defs"]["base"]["properties"]["quantised"]["properties"]) == set(
        full["base"]["quantised"]
    )
    assert set(SCHEMA["$defs"]["level"]["properties"]) == set(full["base"]["levels"]["fs1"])
    CHECK.validate(full)
    assert PlacedVersion.from_json(full).manifest == _manifest()


@pytest.mark.parametrize(
    "harm",
    [
        lambda table: table.update(schema=2),
        lambda table: table.pop("digest"),
        lambda table: table.pop("files"),
        lambda table: table.update(number=0),
        lambda table: table["files"][0].pop("sha256"),
        lambda table: table.pop("method"),
        lambda table: table["files"][0].update(mode=0o777),
        lambda table: table["parents"][0].update(of="x"),
        lambda table: table["base"]["quantised"].update(group=64),
        lambda table: table["base"]["levels"]["fs1"].pop("measured"),
        lambda table: table.update(files={}),
        lambda table: table.update(facts=["loss"]),
    ],
)
def test_what_a_reader_refuses_is_not_valid_either(harm):
    table = copy.deepcopy(PlacedVersion(1, _manifest(), "naval", "first", "ada").to_json())
    harm(table)
    with pytest.raises((KeyError, TypeError, ValueError)):
        PlacedVersion.from_json(table)
    assert list(CHECK.iter_errors(table))


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../b", "a/./b", "a\\b", "a\0b", "", "..", "x/.."]
)
def test_a_path_that_leads_elsewhere_is_not_valid(path):
    table = _manifest().to_json()
    table["files"][0]["path"] = path
    assert list(CHECK.iter_errors(table))


BOUNDS = ("maxLength", "minimum", "maximum")


def _bounds(schema, node, path="$"):
    """Every length and range that a schema states, by the path of its field."""
    if "$ref" in node:
        node = {**schema["$defs"][node["$ref"].rpartition("/")[2]], **node}
    found = {(path, word): node[word] for word in BOUNDS if word in node}
    for one in node.get("anyOf", ()):
        found |= _bounds(schema, one, path)
    for name, one in node.get("properties", {}).items():
        if path != "$.base.levels":  # the kinds of level stand there, too
            found |= _bounds(schema, one, f"{path}.{name}")
    for word in ("items", "propertyNames", "additionalProperties"):
        if isinstance(node.get(word), dict):
            found |= _bounds(schema, node[word], f"{path}.{word}")
    return found


def test_lengths_and_ranges_are_those_of_the_validation():
    checked = {}
    for kind in (_Manifest, _Placed):
        made = msgspec.json.schema(kind)
        checked |= _bounds(made, {"$ref": made["$ref"]})
    assert _bounds(SCHEMA, SCHEMA) == checked


@pytest.mark.parametrize("field", ["name", "author", "message", "method", "created"])
def test_a_text_of_the_longest_length_is_valid_and_one_more_is_not(field):
    longest = SCHEMA["properties"][field]["maxLength"]
    full = PlacedVersion(1, _manifest(), "naval", "first", "ada").to_json()
    for length, fits in ((longest, True), (longest + 1, False)):
        table = {**full, field: "x" * length}
        assert CHECK.is_valid(table) is fits
        if fits:
            PlacedVersion.from_json(table)
        else:
            with pytest.raises(ValueError, match=field):
                PlacedVersion.from_json(table)


def _manifest():
    from artifacts import entry

    files = (entry("adapter_config.json", b"{}"), entry("tokenizer/..vocab.txt", b"a"))
    base = BaseIdentity(
        "fleet/ship",
        (Level("fs1:" + "0" * 64, True),),
        Quantisation("nf4", 4, "bf16"),
        "fs1:" + "1" * 64,
    )
    return Manifest(
        artifact_digest(files),
        files,
        "lora",
        8,
        base,
        (entry("README.md", b"#"),),
        (Parent("sha256:" + "1" * 64, 0.7, "merged", "naval@1"),),
        {"strategy": "linear"},
        {"loss": {"error": 0.5, "from_sum": 0.5, "dropped": []}},
        "2026-01-01T00:00:00Z",
    )
