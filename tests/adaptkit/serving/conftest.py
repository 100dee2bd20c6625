"""A base with adapters of several ranks, layers and methods, and PEFT alone as the oracle."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import tiny
from once import once

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.plugin.manager import Plugins

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "naval": {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj"]},
    "medic": {"r": 8, "lora_alpha": 4, "use_rslora": True, "target_modules": "all-linear"},
    "polite": {"r": 2, "lora_alpha": 8, "target_modules": ["v_proj", "up_proj", "o_proj"]},
    "cargo": {
        "r": 6,
        "lora_alpha": 24,
        "target_modules": ["q_proj", "k_proj"],
        "rank_pattern": {"k_proj": 3},
    },
    "dora": {"r": 4, "lora_alpha": 8, "use_dora": True, "target_modules": ["q_proj", "v_proj"]},
    "fullhead": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "modules_to_save": ["lm_head"],
    },
}


@dataclass(frozen=True)
class Fleet:
    base: Path
    adapters: dict[str, Path]
    plugins: Plugins

    @contextmanager
    def opened(self, name: str):
        with Adapter.open(self.adapters[name], name) as adapter:
            yield OpenAdapter(adapter, self.plugins.method_for(adapter), f"sha256:{name}")

    def model(self, **how):
        from transformers import LlamaForCausalLM

        return LlamaForCausalLM.from_pretrained(self.base, **how).eval()

    def alone(self, name: str | None, **how):
        """The model with one adapter, as PEFT loads it."""
        from peft import PeftModel

        model = self.model(**how)
        return model if name is None else PeftModel.from_pretrained(model, self.adapters[name])


@pytest.fixture(scope="session")
def fleet(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    def make(folder: Path) -> None:
        for seed, (name, config) in enumerate(KINDS.items()):
            tiny.save_adapter(tiny_llama, folder / name, seed=seed + 1, **config)

    made = once(tmp_path_factory, "fleet", make)
    return Fleet(tiny_llama, {name: made / name for name in KINDS}, Plugins.from_environment())


CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,:;!?%+-*/=()<>[]{}#&'"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }};{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


@pytest.fixture(scope="session")
def served_base(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with a tokenizer of single characters and a chat template."""
    import shutil

    def make(folder: Path) -> None:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        shutil.copytree(fleet.base, folder / "base")
        words = {character: at for at, character in enumerate(["~", *CHARACTERS])}
        plain = Tokenizer(models.WordLevel(words, unk_token="~"))
        plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        plain.decoder = decoders.Fuse()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="~")
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder / "base")

    return once(tmp_path_factory, "served", make) / "base"
