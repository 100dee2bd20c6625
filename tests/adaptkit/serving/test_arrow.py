"""Arrow's choice for each token and layer is PEFT's, in mixed batches and with adapters of several shapes."""

from __future__ import annotations

import pytest
import tiny
import torch
from once import once

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.errors import Refused
from adaptkit.serving.bank.arrow import ArrowMixture, Tally, first_direction
from adaptkit.serving.bank.bank import Bank

IDS = torch.tensor([tiny.INPUT])
ALIKE = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}


@pytest.fixture(scope="module")
def alike(fleet, tmp_path_factory):
    """Three adapters of one shape, as PEFT's Arrow wants them."""

    def make(folder):
        for seed in (11, 12, 13):
            tiny.save_adapter(fleet.base, folder / f"a{seed}", seed=seed, **ALIKE)

    made = once(tmp_path_factory, "alike", make)
    return {path.name: path for path in sorted(made.iterdir()) if path.is_dir()}


def put(fleet, bank, name, folder):
    with Adapter.open(folder, name) as adapter:
        source = OpenAdapter(adapter, fleet.plugins.method_for(adapter), f"sha256:{name}")
        bank.put_opened(name, source)


@pytest.fixture
def bank(fleet, alike):
    made = Bank(fleet.model(), slots=6)
    for name, folder in (
        alike | {name: fleet.adapters[name] for name in ("naval", "medic")}
    ).items():
        put(fleet, made, name, folder)
    return made


@pytest.mark.parametrize("top", [1, 2, 3])
def test_arrow_gives_pefts_logits(fleet, alike, bank, top, monkeypatch):
    from peft import ArrowConfig
    from peft.tuners.lora.arrow import ArrowLoraLinearLayer, create_arrow_model

    # PEFT stops after 15 steps, too few where an update's first singular values are close, as random ones are.
    few = ArrowLoraLinearLayer.top_right_singular_vec_from_BA
    monkeypatch.setattr(
        ArrowLoraLinearLayer,
        "top_right_singular_vec_from_BA",
        lambda self, A, B: few(self, A, B, iters=3000),
    )

    config = ArrowConfig(top_k=top, router_temperature=0.5, rng_seed=0)
    peft = create_arrow_model(fleet.model(), [str(path) for path in alike.values()], config).eval()
    with torch.no_grad():
        wanted = peft(IDS).logits
        with bank.rows([ArrowMixture(list(alike), top=top, temperature=0.5)]):
            logits = bank.model(IDS).logits
    assert (wanted - fleet.model()(IDS).logits).abs().max() > 1e-3
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=0)


def test_rows_that_choose_share_a_batch_with_rows_that_do_not(alike, bank):
    arrow = ArrowMixture([*alike, "medic"], top=2)
    alone = []
    with torch.no_grad():
        for wanted in (arrow, "naval", None, {"naval": 0.5, "medic": 1.0}):
            with bank.rows([wanted]):
                alone.append(bank.model(IDS).logits)
        with bank.rows([arrow, "naval", None, {"naval": 0.5, "medic": 1.0}]):
            together = bank.model(IDS.repeat(4, 1)).logits
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def test_one_adapter_to_choose_from_is_that_adapter(bank):
    with torch.no_grad():
        with bank.rows(["medic"]):
            plain = bank.model(IDS).logits
        with bank.rows([ArrowMixture(["medic"])]):
            chosen = bank.model(IDS).logits
    torch.testing.assert_close(chosen, plain, atol=1e-5, rtol=0)


def test_shares_add_up_to_one_in_every_layer(alike, bank):
    tally = Tally(3)
    with torch.no_grad(), bank.rows([ArrowMixture(list(alike), tally=tally)]):
        bank.model(IDS)
    assert sum(tally.means) == pytest.approx(1.0)
    assert min(tally.means) > 0


def test_the_direction_is_the_first_right_singular_vector():
    generator = torch.Generator().manual_seed(0)
    A, B = (torch.randn(4, size, generator=generator) for size in (20, 12))
    expected = torch.linalg.svd(B.T @ A).Vh[0]
    assert abs(float(first_direction(A, B) @ expected)) == pytest.approx(1.0, abs=1e-5)


def test_a_replaced_adapter_has_the_direction_of_its_new_update(fleet, alike, bank):
    mixture = ArrowMixture(["a11", "a12"], temperature=0.1)
    with torch.no_grad():
        with bank.rows([mixture]):
            before = bank.model(IDS).logits
        put(fleet, bank, "a11", alike["a13"])
        with bank.rows([mixture]):
            after = bank.model(IDS).logits
        with bank.rows([ArrowMixture(["a13", "a12"], temperature=0.1)]):
            wanted = bank.model(IDS).logits
    torch.testing.assert_close(after, wanted, atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 1e-4


def test_a_fixed_batch_refuses_rows_that_choose(bank):
    with (
        bank.fixed(1) as fixed,
        bank.lease([ArrowMixture(["medic"])]) as mixes,
        pytest.raises(Refused, match="its adapters are chosen before it runs"),
    ):
        fixed.use(mixes)
