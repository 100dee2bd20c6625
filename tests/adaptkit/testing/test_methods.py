"""adaptkit.testing.methods: the built-ins hold to it, and each of its checks can fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny

from adaptkit.adapters.adapter import Adapter
from adaptkit.errors import AdaptkitError
from adaptkit.extend import LowRank
from adaptkit.testing import MethodConformance
from adaptkit_plugins.methods.generic import Generic
from adaptkit_plugins.methods.lora import Lora

# Every kind of layer, with what makes a configuration hard to write: patterns, rsLoRA, biases, whole modules, DoRA.
ADAPTERS = {
    "llama": (
        tiny.llama,
        {
            "r": 4,
            "lora_alpha": 16,
            "target_modules": "all-linear",
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"down_proj": 3},
            "use_rslora": True,
        },
    ),
    "bias": (tiny.bert, {"r": 3, "target_modules": ["query", "value"], "lora_bias": True}),
    "conv1d": (tiny.gpt2, {"r": 4, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "embedding": (
        tiny.bert,
        {"r": 4, "target_modules": ["word_embeddings", "query"], "modules_to_save": ["classifier"]},
    ),
    "dora": (tiny.llama, {"r": 4, "target_modules": ["q_proj"], "use_dora": True}),
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Adapters by name, each made and saved by PEFT once."""
    folder, made = tmp_path_factory.mktemp("saved"), {}

    def get(name):
        if name not in made:
            base, config = ADAPTERS[name]
            made[name] = tiny.make_adapter(base(), folder / name, seed=3, **config)
        return made[name]

    return get


class TestLora(MethodConformance):
    @pytest.fixture
    def method(self):
        return Lora()

    @pytest.fixture(params=ADAPTERS)
    def adapter_dir(self, request, saved):
        return saved(request.param)


class TestGeneric(MethodConformance):
    @pytest.fixture
    def method(self):
        return Generic()

    @pytest.fixture
    def adapter_dir(self, tmp_path):
        from peft import IA3Config, get_peft_model

        config = IA3Config(
            target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
        )
        tiny.save(get_peft_model(tiny.llama(), config), tmp_path / "ia3")
        return tmp_path / "ia3"


class Nameless(Lora):
    name = "LoRA"


class Greedy(Lora):
    def recognises(self, view):
        return True


class Meddling(Lora):
    def check(self, view):
        view.config["r"] = 1


class Sentence(Lora):
    def unmergeable(self, view):
        return "It cannot be merged."


class Twice(Lora):
    def modules(self, view):
        return super().modules(view) * 2


class Unordered(Lora):
    calls = 0

    def modules(self, view):
        self.calls += 1
        return super().modules(view)[:: 1 if self.calls % 2 else -1]


class Transposed(Lora):
    def delta(self, view, module):
        delta = super().delta(view, module)
        return LowRank(delta.A.T, delta.B.T, delta.scale)


class NotFinite(Lora):
    def delta(self, view, module):
        return replace(super().delta(view, module), scale=np.inf)


class WrongRank(Lora):
    def rank(self, view):
        return 3 * super().rank(view)


class Drifting(Lora):
    calls = 0

    def delta(self, view, module):
        self.calls += 1
        return replace(super().delta(view, module), scale=float(self.calls))


class Losing(Lora):
    def extras(self, view):
        return ()


class Claiming(Lora):
    def extras(self, view):
        return tuple(view.header)


class OneAlpha(Lora):
    """Forgets that the merge gave modules ranks of their own."""

    def merged_config(self, views, parts, kept, settings, bias):
        return super().merged_config(views, parts, kept, settings, bias) | {"alpha_pattern": {}}


class NoScale(Lora):
    def delta(self, view, module):
        return replace(super().delta(view, module), scale=3.0)


class Computing(Lora):
    def pack(self, parts):
        return {key: array for key, array in super().pack(parts).items() if array.any()}


@pytest.mark.parametrize(
    ("bad", "adapter", "check"),
    [
        (Nameless, "llama", "test_it_says_what_it_is"),
        (Meddling, "llama", "test_its_adapter_is_recognised_and_passes"),
        (Greedy, "llama", "test_an_adapter_of_another_type_is_left_to_others"),
        (Sentence, "llama", "test_why_it_cannot_be_merged_is_a_clause"),
        (Twice, "llama", "test_modules_are_unique_and_in_a_fixed_order"),
        (Unordered, "llama", "test_modules_are_unique_and_in_a_fixed_order"),
        (Transposed, "llama", "test_every_delta_has_its_modules_shape_and_is_finite"),
        (NotFinite, "llama", "test_every_delta_has_its_modules_shape_and_is_finite"),
        (WrongRank, "llama", "test_every_delta_has_its_modules_shape_and_is_finite"),
        (Drifting, "llama", "test_what_can_be_merged_is_merged_with_itself"),
        (Losing, "embedding", "test_each_tensor_is_of_a_delta_or_an_extra_and_never_both"),
        (Claiming, "llama", "test_each_tensor_is_of_a_delta_or_an_extra_and_never_both"),
        (OneAlpha, "llama", "test_what_it_packs_reads_as_the_same_update"),
        (NoScale, "llama", "test_what_it_packs_reads_as_the_same_update"),
        (Computing, "llama", "test_packing_empty_arrays_tells_names_and_shapes"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_each_check_catches_what_it_is_for(bad, adapter, check, saved):
    wanted = getattr(MethodConformance, check).__code__.co_varnames
    with Adapter.open(saved(adapter)) as view:
        given = {"method": bad()} | ({"view": view} if "view" in wanted else {})
        with pytest.raises((AssertionError, AdaptkitError)):
            getattr(MethodConformance(), check)(**given)


def test_every_check_is_in_the_table_above():
    checks = {name for name in vars(MethodConformance) if name.startswith("test_")}
    (table,) = [
        m.args[1]
        for m in test_each_check_catches_what_it_is_for.pytestmark
        if m.name == "parametrize"
    ]
    assert {check for _, _, check in table} == checks
