"""adaptkit.training.null_space: shares of inputs outside A's rows, and weights chosen by them."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from adaptkit.errors import AdaptkitError
from adaptkit.extend import LowRank
from adaptkit.training.data.tokens import Tokens
from adaptkit.training.distil import Schedule, Teacher
from adaptkit.training.live import LiveModel
from adaptkit.training.null_space import WeightedSum, weigh

MODULES = {
    "model.layers.0.self_attn.q_proj": (32, 32),
    "model.layers.1.self_attn.q_proj": (32, 32),
    "model.layers.1.mlp.down_proj": (32, 48),
}
ROWS = [Tokens((5, 9, 30, 7), (True,) * 4), Tokens((11, 12), (True,) * 2)]


@pytest.fixture(scope="module")
def live(speaker, tmp_path_factory):
    """A base with any adapter on it; the sums of these tests are made of factors of their own."""
    folder = tmp_path_factory.mktemp("null-space") / "any"
    how = {"r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    return LiveModel(speaker, {"any": tiny.save_adapter(speaker, folder, seed=1, **how)})


@pytest.fixture(scope="module")
def updates():
    """Two adapters, one of which leaves a module alone; different ranks and scales, and a bias."""
    chance = np.random.default_rng(0)

    def update(shape, rank, scale, bias=False):
        m, n = shape
        b, a = chance.normal(size=(m, rank)), chance.normal(size=(rank, n))
        more = chance.normal(size=m) if bias else None
        return LowRank(b * 0.1, a * 0.3, scale, more)

    both = {name: update(shape, 3, 2.0, bias=True) for name, shape in MODULES.items()}
    few = {name: update(MODULES[name], 5, 0.5) for name in list(MODULES)[1:]}
    return {"naval": both, "medic": few}


def restated(base, updates, weights, parent, rows):
    """The same in float64 and written out: W + Σ wD in the weights, then ‖x − Aᵀ(AAᵀ)⁻¹Ax‖/‖x‖ of every input."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(base).double().eval()
    seen = {name: [] for name in MODULES}
    for name in MODULES:
        module = model.get_submodule(name)
        bias = torch.zeros(MODULES[name][0], dtype=torch.float64)
        for label, found in updates.items():
            if name in found:
                one, weight = found[name], weights[label][name]
                module.weight.data += weight * one.scale * torch.from_numpy(one.B @ one.A)
                bias += 0.0 if one.bias is None else weight * torch.from_numpy(one.bias)
        module.bias = torch.nn.Parameter(bias)
        module.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0][0]))
    for row in rows:
        model(input_ids=torch.tensor([row.ids]))
    shares = {}
    for name, one in updates[parent].items():
        x = torch.cat(seen[name]).detach().numpy()
        a = one.A
        left = x - x @ a.T @ np.linalg.inv(a @ a.T) @ a
        shares[name] = (np.linalg.norm(left, axis=1) / np.linalg.norm(x, axis=1)).mean()
    return shares


def test_shares_and_their_gradients_are_those_of_the_merged_model_in_float64(
    live, speaker, updates
):
    start = {"naval": 0.7, "medic": 0.4}
    given = {label: dict.fromkeys(found, start[label]) for label, found in updates.items()}
    merged = WeightedSum(live, updates, start)
    for parent in updates:
        found = merged.shares(parent, ROWS)
        expected = restated(speaker, updates, given, parent, ROWS)
        assert found.detach().numpy() == pytest.approx(list(expected.values()), abs=1e-5)
        merged.weights.grad = None
        found.mean().backward()
        step = 1e-4
        for at, (label, name) in enumerate(merged.terms):
            sides = []
            for sign in (1, -1):
                moved = {**given, label: {**given[label], name: start[label] + sign * step}}
                shares = restated(speaker, updates, moved, parent, ROWS)
                sides.append(np.mean(list(shares.values())))
            slope = (sides[0] - sides[1]) / (2 * step)
            assert float(merged.weights.grad[at]) == pytest.approx(slope, abs=2e-5)


def parents():
    rows = [Tokens((3 + i, 9, 30 + i), (True,) * 3) for i in range(12)]
    more = [Tokens((50 + i, 60, 70 + i), (True,) * 3) for i in range(12)]
    return [
        Teacher("naval", "any", rows[:9], rows[9:]),
        Teacher("medic", "any", more[:9], more[9:]),
    ]


def test_held_out_inputs_move_into_the_rows_and_the_same_seed_chooses_the_same(live, updates):
    start = {"naval": 1.0, "medic": 1.0}
    how = Schedule(steps=20, rate=0.05, batch=4, seed=3)
    found = weigh(live, parents(), updates, start, how)
    assert found.kept > 0
    looks = found.held_out.values()
    assert sum(look.after for look in looks) < sum(look.before for look in looks)
    assert all(0 < look.alone < 1 for look in looks)
    assert {label: set(table) for label, table in found.weights.items()} == {
        label: set(table) for label, table in updates.items()
    }
    assert weigh(live, parents(), updates, start, how) == found
    other = weigh(live, parents(), updates, start, Schedule(steps=20, rate=0.05, batch=4, seed=4))
    assert other.weights != found.weights
    # what the last look measured is what the weights give
    merged = WeightedSum(live, updates, start)
    import torch

    kept = torch.tensor([found.weights[label][name] for label, name in merged.terms])
    medic = parents()[1]
    again = float(merged.shares("medic", medic.held_out, kept).mean())
    assert again == pytest.approx(found.held_out["medic"].after, abs=1e-6)


def test_factors_that_are_no_numbers_end_the_search_with_their_step(live, updates):
    name = "model.layers.0.self_attn.q_proj"
    broken = LowRank(np.full((32, 1), np.inf), np.ones((1, 32)), 1.0)
    with pytest.raises(AdaptkitError, match="weighing went wrong at step 1"):
        weigh(
            live,
            parents(),
            {"naval": updates["naval"] | {name: broken}, "medic": updates["medic"]},
            {"naval": 1.0, "medic": 1.0},
            Schedule(steps=2),
        )


def test_modules_whose_inputs_no_weight_changes_are_left_out_of_the_descent(live, updates):
    first = {"model.layers.0.self_attn.q_proj": updates["naval"]["model.layers.0.self_attn.q_proj"]}
    start = {"naval": 1.0, "medic": 1.0}
    with pytest.raises(AdaptkitError, match="cannot weigh naval and medic: what goes into"):
        weigh(live, parents(), {"naval": first, "medic": first}, start, Schedule(steps=2))
    found = weigh(
        live, parents(), {"naval": first, "medic": updates["medic"]}, start, Schedule(steps=2)
    )
    assert found.steps == 2
