"""What other engines make of an adapter: what they apply, ignore and refuse, by their documented rules.

The rules are data, each with the version it was read from and its source; engines change, so a rule that
is older than the engine at hand is a hint and not a promise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adaptkit.errors import NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.adapters.opened import OpenAdapter

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


@dataclass(frozen=True, slots=True)
class EngineRules:
    """What one engine's documentation and code, of one version, say about LoRA adapters."""

    name: str
    version: str
    source: str
    """Where it is documented that low-rank updates of linear layers are applied."""
    methods: frozenset[str]
    rank: Rule
    rank_limit: int | None
    rank_flag: str
    flags: Mapping[str, Rule]
    """Of fields of adapter_config.json that are on, and of its patterns: those that are not applied."""
    layers: Mapping[str, Rule]
    """Of layers by the last parts of their names: those that are not applied."""
    extras: Rule
    experts: Rule
    values: Mapping[str, Values] = field(default_factory=dict)
    """Of fields of adapter_config.json whose text names a variant: those that are known."""
    copies: Rule | None = None
    """Of the base's own embeddings that PEFT saved beside an adapter of them; None where they are as other extras."""
    advice: str = ""
    ranks: tuple[int, ...] = ()
    """The only limits of the rank that it can be started with, upwards; empty is any."""

    def limit_for(self, rank: int) -> int | None:
        """The least limit it can be started with that is enough for a rank; None above the largest."""
        return next((limit for limit in self.ranks if limit >= rank), None) if self.ranks else rank


@dataclass(frozen=True, slots=True)
class Finding:
    """What becomes of one part of the adapter, and why."""

    part: str
    outcome: Outcome
    reason: str = ""
    source: str = ""
    version: str = ""
    """The engine's, as the rule was read."""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Preflight:
    """Everything that an engine does with an adapter."""

    engine: str
    version: str
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        said = "loads" if self.whole else "loads a part" if self.loads else "refused"
        return (
            f"<Preflight for {self.engine} {self.version}: {said}, findings: {len(self.findings)}>"
        )

    @property
    def loads(self) -> bool:
        """Whether the engine takes the adapter at all."""
        return not any(finding.outcome == "refused" for finding in self.findings)

    @property
    def whole(self) -> bool:
        """Whether the engine applies all of it."""
        return all(finding.outcome == "applied" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"loads": self.loads, "whole": self.whole}


# Code is named by the commit or the release that was read, so that a link goes on showing what the rule says.
_GITHUB = "https://github.com"
_VLLM = "https://docs.vllm.ai/en/latest/features/lora.html"
_VLLM_CODE = f"{_GITHUB}/vllm-project/vllm/blob/v0.33.0/vllm/lora/peft_helper.py"
_VLLM_RANKS = f"{_GITHUB}/vllm-project/vllm/blob/v0.33.0/vllm/config/lora.py"
_VLLM_UTILS = f"{_GITHUB}/vllm-project/vllm/blob/v0.33.0/vllm/lora/utils.py"
_SGLANG = "https://docs.sglang.io/docs/advanced_features/lora"
_SGLANG_CODE = f"{_GITHUB}/sgl-project/sglang/blob/002c60aa61549a08b2d4662d0f876f1fc6aa6863/python/sglang/srt/lora/lora.py"
_LLAMACPP = f"{_GITHUB}/ggml-org/llama.cpp/blob/0b03adaa632b76c7651dd1f6fa3b7a0b5eda479c/convert_lora_to_gguf.py"
_LLAMACPP_SCALE = f"{_GITHUB}/ggml-org/llama.cpp/blob/d66c5cd4474bcdff6d569b528c4693ee6ea627fb/src/llama-adapter.h"
_OLLAMA = "https://docs.ollama.com/import"
_OLLAMA_CODE = (
    f"{_GITHUB}/ollama/ollama/blob/33ee7168ba1e16c813b52dc2c9417efa1e2e9f20/convert/convert.go"
)
_LORAX = "https://loraexchange.ai/models/adapters"
_LORAX_CODE = f"{_GITHUB}/predibase/lorax/blob/03679f33f7f9d9da7e99d5b6fd40b4548019a3c3/server/lorax_server/adapters/lora.py"

_NO_DORA = "the magnitude vectors of DoRA are not read, so the update would be another"
_AS_PLAIN = "adaptkit resize {label} --rank {rank} writes plain LoRA"
_COPIES = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
_NO_ALORA = "it would be applied to every token"
_NO_START = "PEFT takes a part out of the base's weights when it loads it, and the engine does not"
_NO_BIAS = "only lora_A and lora_B weights are read"
_NO_UPDATE = "it is no low-rank update"
_RSLORA = "the scale is alpha / r, rsLoRA's is alpha / √r"
_ONE_RANK = "the scale is alpha / r with the configuration's r for every module"
_ONE_ALPHA = "one alpha is read for all modules"
_EXPERTS = "fused experts are not read"
_NO_LIMIT = "it is started with the rank of its adapters"


def _through_gguf(name: str, version: str, source: str, code: str, advice: str) -> EngineRules:
    """The rules of engines that read the GGUF file that llama.cpp's converter, or one like it, writes."""
    return EngineRules(
        name=name,
        version=version,
        source=source,
        methods=frozenset({"lora"}),
        rank=Rule("applied", _NO_LIMIT, source),
        rank_limit=None,
        rank_flag="",
        flags={
            "use_dora": Rule("refused", _NO_DORA, code),
            "lora_bias": Rule("refused", _NO_BIAS, code),
            "use_rslora": Rule("ignored", _RSLORA, _LLAMACPP_SCALE),
            "alpha_pattern": Rule("ignored", _ONE_ALPHA, _LLAMACPP_SCALE),
        },
        layers={},
        extras=Rule("refused", _NO_UPDATE, code),
        experts=Rule("refused", _EXPERTS, code),
        advice=advice,
    )


RULES: Mapping[str, EngineRules] = {
    rules.name: rules
    for rules in (
        EngineRules(
            name="vllm",
            version="0.33",
            source=_VLLM,
            methods=frozenset({"lora"}),
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
            layers={},
            extras=Rule("refused", _NO_UPDATE, _VLLM_CODE),
            experts=Rule("applied", "", _VLLM),
            values={
                "bias": Values(
                    frozenset({"none"}), Rule("refused", _NO_BIAS, _VLLM_CODE), _AS_PLAIN
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
            version="0.5",
            source=_SGLANG,
            methods=frozenset({"lora"}),
            rank=Rule("refused", "its rank is above the limit", _SGLANG),
            rank_limit=None,
            rank_flag="--max-lora-rank",
            flags={
                "use_dora": Rule("refused", _NO_DORA, _SGLANG_CODE),
                "lora_bias": Rule("refused", _NO_BIAS, _SGLANG_CODE),
                "use_rslora": Rule("ignored", _RSLORA, _SGLANG_CODE),
                "rank_pattern": Rule("ignored", _ONE_RANK, _SGLANG_CODE),
                "alpha_pattern": Rule("ignored", _ONE_ALPHA, _SGLANG_CODE),
            },
            layers={
                name: Rule("ignored", "sglang does not adapt this layer", _SGLANG)
                for name in ("embed_tokens", "lm_head")
            },
            extras=Rule("ignored", _NO_UPDATE, _SGLANG_CODE),
            experts=Rule("ignored", _EXPERTS, _SGLANG_CODE),
            advice="--enable-lora; requests name the model base:adapter",
        ),
        EngineRules(
            name="lorax",
            version="0.12",
            source=_LORAX,
            methods=frozenset({"lora"}),
            rank=Rule("applied", _NO_LIMIT, _LORAX),
            rank_limit=None,
            rank_flag="",
            flags={
                "use_dora": Rule("refused", _NO_DORA, _LORAX_CODE),
                "lora_bias": Rule("refused", _NO_BIAS, _LORAX_CODE),
                "rank_pattern": Rule("ignored", _ONE_RANK, _LORAX_CODE),
                "alpha_pattern": Rule("ignored", _ONE_ALPHA, _LORAX_CODE),
            },
            layers={},
            extras=Rule("ignored", _NO_UPDATE, _LORAX_CODE),
            experts=Rule("ignored", _EXPERTS, _LORAX_CODE),
            advice="the parameters adapter_id and adapter_source of a request",
        ),
        _through_gguf(
            "llamacpp",
            "b7000",
            _LLAMACPP,
            _LLAMACPP,
            "adaptkit export REF FILE.gguf --for gguf, then llama-server --lora FILE.gguf",
        ),
        _through_gguf(
            "ollama",
            "0.13",
            _OLLAMA,
            _OLLAMA_CODE,
            "FROM base and ADAPTER DIR in a Modelfile, for Llama, Mistral and Gemma",
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


def preflight(
    source: OpenAdapter, rules: EngineRules, *, rank_limit: int | None = None
) -> Preflight:
    """Judge one adapter by an engine's rules.

    `rank_limit` is what the engine is started with: the next one upwards that it knows, its largest above that.
    """
    view, method, config = source.adapter, source.method, source.adapter.config
    label, findings = source.label, list[Finding]()

    def find(part: str, rule: Rule, fix: str = "") -> None:
        reason = "" if rule.outcome == "applied" else rule.reason
        findings.append(Finding(part, rule.outcome, reason, rule.source, rules.version, fix))

    applied = Rule("applied", "", rules.source)
    if method.name not in rules.methods:
        reason = f"{rules.name} {rules.version} reads {', '.join(sorted(rules.methods))} only"
        rule = Rule("refused", reason, rules.source)
        find(
            f"method {method.name}", rule, f"adaptkit convert {label} --name NAME writes it as LoRA"
        )
        return Preflight(rules.name, rules.version, tuple(findings))
    declared = max([method.rank(view) or 0, *_declared(config)])
    plain = _AS_PLAIN.format(label=label, rank=declared)
    baked = f"adaptkit bake {label} makes a full model"
    for flag, rule in rules.flags.items():
        if config.get(flag):
            find(flag, rule, plain if rule.outcome == "ignored" else baked)
    for name, values in rules.values.items():
        value = config.get(name)
        if isinstance(value, str) and value.lower() not in values.known:
            fix = values.fix.format(label=label, rank=declared, double=2 * declared)
            find(f"{name} {value}", values.others, fix)
    limit = rules.rank_limit
    if rank_limit is not None:
        limit = rules.limit_for(rank_limit) or rules.ranks[-1]
    if limit is not None and declared > limit:
        enough = rules.limit_for(declared)
        flag = f"{rules.rank_flag} {enough}, or " if rules.rank_flag and enough else ""
        rule = Rule("refused", "its rank is above the limit", rules.rank.source)
        find(f"rank {declared}", rule, f"{flag}adaptkit resize {label} --rank {limit}")
    for key in method.extras(view):
        rule = rules.copies if rules.copies and key.endswith(_COPIES) else rules.extras
        part = "--embeddings" if ".embed_tokens." in key else "--heads"
        find(key, rule, f"{baked}; adaptkit strip {label} {part} leaves it out")
    if not method.unmergeable(view):
        for module in method.modules(view):
            last = module.name.rpartition(".")[2]
            if module.kind == "expert":
                find(module.key, rules.experts)
            elif last in rules.layers:
                find(module.key, rules.layers[last], f"adaptkit strip {label} --modules '*{last}'")
            else:
                find(module.key, applied)
    return Preflight(rules.name, rules.version, tuple(findings))


def _declared(config: Mapping[str, Any]) -> list[int]:
    """The ranks that a configuration names: engines read these, not the shapes of the factors."""
    patterns = config.get("rank_pattern")
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())]
    return [rank for rank in ranks if isinstance(rank, int)]
