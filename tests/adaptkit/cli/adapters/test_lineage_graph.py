"""adaptkit.cli.adapters.lineage_graph and the lineage behind it: across merges, back to training data, drawn for people and for programs."""

from __future__ import annotations

import pytest
from artifacts import manifest

from adaptkit.cli.adapters import lineage_graph
from adaptkit.types import Parent
from adaptkit_registry import Registry

LOGS = "sha256:" + "d" * 64


def parents(*pairs):
    return tuple(
        Parent(manifest(content).digest, weight, "merged", label)
        for content, weight, label in pairs
    )


@pytest.fixture
def registry(database):
    """naval and medic become bridge; bridge and naval become crew."""
    with Registry.open(database) as opened:
        data = {"training": {"data": [{"label": "logs.jsonl", "digest": LOGS}]}}
        opened.add_version("naval", manifest("n1", facts=data))
        opened.add_version("naval", manifest("n2"))
        opened.add_version("medic", manifest("m1"))
        opened.add_version(
            "bridge",
            manifest("b1", parents=parents(("n1", 0.7, "naval@1"), ("m1", 0.3, "medic@1"))),
        )
        made = parents(
            ("b1", 1.0, "bridge"), ("n1", -0.5, "naval@1"), ("elsewhere", 0.1, "hf://fleet/x")
        )
        opened.add_version("crew", manifest("c1", parents=made))
        yield opened


def short(content):
    return manifest(content).digest[:19] + "…"


def test_lineage_goes_across_merges_to_what_is_known_elsewhere_and_to_training_data(registry):
    found = lineage_graph.as_json(registry.lineage(manifest("c1").digest))
    named = {
        node["versions"][0] if node["versions"] else "?": node for node in found["nodes"].values()
    }
    assert set(named) == {"crew@1", "bridge@1", "naval@1", "medic@1", "?"}
    assert [(p["weight"], p["label"]) for p in named["crew@1"]["parents"]] == [
        (1.0, "bridge"),
        (-0.5, "naval@1"),
        (0.1, "hf://fleet/x"),
    ]
    assert named["naval@1"]["data"] == [{"label": "logs.jsonl", "digest": LOGS}]
    assert (named["?"]["known"], named["bridge@1"]["known"]) == (False, True)


def test_the_tree_expands_a_repeated_artifact_once(registry):
    assert lineage_graph.as_text(registry.lineage(manifest("c1").digest)) == [
        f"crew@1  {short('c1')}  lora",
        f"├─ 1 × bridge@1  {short('b1')}  lora",
        f"│  ├─ 0.7 × naval@1  {short('n1')}  lora",
        f"│  │  └─ data logs.jsonl  {LOGS[:19]}",
        f"│  └─ 0.3 × medic@1  {short('m1')}  lora",
        f"├─ -0.5 × naval@1  {short('n1')}  lora  (as above)",
        f"└─ 0.1 × not in this registry  {short('elsewhere')}",
    ]


def test_what_was_made_from_nothing_is_one_line(registry):
    assert lineage_graph.as_text(registry.lineage(manifest("n2").digest)) == [
        f"naval@2  {short('n2')}  lora"
    ]


def test_mermaid_has_every_node_and_every_edge(registry):
    drawn = "\n".join(lineage_graph.as_mermaid(registry.lineage(manifest("c1").digest)))
    assert drawn.startswith("flowchart BT\n")
    assert drawn.count("-->|") == 5
    for name in ("crew@1", "bridge@1", "naval@1", "medic@1", short("elsewhere"), "logs.jsonl"):
        assert f'"{name}"' in drawn


def test_lineage_fifty_deep_is_read_whole(registry):
    for depth in range(50):
        made = parents((f"d{depth - 1}", 1.0, "deep")) if depth else ()
        registry.add_version("deep", manifest(f"d{depth}", parents=made))
    found = registry.lineage(manifest("d49").digest)
    assert len(found.parents) == 50
    assert len(lineage_graph.as_text(found)) == 50


def test_a_lineage_that_bites_its_tail_ends(registry):
    """Manifests come from elsewhere: nothing stops one from naming its own descendant."""
    registry.add_version("a", manifest("a", parents=parents(("b", 1.0, "b"))))
    registry.add_version("b", manifest("b", parents=parents(("a", 1.0, "a"))))
    assert len(lineage_graph.as_text(registry.lineage(manifest("a").digest))) == 3


def _drawn(registry, name):
    versions = registry.versions(name=name)
    lineages = {v.digest: registry.lineage(v.digest) for v in versions}
    return [
        line.partition("  ")[0] + "  " + line.partition("  ")[2].split()[0] if "*" in line else line
        for line in lineage_graph.draw(lineage_graph.rows(versions, lineages))
    ]


def test_the_graph_of_a_log_shows_what_flowed_in(registry):
    assert _drawn(registry, "bridge") == ["*  bridge@1", "|\\", "* |  naval@1", " /", "*  medic@1"]


def test_a_name_without_merges_is_one_line_of_stars(registry):
    assert _drawn(registry, "naval") == ["*  naval@2", "*  naval@1"]


def test_a_diamond_joins_again(registry):
    drawn = _drawn(registry, "crew")
    assert drawn == [
        "*  crew@1",
        "|\\",
        "| |\\",
        "* | |  bridge@1",
        "| * |  naval@1",
        "|  /",
        "* |  medic@1",
        " /",
        f"*  {short('elsewhere')}",
    ]
