"""LoRA on fused expert parameters (`target_parameters`).

One factor pair holds every expert of a layer.

The experts' A matrices are stored one after another; their B matrices are interleaved, expert
fastest. Several parameters of one module nest, `experts.base_layer` inside `experts`: the first in
the model's order is the innermost. Which parameter that is only the model shows, so a merge goes by
the nesting and a bake reads the base.
"""

from __future__ import annotations

import re
from itertools import permutations
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadWeights, BaseMismatch, ExtrasConflict
from adaptkit.extend import Module
from adaptkit.extend.layers import model_of
from adaptkit.extend.module_names import PREFIX, matches, same_name, targeted
from adaptkit_plugins.methods.lora.files import checked_shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from adaptkit.extend import AdapterView, Array, LowRank

_INNER = ".base_layer"
_ROUTER = ".gate"
_MOST_NESTED = 5  # parameters of one module, of which every order is tried


def targets(view: AdapterView) -> tuple[str, ...]:
    """The parameters that the configuration targets, such as `mlp.experts.gate_up_proj`."""
    declared = view.config.get("target_parameters") or ()
    return tuple(sorted(str(name) for name in declared))


def is_expert(view: AdapterView, name: str) -> bool:
    """Whether a module of the file is a wrapped parameter.

    A target without a dot, such as PEFT itself writes for `all-linear` on Mixtral or Qwen3-MoE, does not say whose
    parameter it is: a module of the file that `target_modules` does not name is the one that has it.
    """
    bare = name.replace(_INNER, "")
    parents = [target.rpartition(".")[0] for target in targets(view)]
    if any(f".{bare}".endswith(f".{parent}") for parent in parents if parent):
        return True
    return "" in parents and not targeted(view.config, bare)


def describe_experts(view: AdapterView, name: str, key_a: str, key_b: str) -> list[Module]:
    """One Module per expert of a factor pair."""
    a, b = checked_shapes(view, key_a, key_b)
    weight, stored, transposed = _parameter(view, name)
    rank, _ = _declared(view, weight or name)
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or a[0] % rank:
        raise BadWeights(
            f"{view.label}: A and B of '{name}' do not fit",
            why=f"A is {list(a)} and B is {list(b)}, at rank {rank}",
            fix="save the adapter again",
        )
    experts = a[0] // rank
    slab = (a[1], b[0]) if transposed else (b[0], a[1])
    if stored and stored != (experts, *slab) and not (experts == 1 and stored == slab):
        raise BaseMismatch(
            f"{view.label}: '{name}' does not fit the base's '{weight}'",
            why=f"{experts} experts of {list(slab)} here, {list(stored)} there",
            fix="give the base it was trained on",
        )
    return [
        Module(name, "expert", (b[0], a[1]), rank, stored, part, experts, weight, transposed)
        for part in range(experts)
    ]


def expert_factors(A: Array, B: Array, module: Module) -> tuple[Array, Array]:
    """One expert's A and B out of the pair that holds them all."""
    at, rank = module.part, module.rank
    return A.reshape(module.parts, rank, -1)[at], B.reshape(B.shape[0], rank, module.parts)[
        :, :, at
    ]


def packed_experts(parts: Sequence[tuple[Module, LowRank]]) -> tuple[Array, Array]:
    """The pair that holds all experts, as PEFT orders them."""
    import numpy as np

    A = np.concatenate([delta.A for _, delta in parts])
    B = np.stack([delta.B for _, delta in parts], axis=-1)
    return A, B.reshape(B.shape[0], -1)


def common_targets(views: Sequence[AdapterView]) -> list[str] | None:
    """The parameters that a merge targets, in the longest spelling.

    The nesting has a meaning only when all who have any have the same.
    """
    known = {_wrapped(view): view for view in views if targets(view)}
    if len(known) > 1:
        raise ExtrasConflict(
            "the adapters disagree about target_parameters",
            why="; ".join(f"{v.label} targets {list(targets(v))}" for v in known.values()),
            fix="merge adapters that target the same parameters",
        )
    spellings = [targets(view) for view in views if targets(view)]
    return list(max(spellings, key=lambda names: sum(map(len, names)))) if spellings else None


def _wrapped(view: AdapterView) -> tuple[object, ...]:
    """What an adapter wraps, however its configuration spells it: PEFT's own spelling has no dots."""
    names = {key.removeprefix(PREFIX).partition(".lora_")[0] for key in view.header}
    leaves = sorted(target.rpartition(".")[2] for target in targets(view))
    return (*leaves, frozenset(name for name in names if is_expert(view, name)))


def pattern_of(part: Module) -> str:
    """What rank_pattern and alpha_pattern call a module.

    A router is looked up as a layer or, where PEFT takes it for a parameter (Mixtral), as that.
    """
    if part.kind == "expert" and not part.weight:
        raise ExtrasConflict(
            f"the experts in '{part.name}' get another rank than the rest",
            why="rank_pattern names the parameter, and only the base shows its name",
            fix="--base DIR, or a --rank that all can have",
        )
    # the ^ keeps PEFT's optional "(.*\\.)?" from matching a longer name that ends in this one
    name = re.escape(part.weight or part.name)
    router = part.kind == "linear" and part.name.endswith(_ROUTER)
    return f"^{name}(\\.weight|)" if router else f"^{name}"


def peft_order(tensors: Mapping[str, Array], ranks: Mapping[str, int]) -> dict[str, Array]:
    """Expert-slowest B matrices (Unsloth before September 2026) as expert-fastest ones."""
    return {
        key: B.reshape(B.shape[0], -1, ranks[key]).transpose(0, 2, 1).reshape(B.shape)
        for key, B in tensors.items()
    }


def expert_keys(modules: Iterable[Module]) -> dict[str, int]:
    """The B of every fused pair, with the rank of one expert."""
    return {
        f"{PREFIX}{module.name}.lora_B.weight": module.rank
        for module in modules
        if module.kind == "expert" and module.parts > 1
    }


def _parameter(view: AdapterView, name: str) -> tuple[str, tuple[int, ...], bool]:
    """The base's parameter behind a wrapper.

    Its name, shape, and whether its matrices are stored in×out.
    """
    model = view.model()
    if model is None:
        fitting = _by_ranks(view, name)
        return (fitting[0] if len(fitting) == 1 else "", (), False)
    bare = name.replace(_INNER, "")
    here = [
        p
        for p in model.parameters
        if same_name(p.rpartition(".")[0], bare)
        and any(f".{p}".endswith(f".{target}") for target in targets(view))
    ]
    nested = _nested(view, bare)
    if len(nested) != len(here):
        raise BaseMismatch(
            f"{view.label} does not fit the base",
            why=f"it wraps {len(nested)} parameters of '{bare}', "
            f"the base's model has {len(here)} of them",
            fix="give the base it was trained on",
        )
    weight = here[nested.index(name)]
    return weight, model.parameters[weight], weight.rpartition(".")[0] in model.transposed


def _nested(view: AdapterView, bare: str) -> list[str]:
    """The wrappers of one module's parameters, the innermost first."""
    wrappers = {key.removeprefix(PREFIX).partition(".lora_")[0] for key in view.header}
    return sorted(
        (w for w in wrappers if w.replace(_INNER, "") == bare), key=lambda w: -w.count(_INNER)
    )


def _declared(view: AdapterView, parameter: str) -> tuple[int, float]:
    """The rank and the alpha that the configuration gives a parameter."""
    config = view.config

    def found(patterns: Any, otherwise: Any) -> Any:
        known = (patterns or {}).items()
        return next((value for pattern, value in known if matches(pattern, parameter)), otherwise)

    return (
        int(found(config.get("rank_pattern"), config["r"])),
        float(found(config.get("alpha_pattern"), config["lora_alpha"])),
    )


def _by_ranks(view: AdapterView, name: str) -> list[str]:
    """The parameters that a wrapper may be of, without the base: ranks must make as many experts of each pair."""
    bare = name.replace(_INNER, "")
    nested = _nested(view, bare)
    split = [target.rpartition(".") for target in targets(view)]
    leaves = [leaf for parent, _, leaf in split if parent and f".{bare}".endswith(f".{parent}")]
    if len(leaves) < len(nested):  # the others are of those that do not say whose they are
        leaves += [leaf for parent, _, leaf in split if not parent]
    known = {f"{bare}.{leaf}": _declared(view, f"{bare}.{leaf}")[0] for leaf in leaves}
    keys = [key for wrapper in nested for key in _keys_of(wrapper) if key in view.header]
    rows = [view.header[key].shape[0] for key in keys]
    if len(nested) > _MOST_NESTED:
        return list(known)
    at = nested.index(name)
    fitting = {
        one[at]
        for one in permutations(known, min(len(nested), len(known)))
        if _as_many(rows, [known[parameter] for parameter in one])
    }
    return [parameter for parameter in known if parameter in fitting] or list(known)


def _keys_of(wrapper: str) -> tuple[str, str]:
    """What the first factor of a wrapper may be called: some files lack PEFT's prefix."""
    return f"{PREFIX}{wrapper}.lora_A.weight", f"{wrapper}.lora_A.weight"


def _as_many(rows: Sequence[int], ranks: Sequence[int]) -> bool:
    """Whether pairs of so many rows hold as many experts each, at these ranks; a bias of all experts counts as one."""
    if len(rows) != len(ranks) or any(not r or n % r for n, r in zip(rows, ranks, strict=True)):
        return False
    return len({n // r for n, r in zip(rows, ranks, strict=True)} - {1}) <= 1


def undecided(view: AdapterView) -> str:
    """Why it is not known without the base what a wrapper is scaled by; empty when it is known."""
    if not targets(view) or model_of(view) is not None:
        return ""
    usual = (int(view.config["r"]), float(view.config["lora_alpha"]))
    names = dict.fromkeys(key.removeprefix(PREFIX).partition(".lora_")[0] for key in view.header)
    for name in names:
        if not is_expert(view, name):
            continue
        fitting = _by_ranks(view, name)
        if len(fitting) > 1 and {_declared(view, parameter) for parameter in fitting} != {usual}:
            last = " or ".join(f"'{parameter.rpartition('.')[2]}'" for parameter in fitting)
            return (
                f"'{name}' may be {last}, which its configuration scales by patterns, and only the base shows which "
                "(give it with --base)"
            )
    return ""
