"""adaptkit.cli.merge.merge: how weights by module are written on the command line."""

from __future__ import annotations

import pytest

from adaptkit import refs
from adaptkit.cli.merge import merge
from adaptkit.errors import AdaptkitError, BadRecipe, NotFound

SOURCES = refs.weighted(["naval@prod=0.7", "medic"])


@pytest.mark.parametrize(
    ("text", "glob", "values"),
    [
        ("medic[*.mlp.*]=0.5", "*.mlp.*", [0.5]),
        ("medic[*]=0,1,0.5", "*", [0.0, 1.0, 0.5]),
        ("medic[*.[qk]_proj]=-1", "*.[qk]_proj", [-1.0]),
    ],
)
def test_a_weight_by_module_belongs_to_its_adapter(text, glob, values):
    naval, medic = merge.with_module_weights(SOURCES, [text])
    assert (naval, dict(medic.modules)) == (SOURCES[0], {glob: values})


@pytest.mark.parametrize(
    "text", ["naval", "naval=1", "naval[*]", "naval[*]=x", "naval[*]=1,,2", "[*]=1"]
)
def test_a_weight_that_cannot_be_read_shows_the_form(text):
    with pytest.raises(BadRecipe, match=r"--weight is '.*it is REF\[GLOB\]=W"):
        merge.with_module_weights(SOURCES, [text])


def test_a_weight_by_module_in_the_place_of_an_adapter_is_shown_its_option():
    with pytest.raises(BadRecipe) as refused:
        merge.named(["naval", "medic[*.mlp.*]=0.5"])
    assert "'medic[*.mlp.*]=0.5' is a weight of some modules" in str(refused.value)
    assert "adaptkit merge medic … --weight 'medic[*.mlp.*]=0.5'" in refused.value.fix


def test_a_weight_of_another_adapter_names_those_of_the_merge():
    with pytest.raises(NotFound, match="no source of this merge called 'navl'"):
        merge.with_module_weights(SOURCES, ["navl[*]=1"])


@pytest.mark.parametrize(
    ("sources", "weights"),
    [
        ({"naval": 0.1, "medic": 0.9}, [0.1, 0.9]),
        ([("naval", 0.1), ("medic", 0.9)], [0.1, 0.9]),
        (["naval=0.1", "medic"], [0.1, 1.0]),
        ([refs.parse("naval"), refs.WeightedRef(refs.parse("medic"), 2.0)], [1.0, 2.0]),
    ],
)
def test_python_takes_mappings_pairs_and_references(sources, weights):
    assert [str(one.ref) for one in refs.weighted(sources)] == ["naval", "medic"]
    assert [one.weight for one in refs.weighted(sources)] == weights


@pytest.mark.parametrize(
    "sources", ["naval", 7, None, [3], [("naval", "much")], [("naval", True)], [["naval", 0.5]]]
)
def test_what_is_no_list_of_adapters_is_refused_with_the_forms(sources):
    with pytest.raises(AdaptkitError, match="for example"):
        refs.weighted(sources)


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ({"densty": 0.5}, "called 'densty': known are density,"),
        ({"normalise": True}, "called 'normalise': known are normalize,"),
        ({"weights": [1, 2]}, "merge takes no 'weights': a weight belongs to its adapter"),
    ],
)
def test_a_keyword_that_merge_does_not_know_is_refused_with_the_nearest(
    workspace, keyword, message
):
    with pytest.raises(AdaptkitError, match=message):
        workspace.merge(["naval", "medic"], name="bridge", strategy="ties", **keyword)
