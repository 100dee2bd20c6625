"""What fits a memory is planned before a server starts, and what cannot fit is refused with what would."""

from __future__ import annotations

import dataclasses
import re

import pytest
import tiny
import torch

from adaptkit.errors import AdaptkitError, Refused
from adaptkit.serving.bank.bank import Bank
from adaptkit.serving.placement import Need, Placement, Wide, lines, plan
from adaptkit.workspace.serving.serve import ServeOptions

GB = 10**9
NEED = Need(
    base="ship",
    memory=80 * GB,
    weights=16 * GB,
    cache_of_row=GB // 4,
    itemsize=2,
    modules={f"layers.{i}.q_proj": Wide(4096, 4096, 16) for i in range(32)},
    adapters=3,
    on_cpu=False,
)
SLOT = 32 * 16 * 8192 * 2


def test_slots_are_what_is_left_beside_the_base_and_the_cache():
    assert NEED.slot == SLOT
    found = plan(NEED, rows=16, slots=None, host=None, most=10**6)
    assert found.slots == (80 * GB - 16 * GB - 4 * GB) // SLOT - 1
    assert found.used <= NEED.memory < found.used + SLOT
    assert plan(NEED, rows=16, slots=None, host=None, most=8).slots == 8
    assert plan(NEED, rows=16, slots=5, host=None).slots == 5


def test_on_a_cpu_the_copies_in_memory_and_of_a_batch_count_too():
    need = dataclasses.replace(NEED, on_cpu=True)
    found = plan(need, rows=16, slots=None, host=2 * GB, most=10**6)
    assert found.used == 16 * GB + 4 * GB + 2 * GB + (found.slots + 1 + 16) * SLOT
    assert found.used <= need.memory < found.used + SLOT
    quarter = plan(need, rows=16, slots=None, host=None)
    assert quarter.host == (60 * GB - 16 * SLOT) // 4


@pytest.mark.parametrize(
    ("memory", "slots", "fix"),
    [
        (16 * GB, None, r"--memory 20\.1GB$"),
        (20 * GB + 2 * SLOT - 1, None, r"--memory 20\.1GB; or adapters of at most rank 8: "),
        (20 * GB + 4 * SLOT, 60, r"--memory 20\.6GB; or --slots 3$"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_would(memory, slots, fix):
    need = dataclasses.replace(NEED, memory=memory)
    with pytest.raises(Refused, match=r"cannot serve ship in .*the base takes 16\.0 GB") as caught:
        plan(need, rows=16, slots=slots, host=None)
    assert re.search(fix, caught.value.fix), caught.value.fix


def test_what_is_offered_instead_does_fit():
    need = dataclasses.replace(NEED, memory=20 * GB + 2 * SLOT - 1)
    narrow = {name: dataclasses.replace(one, rank=8) for name, one in need.modules.items()}
    assert plan(dataclasses.replace(need, modules=narrow), rows=16, slots=1, host=None).slots == 1
    more = dataclasses.replace(need, memory=int(20.1 * GB))
    assert plan(more, rows=16, slots=1, host=None).slots == 1


def test_the_plan_is_printed_line_by_line():
    text = lines(Placement(NEED, 8, 16, None))
    assert text[0] == "80.0 GB for ship, planned for 3 adapters:"
    assert "8 slots + slot 0" in text[3]
    assert "rank 16, 32 modules" in text[3]


@pytest.fixture
def stocked(workspace, fleet, served_base):
    for name in ("naval", "medic", "dora"):
        workspace.add(fleet.adapters[name], name, base=str(served_base))
    return workspace


def test_a_workspace_plans_from_the_adapters_that_it_has(stocked, served_base, fleet):
    found = stocked.plan_serving(served_base, memory=50_000_000, options=ServeOptions())
    assert found.need.adapters == 2  # dora takes no slot
    assert found.need.rank == 8
    assert found.slots == 8
    weights = (served_base / "model.safetensors").stat().st_size
    assert abs(found.need.weights - weights) < 10_000
    bank = Bank(fleet.model(), slots=found.slots, device_bytes=found.device_bytes)
    bank.prepare({name: wide.rank for name, wide in found.need.modules.items()})
    assert bank.device_bytes == found.device_bytes
    for name in ("naval", "medic"):
        with fleet.opened(name) as source:
            bank.put_opened(name, source)
    assert bank.device_bytes == found.device_bytes


def test_without_adapters_all_linear_layers_at_an_assumed_rank_are_planned(workspace, served_base):
    found = workspace.plan_serving(served_base, memory=50_000_000, options=ServeOptions())
    assert (found.need.adapters, found.need.rank) == (0, 16)
    assert not any("lm_head" in name for name in found.need.modules)
    assert "an adapter of all linear layers" in lines(found)[0]


def test_a_workspace_refuses_a_memory_that_is_too_small(stocked, served_base):
    with pytest.raises(Refused, match=r"cannot serve base in 100\.0 kB: the base takes"):
        stocked.plan_serving(served_base, memory=100_000, options=ServeOptions())


def test_an_adapter_beyond_the_plan_is_refused_and_the_planned_ones_are_served(fleet):
    bank = Bank(fleet.model(), slots=2)
    with fleet.opened("naval") as source:
        bank.put_opened("naval", source)
    bank.most_device_bytes = bank.device_bytes
    with (
        fleet.opened("medic") as source,
        pytest.raises(
            Refused,
            match=r"cannot serve medic: its slots would take [0-9,]+ bytes more(?s:.*)--memory",
        ),
    ):
        bank.put_opened("medic", source)
    with bank.rows(["naval"]):
        assert bank.model(torch.tensor([tiny.INPUT])).logits.isfinite().all()


@pytest.mark.parametrize("text", ["lots", "8 parsecs"])
def test_a_size_that_is_none_is_refused_by_its_option(text):
    from adaptkit.workspace.units import parse_size

    with pytest.raises(AdaptkitError, match=rf"--memory is '{text}'(?s:.*)--memory 20GB"):
        parse_size(text, "--memory")
