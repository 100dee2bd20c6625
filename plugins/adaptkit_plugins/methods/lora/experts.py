"""LoRA on fused expert parameters (`target_parameters`).

One factor pair holds every expert of a layer.

The experts' A matrices are stored one after another; their B matrices are interleaved, expert
fastest. Several parameters of one module nest, `experts.base_layer` inside `experts`: the first in
the model's order is the innermost. Which parameter that is only the model shows, so a merge goes by
the nesting and a bake reads the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import BadWeights, BaseMismatch, ExtrasConflict
from adaptkit.extend import Module
from adaptkit.extend.module_names import PREFIX, matches, same_name
from adaptkit_plugins.methods.lora.files import checked_shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from adaptkit.extend import AdapterView, Array, LowRank

_INNER = ".base_layer"


def targets(view: AdapterView) -> tuple[str, ...]:
    """The parameters that the configuration targets, such as `mlp.experts.gate_up_proj`."""
    declared = view.config.get("target_parameters") or ()
    return tuple(sorted(str(name) for name in declared))


def is_expert(view: AdapterView, name: str) -> bool:
    """Whether a module of the file is a wrapped parameter."""
    bare = name.replace(_INNER, "")
    return any(f".{bare}".endswith(f".{target.rpartition('.')[0]}") for target in targets(view))


def describe_experts(view: AdapterView, name: str, key_a: str, key_b: str) -> list[Module]:
    """One Module per expert of a factor pair."""
    a, b = checked_shapes(view, key_a, key_b)
    weight, stored, transposed = _parameter(view, name)
    declared = view.config.get("rank_pattern") or {}
    rank = int(
        next(
            (r for pattern, r in declared.items() if matches(pattern, weight or name)),
            view.config["r"],
        )
    )
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
    """The parameters that a merge targets.

    The nesting has a meaning only when all who have any have the same.
    """
    known = {targets(view): view.label for view in views if targets(view)}
    if len(known) > 1:
        raise ExtrasConflict(
            "the adapters disagree about target_parameters",
            why="; ".join(f"{label} targets {list(names)}" for names, label in known.items()),
            fix="merge adapters that target the same parameters",
        )
    return list(next(iter(known))) if known else None


def pattern_name(part: Module) -> str:
    """The name by which PEFT looks a rank up."""
    if part.kind == "expert" and not part.weight:
        raise ExtrasConflict(
            f"the experts in '{part.name}' get another rank than the rest",
            why="rank_pattern names the parameter, and only the base shows its name",
            fix="--base DIR, or a --rank that all can have",
        )
    return part.weight or part.name


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
        only = targets(view)
        return (f"{name}.{only[0].rpartition('.')[2]}" if len(only) == 1 else "", (), False)
    bare = name.replace(_INNER, "")
    here = [
        p
        for p in model.parameters
        if same_name(p.rpartition(".")[0], bare)
        and any(f".{p}".endswith(f".{target}") for target in targets(view))
    ]
    wrappers = {key.removeprefix(PREFIX).partition(".lora_")[0] for key in view.header}
    nested = sorted(
        (w for w in wrappers if w.replace(_INNER, "") == bare), key=lambda w: -w.count(_INNER)
    )
    if len(nested) != len(here):
        raise BaseMismatch(
            f"{view.label} does not fit the base",
            why=f"it wraps {len(nested)} parameters of '{bare}', "
            f"the base's model has {len(here)} of them",
            fix="give the base it was trained on",
        )
    weight = here[nested.index(name)]
    return weight, model.parameters[weight], weight.rpartition(".")[0] in model.transposed
