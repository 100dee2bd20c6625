"""What other engines make of one adapter: what they apply, ignore and refuse, by `engines.rules`."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from adaptkit.serving.engines.rules import AS_PLAIN, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.serving.engines.rules import EngineRules, Outcome


_COPIES = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
_SCALES = frozenset({"use_rslora", "alpha_pattern", "rank_pattern"})
"""Settings that say how the factors are scaled: written out, they are plain LoRA."""
_BLOCK = re.compile(r"\.(?:layers|h|blocks|block|layer)\.([0-9]+)\.")


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


def preflight(
    source: OpenAdapter, rules: EngineRules, *, rank_limit: int | None = None
) -> Preflight:
    """Judge one adapter by an engine's rules.

    `rank_limit` is what the engine is started with: the next one upwards that it knows, its largest above that.
    """
    judged = _Judged(source, rules)
    if source.method.name in rules.methods:
        judged.configuration()
        judged.ranks(rank_limit)
        judged.whole_tensors()
        if not source.method.unmergeable(source.adapter):
            judged.layers()
    else:
        reason = f"{rules.name} {rules.version} reads {', '.join(sorted(rules.methods))} only"
        judged.find(
            f"method {source.method.name}",
            Rule("refused", reason, rules.source),
            f"adaptkit convert {source.label} --name NAME writes it as LoRA",
        )
    return Preflight(rules.name, rules.version, tuple(judged.findings))


class _Judged:
    """What is found in one adapter, part by part."""

    def __init__(self, source: OpenAdapter, rules: EngineRules) -> None:
        self.source, self.rules, self.findings = source, rules, list[Finding]()
        self._view, self._config, self._label = source.adapter, source.adapter.config, source.label
        declared = _declared(self._config)
        self._rank = max([source.method.rank(self._view) or 0, *declared])
        self._least = min([rank for rank in declared if rank > 0], default=self._rank)
        self._baked = f"adaptkit bake {self._label} makes a full model"

    def find(self, part: str, rule: Rule, fix: str = "") -> None:
        """Add what becomes of a part."""
        reason = "" if rule.outcome == "applied" else rule.reason
        self.findings.append(
            Finding(part, rule.outcome, reason, rule.source, self.rules.version, fix)
        )

    def configuration(self) -> None:
        """What adapter_config.json says that the engine does not do."""
        config, plain = self._config, _plain(self._label, self._rank)
        ways = {"rank_pattern": _plain(self._label, self._least)}
        for flag, rule in self.rules.flags.items():
            if config.get(flag):
                exact = rule.outcome == "ignored" and flag in _SCALES
                self.find(flag, rule, ways.get(flag, plain if exact else self._baked))
        for name, values in self.rules.values.items():
            value = config.get(name)
            if isinstance(value, str) and value.lower() not in values.known:
                fix = values.fix.format(label=self._label, rank=self._rank, double=2 * self._rank)
                self.find(f"{name} {value}", values.others, fix)
        for name, rule in self.rules.whole_numbers.items():
            if isinstance(config.get(name), float):
                self.find(f"{name} {config[name]}", rule, plain)

    def ranks(self, rank_limit: int | None) -> None:
        """A rank above the limit, or one that the engine pads before it computes the scale."""
        rules, limit = self.rules, self.rules.rank_limit
        if rank_limit is not None:
            limit = rules.limit_for(rank_limit) or rules.ranks[-1]
        if limit is not None and self._rank > limit:
            enough = rules.limit_for(self._rank)
            flag = f"{rules.rank_flag} {enough}, or " if rules.rank_flag and enough else ""
            rule = Rule("refused", "its rank is above the limit", rules.rank.source)
            self.find(
                f"rank {self._rank}", rule, f"{flag}adaptkit resize {self._label} --rank {limit}"
            )
        if rules.padded and self._rank != 8 and self._rank % 16:
            below = 8 if self._rank < 16 else self._rank // 16 * 16
            smaller = f"; adaptkit resize {self._label} --rank {below} loses some of it"
            self.find(
                f"rank {self._rank}",
                rules.padded,
                self._baked + (smaller if below < self._rank else ""),
            )

    def whole_tensors(self) -> None:
        """Tensors that are no low-rank update: heads, embeddings, norms, biases."""
        rules = self.rules
        for key in self.source.method.extras(self._view):
            rule = rules.extras
            if rules.copies and key.endswith(_COPIES):
                rule = rules.copies
            elif rules.heads and not _BLOCK.search(key):
                rule = rules.heads
            part = "--embeddings" if ".embed_tokens." in key else "--heads"
            self.find(
                key, rule, f"{self._baked}; adaptkit strip {self._label} {part} leaves it out"
            )

    def layers(self) -> None:
        """The low-rank updates, each by the name of its layer and by what is adapted beside it."""
        rules, modules = self.rules, self.source.method.modules(self._view)
        there = {module.name for module in modules}
        blocks: dict[str, set[str]] = defaultdict(set)
        for name in there:
            if block := _BLOCK.search(name):
                blocks[name.rpartition(".")[2]].add(block[1])
        every = set().union(*blocks.values())
        for module in modules:
            parent, _, last = module.name.rpartition(".")
            lacking = [
                one for one in sorted(rules.beside.get(last, ())) if f"{parent}.{one}" not in there
            ]
            left = f"adaptkit strip {self._label} --modules '*{last}'"
            if module.kind == "expert":
                self.find(module.key, rules.experts)
            elif last in rules.layers:
                self.find(module.key, rules.layers[last], left)
            elif rules.others and rules.only and last not in rules.only:
                self.find(module.key, rules.others, left)
            elif rules.alone and lacking:
                reason = rules.alone.reason.format(lacking=" and ".join(lacking))
                self.find(module.key, replace(rules.alone, reason=reason), self._baked)
            elif rules.in_part and last in blocks and blocks[last] != every:
                self.find(module.key, rules.in_part, self._baked)
            else:
                self.find(module.key, Rule("applied", "", rules.source))


def _plain(label: str, rank: int) -> str:
    return AS_PLAIN.format(label=label, rank=rank)


def _declared(config: Mapping[str, Any]) -> list[int]:
    """The ranks that a configuration names: engines read these, not the shapes of the factors."""
    patterns = config.get("rank_pattern")
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())]
    return [rank for rank in ranks if isinstance(rank, int)]
