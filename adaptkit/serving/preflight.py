"""What other engines make of an adapter: what they apply, ignore and refuse, by their documented rules.

The rules are data, each with the version it was read from and its source; engines change, so a rule that
is older than the engine at hand is a hint and not a promise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptkit.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.adapters.opened import OpenAdapter

Outcome = Literal["applied", "ignored", "refused"]


@dataclass(frozen=True, slots=True)
class EngineRules:
    """What one engine's documentation and code say about LoRA adapters."""

    name: str
    version: str
    source: str
    methods: frozenset[str]
    rank_limit: int | None
    rank_flag: str
    flags: Mapping[str, tuple[Outcome, str]]
    """What becomes of an adapter whose adapter_config.json has one of these fields on, and why."""
    ignored_layers: frozenset[str]
    """Last parts of module names that the engine leaves as they are."""
    extras: Outcome
    experts: Outcome
    patterns: Mapping[str, str]
    """Of rank_pattern and alpha_pattern, those that are ignored, each with what happens instead."""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What becomes of one part of the adapter, and why."""

    part: str
    outcome: Outcome
    reason: str = ""
    source: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Preflight:
    """Everything that an engine does with an adapter."""

    engine: str
    version: str
    findings: tuple[Finding, ...]

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


_DORA: tuple[Outcome, str] = (
    "refused",
    "DoRA rescales the base's rows, which the engine's kernels do not",
)
_NO_DORA: tuple[Outcome, str] = (
    "refused",
    "the magnitude vectors of DoRA are not read, so the update would be another",
)
_BIAS: tuple[Outcome, str] = ("refused", "only lora_A and lora_B weights are read")
_RSLORA: tuple[Outcome, str] = ("ignored", "the scale is alpha / r, rsLoRA's is alpha / √r")
_ONE_RANK = "the scale is alpha / r with the configuration's r for every module"
_ONE_ALPHA = "one alpha is read for all modules"
_LLAMACPP = "https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py"

RULES: Mapping[str, EngineRules] = {
    rules.name: rules
    for rules in (
        EngineRules(
            name="vllm",
            version="0.33",
            source="https://github.com/vllm-project/vllm/blob/main/vllm/lora/peft_helper.py",
            methods=frozenset({"lora"}),
            rank_limit=16,
            rank_flag="--max-lora-rank",
            flags={"use_dora": _DORA, "lora_bias": _BIAS},
            ignored_layers=frozenset(),
            extras="refused",
            experts="applied",
            patterns={"rank_pattern": _ONE_RANK, "alpha_pattern": _ONE_ALPHA},
            advice="--enable-lora --max-lora-rank R --max-loras N",
        ),
        EngineRules(
            name="sglang",
            version="0.5",
            source="https://docs.sglang.ai/advanced_features/lora.html",
            methods=frozenset({"lora"}),
            rank_limit=None,
            rank_flag="--max-lora-rank",
            flags={"use_dora": _NO_DORA, "lora_bias": _BIAS, "use_rslora": _RSLORA},
            ignored_layers=frozenset({"embed_tokens", "lm_head"}),
            extras="ignored",
            experts="ignored",
            patterns={"rank_pattern": _ONE_RANK, "alpha_pattern": _ONE_ALPHA},
            advice="--enable-lora; requests name the model base:adapter",
        ),
        EngineRules(
            name="llamacpp",
            version="b7000",
            source=_LLAMACPP,
            methods=frozenset({"lora"}),
            rank_limit=None,
            rank_flag="",
            flags={"use_dora": _NO_DORA, "lora_bias": _BIAS, "use_rslora": _RSLORA},
            ignored_layers=frozenset(),
            extras="refused",
            experts="refused",
            patterns={"alpha_pattern": _ONE_ALPHA},
            advice="convert_lora_to_gguf.py DIR --base BASE, then llama-server --lora FILE",
        ),
        EngineRules(
            name="ollama",
            version="0.13",
            source="https://docs.ollama.com/import",
            methods=frozenset({"lora"}),
            rank_limit=None,
            rank_flag="",
            flags={"use_dora": _NO_DORA, "lora_bias": _BIAS, "use_rslora": _RSLORA},
            ignored_layers=frozenset(),
            extras="refused",
            experts="refused",
            patterns={"alpha_pattern": _ONE_ALPHA},
            advice="FROM base and ADAPTER DIR in a Modelfile, for Llama, Mistral and Gemma",
        ),
    )
}


def rules_of(engine: str) -> EngineRules:
    """An engine's rules; an unknown engine lists those that are known."""
    if engine not in RULES:
        raise NotFound("engine", engine, RULES)
    return RULES[engine]


def preflight(
    source: OpenAdapter, rules: EngineRules, *, rank_limit: int | None = None
) -> Preflight:
    """Judge one adapter by an engine's rules. `rank_limit` is what the engine is started with."""
    view, method, config = source.adapter, source.method, source.adapter.config
    label, findings = source.label, list[Finding]()

    def find(part: str, outcome: Outcome, reason: str = "", fix: str = "") -> None:
        findings.append(Finding(part, outcome, reason, rules.source if reason else "", fix))

    if method.name not in rules.methods:
        reason = f"{rules.name} {rules.version} reads {', '.join(sorted(rules.methods))} only"
        find(f"method {method.name}", "refused", reason, f"adaptkit convert {label} --to lora")
        return Preflight(rules.name, rules.version, tuple(findings))
    plain = f"adaptkit resize {label} --rank {config.get('r')} writes plain LoRA"
    for flag, (outcome, reason) in rules.flags.items():
        if config.get(flag):
            baked = f"adaptkit bake {label} makes a full model"
            find(flag, outcome, reason, plain if outcome == "ignored" else baked)
    rank, limit = method.rank(view), rank_limit or rules.rank_limit
    if rank is not None and limit is not None and rank > limit:
        fix = f"{rules.rank_flag} {rank}, or adaptkit resize {label} --rank {limit}"
        find(f"rank {rank}", "refused", f"the limit is {limit}", fix)
    for pattern, reason in rules.patterns.items():
        if config.get(pattern):
            find(pattern, "ignored", reason, plain)
    for key in method.extras(view):
        reason = "" if rules.extras == "applied" else "it is no low-rank update"
        find(key, rules.extras, reason, f"adaptkit bake {label} makes a full model")
    if not method.unmergeable(view):
        for module in method.modules(view):
            if module.kind == "expert" and rules.experts != "applied":
                find(module.key, rules.experts, "fused experts are not read")
            elif module.name.rpartition(".")[2] in rules.ignored_layers:
                find(module.key, "ignored", f"{rules.name} does not adapt this layer")
            else:
                find(module.key, "applied")
    return Preflight(rules.name, rules.version, tuple(findings))
