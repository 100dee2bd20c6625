"""What other engines do with LoRA adapters, by their documented rules.

The rules are data, each with the version it was read from and its source; engines change, so a rule that
is older than the engine at hand is a hint and not a promise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adaptkit.errors import NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

Outcome = Literal["applied", "ignored", "refused"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one part, why, and where that is documented."""

    outcome: Outcome
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class Values:
    """The texts of a field that change nothing for an engine, in lower case, and what becomes of any other."""

    known: frozenset[str]
    others: Rule
    fix: str
    """What to type, with places for the adapter's `label`, its `rank` and the `double` of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRules:
    """What one engine's documentation and code, of one version, say about LoRA adapters."""

    name: str
    version: str
    source: str
    """Where it is documented that low-rank updates of linear layers are applied."""
    methods: frozenset[str] = frozenset({"lora"})
    rank: Rule
    rank_limit: int | None = None
    rank_flag: str = ""
    flags: Mapping[str, Rule]
    """Of fields of adapter_config.json that are on, and of its patterns: those that are not applied."""
    layers: Mapping[str, Rule] = field(default_factory=dict)
    """Of layers by the last parts of their names: those that are not applied."""
    extras: Rule
    experts: Rule
    values: Mapping[str, Values] = field(default_factory=dict)
    """Of fields of adapter_config.json whose text names a variant: those that are known."""
    copies: Rule | None = None
    """Of the base's own embeddings that PEFT saved beside an adapter of them; None where they are as other extras."""
    heads: Rule | None = None
    """Of whole tensors outside the base's blocks, such as heads; None where they are as other extras."""
    only: frozenset[str] = frozenset()
    """The layers that are read, by the last parts of their names; empty is every one."""
    others: Rule | None = None
    """Of layers that are not among `only`."""
    beside: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Layers that are read only where the same block has others adapted too, and which those are."""
    alone: Rule | None = None
    """Of layers that lack what they must be `beside`."""
    in_part: Rule | None = None
    """Of a kind of layer that is adapted in some blocks only; None where that makes no difference."""
    padded: Rule | None = None
    """Of ranks that are padded before the scale is computed; None where the scale is alpha / r whatever the rank."""
    whole_numbers: Mapping[str, Rule] = field(default_factory=dict)
    """Of fields of adapter_config.json that are read as whole numbers, when they are written with a point."""
    advice: str = ""
    ranks: tuple[int, ...] = ()
    """The only limits of the rank that it can be started with, upwards; empty is any."""

    def limit_for(self, rank: int) -> int | None:
        """The least limit it can be started with that is enough for a rank; None above the largest."""
        return next((limit for limit in self.ranks if limit >= rank), None) if self.ranks else rank


# Code is named by the commit or the release that was read, so that a link goes on showing what the rule says.
_GITHUB = "https://github.com"
_VLLM = "https://docs.vllm.ai/en/latest/features/lora.html"
_VLLM_CODE = f"{_GITHUB}/vllm-project/vllm/blob/v0.33.0/vllm/lora/peft_helper.py"
_VLLM_RANKS = f"{_GITHUB}/vllm-project/vllm/blob/v0.33.0/vllm/config/lora.py"
_VLLM_UTILS = f"{_GITHUB}/vllm-project/vllm/blob/v0.33.0/vllm/lora/utils.py"
_SGLANG = "https://docs.sglang.io/docs/advanced_features/lora"
_SGLANG_FOLDER = f"{_GITHUB}/sgl-project/sglang/blob/v0.5.23/python/sglang/srt/lora"
_SGLANG_CODE = f"{_SGLANG_FOLDER}/lora.py"
_SGLANG_CHECKS = f"{_SGLANG_FOLDER}/lora_manager.py"
_SGLANG_POOL = f"{_SGLANG_FOLDER}/mem_pool.py"
_LLAMACPP = f"{_GITHUB}/ggml-org/llama.cpp/blob/0b03adaa632b76c7651dd1f6fa3b7a0b5eda479c/convert_lora_to_gguf.py"
_LLAMACPP_SCALE = f"{_GITHUB}/ggml-org/llama.cpp/blob/d66c5cd4474bcdff6d569b528c4693ee6ea627fb/src/llama-adapter.h"
_OLLAMA = "https://docs.ollama.com/import"
_OLLAMA_CODE = (
    f"{_GITHUB}/ollama/ollama/blob/33ee7168ba1e16c813b52dc2c9417efa1e2e9f20/convert/convert.go"
)
_OLLAMA_NAMES = f"{_GITHUB}/ollama/ollama/blob/02420803ae64261a12105e6e343a6dff146ff848/convert/convert_llama_adapter.go"
_LORAX = "https://loraexchange.ai/models/adapters"
_LORAX_CODE = f"{_GITHUB}/predibase/lorax/blob/03679f33f7f9d9da7e99d5b6fd40b4548019a3c3/server/lorax_server/adapters/lora.py"
_TGI = "https://huggingface.co/docs/text-generation-inference/conceptual/lora"
_TGI_FOLDER = (
    f"{_GITHUB}/huggingface/text-generation-inference/blob/main/server/text_generation_server"
)
_TGI_CODE = f"{_TGI_FOLDER}/adapters/lora.py"
_TGI_LAYERS = f"{_TGI_FOLDER}/utils/adapter.py"

_NO_DORA = "the magnitude vectors of DoRA are not read, so the update would be another"
AS_PLAIN = "adaptkit resize {label} --rank {rank} writes plain LoRA"
_NO_ALORA = "it would be applied to every token"
_NO_START = "PEFT takes a part out of the base's weights when it loads it, and the engine does not"
_NO_BIAS = "only lora_A and lora_B weights are read"
_NO_UPDATE = "it is no low-rank update"
_RSLORA = "the scale is alpha / r, rsLoRA's is alpha / √r"
_ONE_RANK = "the scale is alpha / r with the configuration's r for every module"
_ONE_ALPHA = "one alpha is read for all modules"
_EXPERTS = "fused experts are not read"
_NO_LIMIT = "it is started with the rank of its adapters"
_NO_MAGNITUDE = "DoRA's magnitude vectors are passed over without a word, so the update is another"
_BIASES_LOST = "its biases are passed over without a word"
_IN_PART = "a kind of layer that some blocks lack is left out in every block"
_PADDED = "the rank is padded to 8 or a multiple of 16, and the scale of every kind of layer but the first is alpha / padded rank"
_LINEARS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})


def _through_gguf(
    name: str, version: str, source: str, code: str, advice: str, **more: Any
) -> EngineRules:
    """The rules of engines that read the GGUF file that llama.cpp's converter, or one like it, writes."""
    return EngineRules(
        name=name,
        version=version,
        source=source,
        rank=Rule("applied", _NO_LIMIT, source),
        flags={
            "use_dora": Rule("refused", _NO_DORA, code),
            "lora_bias": Rule("refused", _NO_BIAS, code),
            "use_rslora": Rule("ignored", _RSLORA, _LLAMACPP_SCALE),
            "alpha_pattern": Rule("ignored", _ONE_ALPHA, _LLAMACPP_SCALE),
        },
        extras=Rule("refused", _NO_UPDATE, code),
        experts=Rule("refused", _EXPERTS, code),
        advice=advice,
        **more,
    )


def _of_lorax(
    name: str, version: str, source: str, code: str, advice: str, **more: Any
) -> EngineRules:
    """The rules of LoRAX, and of what took its code over: tensors that are not asked for are passed over."""
    return EngineRules(
        name=name,
        version=version,
        source=source,
        rank=Rule("applied", _NO_LIMIT, source),
        flags={
            "use_dora": Rule("ignored", _NO_MAGNITUDE, code),
            "lora_bias": Rule("ignored", _BIASES_LOST, code),
            "rank_pattern": Rule("ignored", _ONE_RANK, code),
            "alpha_pattern": Rule("ignored", _ONE_ALPHA, code),
        },
        layers={"embed_tokens": Rule("ignored", "embeddings are not asked for", code)},
        extras=Rule("ignored", _NO_UPDATE, code),
        experts=Rule("ignored", _EXPERTS, code),
        in_part=Rule("ignored", _IN_PART, code),
        padded=Rule("ignored", _PADDED, code),
        advice=advice,
        **more,
    )


RULES: Mapping[str, EngineRules] = {
    rules.name: rules
    for rules in (
        EngineRules(
            name="vllm",
            version="0.33",
            source=_VLLM,
            rank=Rule("refused", "its rank is above the limit", _VLLM_RANKS),
            rank_limit=16,
            rank_flag="--max-lora-rank",
            flags={
                "use_dora": Rule(
                    "refused",
                    "DoRA rescales the base's rows, which the engine's kernels do not",
                    _VLLM_CODE,
                ),
                "lora_bias": Rule("refused", _NO_BIAS, _VLLM_CODE),
                "alora_invocation_tokens": Rule("refused", _NO_ALORA, _VLLM_CODE),
                "layer_replication": Rule("refused", "layers are not repeated", _VLLM_CODE),
                "use_bdlora": Rule("refused", _NO_UPDATE, _VLLM_CODE),
                "use_qalora": Rule("refused", _NO_UPDATE, _VLLM_CODE),
                "kasa_config": Rule("refused", _NO_START, _VLLM_CODE),
            },
            extras=Rule("refused", _NO_UPDATE, _VLLM_CODE),
            experts=Rule("applied", "", _VLLM),
            values={
                "bias": Values(
                    frozenset({"none"}), Rule("refused", _NO_BIAS, _VLLM_CODE), AS_PLAIN
                ),
                "init_lora_weights": Values(
                    frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"}),
                    Rule("refused", _NO_START, _VLLM_CODE),
                    "adaptkit resize {label} --base DIR --rank {double} writes plain LoRA",
                ),
            },
            copies=Rule("ignored", "the base's own layer is not replaced", _VLLM_UTILS),
            advice="--enable-lora --max-lora-rank R --max-loras N",
            ranks=(1, 8, 16, 32, 64, 128, 256, 320, 512),  # MaxLoRARanks in _VLLM_RANKS
        ),
        EngineRules(
            name="sglang",
            version="0.5.23",
            source=_SGLANG,
            rank=Rule("refused", "its rank is above the limit", _SGLANG),
            rank_flag="--max-lora-rank",
            flags={
                "use_dora": Rule("refused", _NO_DORA, _SGLANG_CHECKS),
                "lora_bias": Rule("refused", _NO_BIAS, _SGLANG_POOL),
                "use_rslora": Rule("ignored", _RSLORA, _SGLANG_CODE),
                "rank_pattern": Rule("refused", _ONE_RANK, _SGLANG_POOL),
                "alpha_pattern": Rule("ignored", _ONE_ALPHA, _SGLANG_CODE),
            },
            extras=Rule("refused", _NO_UPDATE, _SGLANG_POOL),
            experts=Rule("refused", _EXPERTS, _SGLANG_POOL),
            values={
                "target_modules": Values(
                    frozenset({"all", "all-linear"}),
                    Rule("refused", "a regex is not read, only a list", _SGLANG_CHECKS),
                    AS_PLAIN,
                )
            },
            copies=Rule("ignored", "the base's own layer is not replaced", _SGLANG_POOL),
            heads=Rule("ignored", _NO_UPDATE, _SGLANG_CODE),
            beside={
                "q_proj": frozenset({"v_proj"}),
                "k_proj": frozenset({"q_proj", "v_proj"}),
                "v_proj": frozenset({"q_proj"}),
                "up_proj": frozenset({"gate_proj"}),
            },
            alone=Rule(
                "refused", "it is read as a part of one matrix, with {lacking}", _SGLANG_CODE
            ),
            advice="--enable-lora; requests name the model base:adapter",
        ),
        _of_lorax(
            "lorax",
            "0.12",
            _LORAX,
            _LORAX_CODE,
            "the parameters adapter_id and adapter_source of a request",
        ),
        _of_lorax(
            "tgi",
            "3.3",
            _TGI,
            _TGI_CODE,
            "LORA_ADAPTERS=NAME=DIR before it starts, and the parameter adapter_id of a request",
            only=_LINEARS | {"lm_head"},
            others=Rule("ignored", "layers of this name are not asked for", _TGI_LAYERS),
        ),
        _through_gguf(
            "llamacpp",
            "b7000",
            _LLAMACPP,
            _LLAMACPP,
            "adaptkit export REF FILE.gguf --for gguf, then llama-server --lora FILE.gguf",
            copies=Rule("ignored", "the base's own layer is not replaced", _LLAMACPP),
        ),
        _through_gguf(
            "ollama",
            "0.13",
            _OLLAMA,
            _OLLAMA_CODE,
            "FROM base and ADAPTER DIR in a Modelfile, for Llama, Mistral and Gemma 2",
            only=_LINEARS,
            others=Rule("refused", "its tensors get no name that llama.cpp knows", _OLLAMA_NAMES),
            whole_numbers={
                "lora_alpha": Rule("refused", "it is read as a whole number", _OLLAMA_CODE)
            },
        ),
    )
}


def rules_of(engine: str) -> EngineRules:
    """An engine's rules; an unknown engine lists those that are known."""
    if engine not in RULES:
        raise NotFound("engine", engine, RULES)
    return RULES[engine]


def limit_to_start(engine: str, asked: int) -> int:
    """The limit that an engine is started with to serve ranks up to `asked`; `Refused` above its largest."""
    rules = RULES.get(engine)
    if rules is None:
        return asked
    limit = rules.limit_for(asked)
    if limit is None:
        known = ", ".join(map(str, rules.ranks))
        raise Refused(
            f"cannot start {engine} for ranks up to {asked}",
            why=f"{rules.rank_flag} of {engine} {rules.version} is one of {known}",
            fix=f"--rank-limit {rules.ranks[-1]}, and adaptkit resize for adapters above it",
        )
    return limit
