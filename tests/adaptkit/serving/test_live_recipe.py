"""A live composition, the recipe that writes it down, and PEFT's sum of the same adapters give the same logits."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
import yaml
from command_line import run
from documented import check

from adaptkit import Workspace
from adaptkit.errors import BadRecipe, BadReference
from adaptkit.serving.bank.bank import Bank
from adaptkit.serving.composition import parse
from adaptkit.workspace.serving.serve import WorkspaceAdapters

IDS = torch.tensor([tiny.INPUT])
PARTS = ("naval", "medic", "cargo")


@pytest.fixture(scope="module")
def workspace(fleet, tmp_path_factory):
    home = tmp_path_factory.mktemp("live") / "home"
    with Workspace.init(home, notify=lambda _: None) as ws:
        for name in PARTS:
            ws.add(fleet.adapters[name], name, base=str(fleet.base))
        ws.alias("naval", "prod", 1)
        yield ws


def served(fleet, workspace, text):
    """The logits of one request, as the server's bank computes them."""
    bank = Bank(fleet.model(), slots=4)
    adapters = WorkspaceAdapters(workspace, workspace.base(str(fleet.base)).identity)
    (row,) = parse(text).rows()
    mixture = {}
    for part in row:
        _, digest = adapters.resolve(part.ref)
        mixture[digest] = part.weight
        bank.put(digest, lambda digest=digest: adapters.load(digest, bank.read))
    with torch.no_grad(), bank.rows([mixture]):
        return bank.model(IDS).logits


def peft_sum(fleet, weights):
    """The logits with all adapters active at once in PEFT, each layer's scale times its weight."""
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    first, *rest = weights
    model = PeftModel.from_pretrained(fleet.model(), fleet.adapters[first], adapter_name=first)
    for name in rest:
        model.load_adapter(fleet.adapters[name], adapter_name=name)
    model.base_model.set_adapter(list(weights))
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for name, weight in weights.items():
                if name in layer.scaling:
                    layer.scaling[name] *= weight
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("naval@prod+medic=0.4", {"naval": 1.0, "medic": 0.4}),
        ("stack(naval, medic=-0.5, cargo=2)", {"naval": 1.0, "medic": -0.5, "cargo": 2.0}),
        ("average(naval, medic, cargo)", dict.fromkeys(PARTS, 1 / 3)),
    ],
)
def test_served_merged_and_peft_give_the_same_logits(fleet, workspace, tmp_path, text, weights):
    from peft import PeftModel

    live = served(fleet, workspace, text)
    found = workspace.live_recipe(text)
    file = tmp_path / "live.yaml"
    file.write_text(found.as_yaml())
    workspace.compose(file, out=tmp_path / "merged")
    with torch.no_grad():
        merged = PeftModel.from_pretrained(fleet.model(), tmp_path / "merged").eval()(IDS).logits
    torch.testing.assert_close(live, peft_sum(fleet, weights), atol=1e-5, rtol=0)
    torch.testing.assert_close(live, merged, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        live, served(fleet, workspace, found.model), atol=0, rtol=0
    )  # the model that the recipe names is the same request, pinned


def test_a_recipe_keeps_its_versions_when_an_alias_moves(fleet, workspace):
    before = workspace.live_recipe("naval@prod+medic=0.4")
    assert before.model == "naval@1+medic@1=0.4"
    refs = [entry["ref"] for entry in before.document()["adapters"]]
    assert refs == [workspace.version(name).digest for name in ("naval@1", "medic@1")]
    assert before.as_yaml().startswith("# served as the model naval@1+medic@1=0.4\n")
    assert yaml.safe_load(before.as_yaml()) == before.document()


def test_what_is_no_one_sum_is_not_written_down(workspace):
    with pytest.raises(BadRecipe, match=r"it is 2 results, and a recipe is one"):
        workspace.live_recipe("parallel(naval, medic)")
    with pytest.raises(BadRecipe, match=r"it is the base, without any adapter"):
        workspace.live_recipe("base")
    with pytest.raises(BadReference, match=r"stack\(naval, medical\)"):
        workspace.live_recipe("./naval+medic")


def test_the_command_prints_the_recipe_or_merges_it(workspace, tmp_path):
    line = ["--home", workspace.home.path, "compose", "--live", "naval+medic=0.4"]
    printed = run(line, tmp_path)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.startswith("# served as the model naval@1+medic@1=0.4\n")
    as_json = json.loads(run([*line, "--json"], tmp_path).stdout)
    check("compose", as_json)
    assert as_json["recipe"] == yaml.safe_load(printed.stdout)
    merged = run([*line, "--out", "merged"], tmp_path)
    assert merged.returncode == 0, merged.stderr
    (tmp_path / "live.yaml").write_text(printed.stdout)
    again = run([*line[:2], "compose", "live.yaml", "--out", "again"], tmp_path)
    assert again.returncode == 0, again.stderr
    made = [
        (tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("merged", "again")
    ]
    assert made[0] == made[1]
