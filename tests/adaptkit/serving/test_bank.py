"""Each row of a mixed batch is what PEFT computes for that request alone."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.errors import BadWeights, BaseMismatch, NoRoom, NotFound, Refused
from adaptkit.serving.bank.bank import Bank
from adaptkit.serving.bank.factors import Factors
from adaptkit.serving.bank.kernels import (
    add_gathered,
    add_groups,
    add_segments,
    gather,
    prefer_groups,
    prefer_segments,
)
from adaptkit.serving.bank.rows import plan_rows
from adaptkit.serving.bank.table import SETTLED, ModuleTable

LORA = ["naval", "medic", "polite", "cargo"]
PROMPTS = torch.tensor(
    [[5, 9, 14, 3, 20], [7, 7, 30, 12, 4], [1, 2, 3, 4, 5], [60, 50, 40, 30, 20]]
)


@pytest.fixture
def bank(fleet):
    made = Bank(fleet.model(), slots=4, base=fleet.base)
    for name in fleet.adapters:
        with fleet.opened(name) as source:
            made.put_opened(name, source)
    return made


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


def generated(model, ids, **how):
    with torch.no_grad():
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            min_new_tokens=6,
            do_sample=False,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
            **how,
        )
    return made.sequences, torch.stack(made.logits, 1)


def close(got, wanted, to=1e-5):
    assert (got - wanted).abs().max().item() <= to * max(1.0, wanted.abs().max().item())


def test_the_test_adapters_change_what_the_base_says(fleet):
    base = logits(fleet.model(), PROMPTS)
    for name in fleet.adapters:
        assert (logits(fleet.alone(name), PROMPTS) - base).abs().max() > 0.01, name


def test_each_row_of_a_mixed_batch_is_the_request_alone_on_peft(fleet, bank):
    names = ["naval", None, "medic", "polite"]
    with bank.rows(names):
        mixed = logits(bank.model, PROMPTS)
    for row, name in enumerate(names):
        close(mixed[row], logits(fleet.alone(name), PROMPTS[row : row + 1])[0])


def test_rows_of_the_base_are_bitwise_untouched(fleet, bank):
    plain = logits(bank.model, PROMPTS)
    with bank.rows([None, "medic", None, "naval"]):
        mixed = logits(bank.model, PROMPTS)
    assert torch.equal(mixed[0], plain[0])
    assert torch.equal(mixed[2], plain[2])
    assert torch.equal(logits(bank.model, PROMPTS), plain)


def test_generation_with_the_cache_is_that_of_each_request_alone(fleet, bank):
    names = ["cargo", "naval", None, "medic"]
    with bank.rows(names):
        sequences, steps = generated(bank.model, PROMPTS)
    for row, name in enumerate(names):
        alone, wanted = generated(fleet.alone(name), PROMPTS[row : row + 1])
        assert torch.equal(sequences[row], alone[0]), name
        close(steps[row], wanted[0])


def test_beams_keep_the_adapter_of_their_row(fleet, bank):
    names = ["cargo", None]
    with bank.rows(names), torch.no_grad():
        got = bank.model.generate(PROMPTS[:2], num_beams=3, max_new_tokens=5, pad_token_id=0)
    for row, name in enumerate(names):
        with torch.no_grad():
            wanted = fleet.alone(name).generate(
                input_ids=PROMPTS[row : row + 1], num_beams=3, max_new_tokens=5, pad_token_id=0
            )
        assert torch.equal(got[row], wanted[0])


def test_results_stay_right_while_adapters_are_evicted_and_replaced_in_between(fleet):
    bank = Bank(fleet.model(), slots=2)
    for name in LORA:
        with fleet.opened(name) as source:
            bank.put_opened(name, source)
    wanted = {name: logits(fleet.alone(name), PROMPTS[:1])[0] for name in [*LORA, None]}
    for one, two in [("naval", "medic"), ("polite", None), ("cargo", "naval"), ("medic", "medic")]:
        with bank.rows([one, two]):
            got = logits(bank.model, PROMPTS[:1].repeat(2, 1))
        close(got[0], wanted[one])
        close(got[1], wanted[two])
    assert bank.swaps == 6  # naval, medic, polite, cargo, naval again, medic again
    with fleet.opened("polite") as source:
        bank.put_opened("naval", source)  # the name means another version from here on
    with bank.rows(["naval"]):
        close(logits(bank.model, PROMPTS[:1])[0], wanted["polite"])


def test_a_batch_that_runs_keeps_its_version_while_the_name_is_replaced(fleet, bank):
    wanted = logits(fleet.alone("naval"), PROMPTS[:1])
    with bank.rows(["naval"]):
        with fleet.opened("medic") as source:
            bank.put_opened("naval", source)
        close(logits(bank.model, PROMPTS[:1]), wanted)
    with bank.rows(["naval"]):
        close(logits(bank.model, PROMPTS[:1]), logits(fleet.alone("medic"), PROMPTS[:1]))


def test_threads_that_share_too_few_slots_get_their_own_rows(fleet):
    bank = Bank(fleet.model(), slots=2)
    for name in LORA:
        with fleet.opened(name) as source:
            bank.put_opened(name, source)
    wanted = {name: logits(fleet.alone(name), PROMPTS[:1])[0] for name in LORA}

    def ask(number):
        name = LORA[number % 4]
        with bank.rows([name, None]):
            got = logits(bank.model, PROMPTS[:1].repeat(2, 1))[0]
        return (got - wanted[name]).abs().max().item()

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(ask, range(40))) < 1e-5


def test_weights_mix_adapters_as_the_exact_sum_does(fleet, bank):
    with bank.rows([{"naval": 1.0, "medic": 0.4}, {"cargo": -0.5}, None]):
        got = logits(bank.model, torch.tensor([tiny.INPUT] * 3))
    both = tiny.peft_sum(fleet.model, [fleet.adapters[n] for n in ("naval", "medic")], [1.0, 0.4])
    less = tiny.peft_sum(fleet.model, [fleet.adapters["cargo"]], [-0.5])
    close(got[0], torch.from_numpy(both)[0])
    close(got[1], torch.from_numpy(less)[0])
    close(got[2], torch.from_numpy(tiny.output(fleet.model()))[0])


@pytest.mark.parametrize("name", ["dora", "fullhead"])
def test_what_cannot_share_a_batch_runs_alone_and_is_never_ignored(fleet, bank, name):
    before = logits(bank.model, PROMPTS)
    with bank.rows([name] * 4):
        got = logits(bank.model, PROMPTS)
    close(got, logits(fleet.alone(name), PROMPTS))
    assert torch.equal(logits(bank.model, PROMPTS), before)
    assert bank.why_alone(name)
    with (
        pytest.raises(Refused, match=rf"'{name}' cannot share a batch(?s:.*)run its requests"),
        bank.rows([name, "naval"]),
    ):
        pass


def test_without_the_bases_folder_such_an_adapter_is_refused(fleet):
    with (
        fleet.opened("dora") as source,
        pytest.raises(Refused, match=r"cannot serve dora: .*weights, so it cannot share"),
    ):
        Bank(fleet.model()).put_opened("dora", source)


def test_all_kernels_agree_with_each_row_alone():
    torch.manual_seed(3)
    A, B = torch.randn(5, 4, 6), torch.randn(5, 4, 7)
    x = torch.randn(6, 3, 6)
    mixes = [((1, 1.0),), (), ((2, 0.5), (3, -2.0)), ((1, 1.0),), ((4, 1.0),), ((2, 1.0),)]
    wanted = torch.stack(
        [
            sum((w * (x[row] @ A[s].T @ B[s]) for s, w in mix), torch.zeros(3, 7))
            for row, mix in enumerate(mixes)
        ]
    )
    plan = plan_rows(mixes, "cpu")
    in_order = plan_rows([((1, 1.0),), ((2, 1.0),), ((3, 0.5),)], "cpu")
    output, gathered = torch.zeros(3, 3, 7), torch.zeros(3, 3, 7)
    add_groups(x[:3], output, A, B, in_order)
    add_gathered(x[:3], gathered, *gather(A, B, in_order), in_order)
    close(output, gathered, 1e-6)
    backwards = plan_rows([((3, 1.0),), ((2, 1.0),), ((1, 0.5),)], "cpu")
    add_groups(x[:3], output.zero_(), A, B, backwards)
    add_gathered(x[:3], gathered.zero_(), *gather(A, B, backwards), backwards)
    close(output, gathered, 1e-6)
    for kernel, factors in (
        (add_gathered, gather(A, B, plan)),
        (add_segments, (A, B)),
        (add_groups, (A, B)),
    ):
        output = torch.zeros(6, 3, 7)
        kernel(x, output, *factors, plan)
        close(output, wanted, 1e-6)
        assert torch.equal(output[1], torch.zeros(3, 7))


@pytest.mark.parametrize("wide", [2, 16], ids=["as wide as needed", "wider than every adapter"])
def test_a_batch_that_goes_on_keeps_its_factors_and_says_the_same(wide):
    from types import SimpleNamespace

    layer = SimpleNamespace(name="l", outputs=7, inputs=6, module=torch.nn.Linear(6, 7))
    table = ModuleTable(layer, 4, wide, torch.float32)
    torch.manual_seed(0)
    made = {slot: Factors(torch.randn(2, 6), torch.randn(2, 7)) for slot in (1, 2, 3)}
    for slot, factors in made.items():
        table.write(slot, factors)
    plan = plan_rows([((slot, 1.0),) for slot in made], "cpu")
    for step in range(SETTLED + 3):
        x, output = torch.randn(3, 1, 6), torch.randn(3, 1, 7)
        wanted = [output[i] + x[i] @ f.A.T @ f.B for i, f in enumerate(made.values())]
        close(table.add(x, output, plan), torch.stack(wanted))
        assert (plan.kept["l"].factors is not None) == (step >= SETTLED)
    shared = plan_rows([((1 + row % 2, 1.0),) for row in range(8)], "cpu")
    for _ in range(SETTLED + 3):
        x, output = torch.randn(8, 1, 6), torch.zeros(8, 1, 7)
        wanted = [x[row] @ made[1 + row % 2].A.T @ made[1 + row % 2].B for row in range(8)]
        close(table.add(x, output, shared), torch.stack(wanted))


def test_gradients_of_the_input_go_through_the_updates(fleet, bank):
    ids = PROMPTS[:2, :1]
    for rows in (["naval", "medic"], ["naval", "naval"]):
        inputs = bank.model.get_input_embeddings()(ids).detach().requires_grad_()
        with bank.rows(rows):
            bank.model(inputs_embeds=inputs, use_cache=False).logits.sum().backward()
        for row, name in enumerate(rows):
            alone = inputs.detach()[row : row + 1].requires_grad_()
            fleet.alone(name)(inputs_embeds=alone, use_cache=False).logits.sum().backward()
            close(inputs.grad[row], alone.grad[0], 1e-4)


def test_one_token_in_the_order_of_slots_is_added_in_place_and_stays_with_its_row():
    torch.manual_seed(0)
    A, B = torch.randn(4, 2, 6), torch.randn(4, 2, 5)
    x, output = torch.randn(3, 1, 6), torch.randn(3, 1, 5)
    x[1] = float("nan")  # another request's inputs that are broken
    wanted = torch.stack([output[i] + x[i] @ A[i + 1].T @ B[i + 1] for i in range(3)])
    add_groups(x, output, A, B, plan_rows([((slot, 1.0),) for slot in (1, 2, 3)], "cpu"))
    close(output[[0, 2]], wanted[[0, 2]])
    assert output[1].isnan().all()


def test_groups_are_preferred_where_tokens_are_few_and_slots_close_together():
    close_by = plan_rows([((slot, 1.0),) for slot in range(1, 33)], "cpu")
    assert prefer_groups(close_by, 8, 512, 1)
    assert prefer_groups(close_by, 8, 512, 32)
    mixed = plan_rows([((slot, 1.0),) for slot in range(32, 0, -1)], "cpu")
    assert not prefer_groups(mixed, 8, 512, 1)
    assert prefer_groups(mixed, 8, 4096, 1)
    assert not prefer_groups(mixed, 8, 4096, 32)
    apart = plan_rows([((slot, 1.0),) for slot in (1, 60, 128)], "cpu")
    assert not prefer_groups(apart, 8, 1 << 20, 1)
    shared = plan_rows([((1 + row % 8, 1.0),) for row in range(32)], "cpu")
    assert prefer_groups(shared, 8, 4096, 1)


def test_many_adapters_are_gathered_and_few_with_many_tokens_are_segments():
    assert not prefer_segments(32, 32, 1)
    assert not prefer_segments(32, 32, 32)
    assert not prefer_segments(32, 8, 32)
    assert prefer_segments(32, 2, 32)
    assert prefer_segments(32, 1, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_bases_stay_close_to_peft(fleet, dtype):
    bank = Bank(fleet.model(dtype=dtype), slots=2)
    with fleet.opened("medic") as source:
        bank.put_opened("medic", source)
    with bank.rows([None, "medic"]):
        got = logits(bank.model, PROMPTS[:2])
    wanted = logits(fleet.alone("medic", dtype=dtype), PROMPTS[1:2])[0]
    assert got.dtype == dtype
    close(got[1].float(), wanted.float(), 2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_factors_that_are_not_finite_are_refused_with_their_module(fleet, tmp_path, dtype, number):
    folder = shutil.copytree(fleet.adapters["naval"], tmp_path / "broken")
    tensors = load_file(folder / "adapter_model.safetensors")
    key = next(key for key in tensors if "1.self_attn.q_proj.lora_B" in key)
    tensors[key].view(-1)[-1] = number
    save_file(tensors, folder / "adapter_model.safetensors")
    bank = Bank(fleet.model(), slots=1, dtype=dtype)
    with Adapter.open(folder, "broken", views=True) as adapter:
        source = OpenAdapter(adapter, fleet.plugins.method_for(adapter), "sha256:broken")
        with pytest.raises(BadWeights, match=r"layers\.1\.self_attn\.q_proj' hold NaN or Inf"):
            bank.read(source)


def test_a_base_in_nf4_serves_the_same_rows_as_peft(fleet, monkeypatch):
    pytest.importorskip("bitsandbytes", reason="pip install bitsandbytes")
    # On CPUs with AVX-512 BF16 it packs layers, which fails below 64 inputs: this base has 32.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    bank = Bank(fleet.model(quantization_config=how), slots=2, dtype=torch.float32)
    for name in ("naval", "medic"):
        with fleet.opened(name) as source:
            bank.put_opened(name, source)
    with bank.rows(["naval", None, "medic"]):
        got = logits(bank.model, PROMPTS[:3])
    for row, name in enumerate(["naval", None, "medic"]):
        wanted = logits(fleet.alone(name, quantization_config=how), PROMPTS[row : row + 1])[0]
        close(got[row].float(), wanted.float(), 1e-4)


def test_gpt2s_transposed_layers_are_served(tmp_path):
    folder = tiny.make_adapter(
        tiny.gpt2(), tmp_path / "g", 5, r=4, target_modules=["c_attn"], fan_in_fan_out=True
    )
    from peft import PeftModel

    from adaptkit.plugin.manager import Plugins

    bank = Bank(tiny.gpt2(), slots=1)
    with Adapter.open(folder) as adapter:
        method = Plugins.from_environment().method_for(adapter)
        bank.put_opened("g", OpenAdapter(adapter, method, "sha256:g"))
    with bank.rows(["g", None]):
        got = logits(bank.model, PROMPTS[:2])
    close(got[0], logits(PeftModel.from_pretrained(tiny.gpt2(), folder), PROMPTS[:1])[0])
    close(got[1], logits(tiny.gpt2(), PROMPTS[1:2])[0])


def test_biases_of_lora_are_added(fleet, tmp_path):
    from transformers import LlamaForCausalLM

    biased = tiny.save_llama(tmp_path / "base", attention_bias=True)
    load = LlamaForCausalLM.from_pretrained
    folder = tiny.save_adapter(
        biased, tmp_path / "b", 7, r=4, lora_bias=True, target_modules=["q_proj"]
    )
    from peft import PeftModel

    bank = Bank(load(biased).eval(), slots=2)
    with Adapter.open(folder) as adapter:
        bank.put_opened("b", OpenAdapter(adapter, fleet.plugins.method_for(adapter), "sha256:b"))
    with bank.rows([None, "b", {"b": 0.0}]):
        got = logits(bank.model, PROMPTS[:3])
    close(got[1], logits(PeftModel.from_pretrained(load(biased), folder).eval(), PROMPTS[1:2])[0])
    close(got[2], logits(load(biased).eval(), PROMPTS[2:3])[0])


def test_a_compiled_model_is_compiled_once_for_all_adapters(fleet, monkeypatch):
    monkeypatch.delenv("TORCHDYNAMO_DISABLE")
    bank = Bank(fleet.model(), slots=3, rank=8)
    for name in ("medic", "naval", "cargo"):
        with fleet.opened(name) as source:
            bank.put_opened(name, source)
    wanted = {n: logits(fleet.alone(n), PROMPTS[:1])[0] for n in ("medic", "naval", "cargo", None)}
    compiled = torch.compile(bank.model, backend="eager", dynamic=False)
    torch._dynamo.utils.counters.clear()
    frames = None
    batches = [["medic", None], ["naval", "medic"], [None, "cargo"], ["cargo", "naval"]]
    with bank.fixed(2) as rows:
        for names in batches:
            with bank.lease(names) as mixes:
                rows.use(mixes)
                got = logits(compiled, PROMPTS[:1].repeat(2, 1))
            close(got[0], wanted[names[0]])
            close(got[1], wanted[names[1]])
            done = torch._dynamo.utils.counters["frames"]["ok"]
            frames = frames or done
            assert done == frames


def test_the_host_tier_keeps_its_budget_and_its_pins(fleet):
    bank = Bank(fleet.model(), slots=2)
    loads = []

    def loader(name):
        def load():
            loads.append(name)
            with fleet.opened(name) as source:
                return bank.read(source)

        return load

    for name in LORA:
        bank.put(name, loader(name))
    bank.host.budget = bank.host.get("naval").nbytes + bank.host.get("medic").nbytes
    bank.pin("naval")
    for name in ("polite", "cargo", "naval", "medic", "naval"):
        with bank.rows([name]):
            close(logits(bank.model, PROMPTS[:1]), logits(fleet.alone(name), PROMPTS[:1]))
        assert bank.host.nbytes <= bank.host.budget
        assert "naval" in bank.host.held
    assert loads.count("naval") == 1
    assert loads.count("medic") == 2


def test_many_waiters_load_an_adapter_once(fleet):
    bank = Bank(fleet.model(), slots=1)
    begun, go, loads = threading.Event(), threading.Event(), []

    def load():
        loads.append(1)
        begun.set()
        go.wait(30)
        with fleet.opened("naval") as source:
            return bank.read(source)

    bank.put("naval", load)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(bank.host.get, "naval") for _ in range(8)]
        begun.wait(30)
        go.set()
        assert len({id(one.result(60)) for one in waiting}) == 1
    assert len(loads) == 1


def test_what_does_not_fit_is_refused_with_what_to_do(fleet, bank):
    with (
        pytest.raises(NotFound, match="no adapter in the bank called 'nvaal'"),
        bank.rows(["nvaal"]),
    ):
        pass
    small = Bank(fleet.model(), slots=1, rank_limit=4)
    with (
        fleet.opened("medic") as source,
        pytest.raises(
            Refused, match=r"its rank is 8, this bank's limit is 4(?s:.*)adaptkit resize medic"
        ),
    ):
        small.put_opened("medic", source)
    for name in ("naval", "polite"):
        with fleet.opened(name) as source:
            small.put_opened(name, source)
    with (
        pytest.raises(NoRoom, match="a batch of 2 adapters: the bank has 1 slots"),
        small.rows(["naval", "polite"]),
    ):
        pass
    with (
        small.rows(["naval"]),
        pytest.raises(NoRoom, match="no slot for polite: all 1 slots are in use"),
        small.rows(["polite"], wait=0.01),
    ):
        pass
    with pytest.raises(Refused, match="a bank of 0 slots"):
        Bank(fleet.model(), slots=0)


def test_an_adapter_of_another_base_is_refused_by_the_module_that_does_not_fit(fleet, tmp_path):
    from transformers import LlamaForCausalLM

    wide = tiny.save_llama(tmp_path / "wide", hidden_size=64)
    model = LlamaForCausalLM.from_pretrained(wide)
    with (
        fleet.opened("naval") as source,
        pytest.raises(BaseMismatch, match=r"cannot serve naval: its update of '.*' is 32×"),
    ):
        Bank(model).put_opened("naval", source)
    with (
        fleet.opened("naval") as source,
        pytest.raises(BaseMismatch, match=r"cannot serve naval: the base has no linear layer"),
    ):
        Bank(tiny.gpt2()).put_opened("naval", source)


def test_a_batch_of_another_size_is_refused_rather_than_guessed(fleet, bank):
    with bank.rows(["naval", None]), pytest.raises(Refused, match="it has 3 rows.*named for 2"):
        logits(bank.model, PROMPTS[:3])


def test_a_closed_bank_leaves_the_model_as_it_was(fleet, bank):
    with bank.rows(["naval"]):
        logits(bank.model, PROMPTS[:1])
    bank.close()
    assert all(not module._forward_hooks for module in bank.model.modules())


def test_without_memory_what_is_not_pinned_makes_room_and_then_it_is_an_error(fleet):
    bank = Bank(fleet.model(), slots=1)
    for name in ("naval", "medic"):
        bank.put(name, lambda name=name: read(fleet, bank, name))
        bank.host.get(name)
    bank.pin("medic")
    full = [True]

    def load():
        if "naval" in bank.host.held or full[0]:
            torch.empty(1 << 60, dtype=torch.uint8)  # more than any machine has
        return read(fleet, bank, "polite")

    bank.put("polite", load)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        bank.host.get("polite")
    assert bank.host.held == ("medic",)
    full[0] = False
    bank.host.get("naval")
    assert bank.host.get("polite").rank == 2
    assert bank.host.held == ("medic", "polite")
    with bank.rows(["polite"]):
        close(logits(bank.model, PROMPTS[:1]), logits(fleet.alone("polite"), PROMPTS[:1]))


def read(fleet, bank, name):
    with fleet.opened(name) as source:
        return bank.read(source)


def test_a_thousand_adapters_are_served_from_a_memory_for_fifty(fleet, tmp_path):

    first = load_file(fleet.adapters["naval"] / "adapter_model.safetensors")
    config = (fleet.adapters["naval"] / "adapter_config.json").read_text()
    bank = Bank(fleet.model(), slots=8)

    def loader(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        scale = 0.2 + number / 1000
        save_file({k: v * scale for k, v in first.items()}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(config)

        def load():
            with Adapter.open(folder) as adapter:
                method = fleet.plugins.method_for(adapter)
                return bank.read(OpenAdapter(adapter, method, str(number)))

        return load

    for number in range(1000):
        bank.put(str(number), loader(number))
    bank.host.budget = 50 * bank.host.get("0").nbytes
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).tolist()
    for at in range(0, 1000, 4):
        with bank.rows([str(number) for number in order[at : at + 4]]):
            got = logits(bank.model, PROMPTS)
        assert bank.host.nbytes <= bank.host.budget
        if at % 100 == 0:
            from peft import PeftModel

            alone = PeftModel.from_pretrained(fleet.model(), tmp_path / str(order[at]))
            close(got[0], logits(alone, PROMPTS[:1])[0])
    assert len(bank.host.held) == 50
    assert bank.host.loads >= 1000
