"""What a fine-tune changed: every parameter of the tuned model beside the same one of its base.

Names and layers are those of the models' classes, so tied, renamed and fused weights are what the models have, not
what their files happen to hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from adaptkit.bases.classes.peft_names import PEFT_HEADS, renamed
from adaptkit.errors import BadBase
from adaptkit.extend import Module
from adaptkit.io.safetensors.reader import same_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from adaptkit.bases.architecture import Architecture
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import Array


@dataclass(slots=True)
class TunedChanges:
    """`modules` have a change that can be low rank; `whole` are modules to save as they are; `left_out` is the rest."""

    modules: list[Module] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    """The parameters of the modules that are saved as they are."""
    biases: list[str] = field(default_factory=list)
    """The biases that go along with their layers' updates."""
    left_out: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """The base's name of each parameter."""
    new_tokens: int = 0

    @property
    def targets(self) -> list[str]:
        """Parameters of fused experts."""
        return sorted({m.weight for m in self.modules if m.kind == "expert"})


def compare(after: BaseWeights, before: BaseWeights, rank: int, *, keep_full: bool) -> TunedChanges:
    """Look at every parameter; `BadBase` when the two are not one architecture."""
    new, old = after.architecture(), before.architecture()
    found = TunedChanges()
    fresh, resized, rest = [], [], []
    for name, shape in _shapes(new, after).items():
        partner = _partner(old, name)
        if partner is None:
            fresh.append(name)
            continue
        found.names[name] = partner
        known = _shapes(old, before)[partner]
        if shape != known:
            _check_rows(after, before, name, shape, known)
            resized.append(name)
            found.new_tokens = max(found.new_tokens, shape[0])
        elif not _equal(after, before, name, partner):
            rest.append(name)
    _check_related(after, before, fresh, found.names)
    buffers = _buffers(after)
    moved = [name for name in buffers if _buffer_moved(after, before, name)]
    found.names |= dict(zip(moved, moved, strict=True))
    needed = set(_outermost(fresh, _shapes(new, after)))
    needed |= {name.rpartition(".")[0] for name in resized}
    needed |= _heads(new, new.task or old.task)
    other = _updates(found, after, [n for n in rest if not within(n, needed)], rank)
    other += [name for name in moved if not within(name, needed)]
    _nest_experts(found, new)
    found.whole = _whole(found, needed, other, keep_full=keep_full)
    found.saved = [name for name in (*new.parameters, *buffers) if within(name, set(found.whole))]
    _check_loads(after)
    if (lost := sorted(set(new.missing()).intersection(found.saved))) != []:
        raise BadBase(
            f"cannot take '{lost[0].rpartition('.')[0]}' out of {after.layout.directory} whole",
            why=f"it has no '{lost[0]}', which {new.name} needs and would make up when it is loaded",
            fix="save the tuned model with all of its tensors, or tie its embeddings as the base does",
        )
    whole = set(found.whole)
    changed = any(within(name, whole) for name in [*fresh, *resized, *rest, *moved])
    if not found.modules and not changed:
        raise BadBase(
            f"{after.layout.directory} changes no matrix of its base",
            why="all of them are equal, byte for byte",
            fix="is this the tuned model?",
        )
    return found


def _heads(arch: Architecture, task: str) -> set[str]:
    """The modules that PEFT saves whole with every adapter of a task, whether or not they changed."""
    ends = PEFT_HEADS.get(task, ())
    parts = (name.split(".")[:-1] for name in arch.parameters)
    modules = {".".join(p[:depth]) for p in parts for depth in range(1, len(p) + 1)}
    return {name for name in modules if ends and name.endswith(ends)}


def _updates(found: TunedChanges, after: BaseWeights, names: Sequence[str], rank: int) -> list[str]:
    """Find what can be low rank, and the biases beside it; returns the rest."""
    arch = after.architecture()
    elsewhere = renamed(str(after.layout.config.get("model_type", ""))).names
    other = []
    for name in names:
        parent, _, leaf = name.rpartition(".")
        module = layer_of(arch, name, rank) if leaf == "weight" else None
        if module is not None and parent.rpartition(".")[2] not in elsewhere:
            found.modules.append(module)
        elif _holds_experts(arch, name):
            found.modules.extend(_experts(arch, name, rank))
        else:
            other.append(name)
    layers = {m.name for m in found.modules if m.kind in {"linear", "conv1d", "convolution"}}
    found.biases = [
        name for name in other if name.endswith(".bias") and name.removesuffix(".bias") in layers
    ]
    return [name for name in other if name not in found.biases]


def _whole(
    found: TunedChanges, needed: set[str], other: Sequence[str], *, keep_full: bool
) -> list[str]:
    """The modules to save as they are: those that must be and, with `keep_full`, those of all other parameters.

    A parameter whose module holds every layer (Wav2Vec2's `masked_spec_embed`) is left out all the same.
    """
    if not keep_full:
        found.left_out = [*found.biases, *other]
        found.biases = []
        return sorted(n for n in needed if not within(n.rpartition(".")[0], needed))
    whole = needed | {name.rpartition(".")[0] for name in other} - {""}
    names = {module.name for module in found.modules}
    while not within_all(names, needed) and within_all(names, whole):
        whole.remove(
            max(whole - needed, key=lambda w: (sum(within(name, {w}) for name in names), w))
        )
    found.modules = [m for m in found.modules if not within(m.name, whole)]
    found.biases = [name for name in found.biases if not within(name, whole)]
    found.left_out = [name for name in other if not within(name, whole)]
    return sorted(n for n in whole if not within(n.rpartition(".")[0], whole))


def size_of_change(
    after: BaseWeights, before: BaseWeights, names: Iterable[str], partners: Mapping[str, str]
) -> dict[str, float]:
    """How far parameters moved: Frobenius norms."""
    return {
        name: float(
            np.linalg.norm(
                after.parameter(name).astype(np.float64)
                - _padded(before.parameter(partners[name]), after.parameter(name).shape)
            )
        )
        for name in names
    }


def _shapes(arch: Architecture, weights: BaseWeights) -> dict[str, tuple[int, ...]]:
    """The parameters that have weights, as the checkpoint's or (for pieces) the class's shapes."""
    absent = set(arch.missing())
    return {
        name: weights.shape(name, shape)
        for name, shape in arch.parameters.items()
        if name not in absent
    }


def _check_loads(weights: BaseWeights) -> None:
    """Refuse a checkpoint whose tensors are not what its class loads; transformers saves such after some resizes."""
    arch = weights.architecture()
    for name, expected in arch.parameters.items() if arch.known else ():
        if name in arch.altered or not arch.pieces.get(name):
            continue
        stored = weights.shape(name, expected)
        if stored != expected:
            raise BadBase(
                f"{weights.layout.directory} cannot be loaded",
                why=f"it has '{name}' as {list(stored)}, and {arch.name} loads {list(expected)}",
                fix="save the tuned model again with tensors of one vocabulary",
            )


def _partner(old: Architecture, name: str) -> str | None:
    found = old.find(name)
    return found[0] if len(found) == 1 and found[0] not in old.missing() else None


def _check_rows(
    after: BaseWeights,
    before: BaseWeights,
    name: str,
    shape: tuple[int, ...],
    known: tuple[int, ...],
) -> None:
    if len(shape) != len(known) or shape[1:] != known[1:]:
        raise BadBase(
            f"{after.layout.directory} and {before.layout.directory} are not one architecture",
            why=f"'{name}' is {list(shape)} in one and {list(known)} in the other",
            fix="give the base it was tuned from",
        )


def _check_related(
    after: BaseWeights, before: BaseWeights, fresh: list[str], shared: Mapping[str, str]
) -> None:
    if len(fresh) >= max(1, len(shared)):
        raise BadBase(
            f"{after.layout.directory} and {before.layout.directory} are not one architecture",
            why=f"only one of them has {', '.join(sorted(fresh)[:3])}",
            fix="give the base it was tuned from",
        )


def _equal(after: BaseWeights, before: BaseWeights, name: str, partner: str) -> bool:
    here, there = after.find(name), before.find(partner)
    if len(here) == len(there) == 1 and here[0].expert is there[0].expert is None:
        same = (here[0].at, here[0].count) == (there[0].at, there[0].count)
        if same and same_bytes(after.raw(here[0].tensor), before.raw(there[0].tensor)):
            return True
    return bool(np.array_equal(after.parameter(name), before.parameter(partner)))


def _buffers(weights: BaseWeights) -> list[str]:
    """What the checkpoint holds beside parameters, and the class loads all the same."""
    arch = weights.architecture()
    if not arch.known:
        return []
    taken = {piece.tensor for pieces in arch.pieces.values() for piece in pieces}
    altered = set(arch.altered)
    return sorted(set(weights.shapes) - taken - set(arch.unused) - altered)


def _buffer_moved(after: BaseWeights, before: BaseWeights, name: str) -> bool:
    """Whether a buffer changed; the count of batches does not tell in what a model computes."""
    if name not in before.shapes or name.endswith(".num_batches_tracked"):
        return False
    tuned = after.read(name)
    return not np.array_equal(tuned, _padded(before.read(name), tuned.shape))


def _padded(array: Array, shape: tuple[int, ...]) -> Array:
    """With zeros for new tokens, as transformers resizes what it holds for each token beside parameters."""
    if array.ndim != len(shape) or any(n < o for n, o in zip(shape, array.shape, strict=True)):
        return array
    return np.pad(array, [(0, n - o) for n, o in zip(shape, array.shape, strict=True)])


def _holds_experts(arch: Architecture, name: str) -> bool:
    """Whether a parameter is one matrix for each of several experts, of a module that neither is nor holds a layer.

    PEFT wraps the module, and layers inside would go by other names then.
    """
    parent, shape = name.rpartition(".")[0], arch.parameters[name]
    inside = any(layer == parent or layer.startswith(f"{parent}.") for layer in arch.layers)
    plain = not inside and ".parametrizations." not in name
    return arch.known and bool(parent) and plain and len(shape) == 3 and shape[0] > 1


def layer_of(arch: Architecture, name: str, rank: int) -> Module | None:
    """The layer that a weight belongs to, as an adapter names it; None for what PEFT has no LoRA for."""
    module, shape = name.removesuffix(".weight"), arch.parameters[name]
    if module in arch.looked_into:
        return None
    kind = arch.layers.get(module, "linear" if not arch.known and len(shape) == 2 else "")
    if kind == "convolution":
        groups = arch.groups.get(module, 1)
        if groups > 1:
            return None
        flat = (shape[0], int(np.prod(shape[1:])))
        return Module(module, "convolution", flat, min(rank, *flat), shape)
    if len(shape) != 2:
        return None
    if kind == "conv1d":
        return Module(module, "conv1d", (shape[1], shape[0]), min(rank, *shape), shape)
    if kind == "embedding":
        return Module(module, "embedding", (shape[0], shape[1]), min(rank, *shape), shape)
    if kind == "linear":
        return Module(module, "linear", (shape[0], shape[1]), min(rank, *shape), shape)
    return None


def _experts(arch: Architecture, name: str, rank: int) -> list[Module]:
    """One module for each expert of a fused parameter."""
    shape, parent = arch.parameters[name], name.rpartition(".")[0]
    sideways = parent in arch.transposed
    slab = (shape[2], shape[1]) if sideways else (shape[1], shape[2])
    return [
        Module(
            parent,
            "expert",
            slab,
            min(rank, *slab),
            shape,
            part,
            shape[0],
            name,
            transposed=sideways,
        )
        for part in range(shape[0])
    ]


def _nest_experts(found: TunedChanges, arch: Architecture) -> None:
    """PEFT wraps the parameters of one module one around the other, the first in the model's order innermost."""
    from dataclasses import replace

    order = [name for name in arch.parameters if name in found.targets]
    renamed = []
    for module in found.modules:
        if module.kind == "expert":
            own = [n for n in order if n.rpartition(".")[0] == module.name]
            inside = len(own) - 1 - own.index(module.weight)
            module = replace(module, name=module.name + ".base_layer" * inside)  # noqa: PLW2901
        renamed.append(module)
    found.modules = renamed


def _outermost(fresh: list[str], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The largest modules that hold nothing but new parameters."""
    new = set(fresh)
    found = []
    for name in fresh:
        parts = name.split(".")[:-1]
        for depth in range(1, len(parts) + 1):
            module = ".".join(parts[:depth])
            if all(other in new for other in shapes if other.startswith(f"{module}.")):
                found.append(module)
                break
    return found


def within(name: str, modules: set[str]) -> bool:
    """Whether a parameter or module is one of these modules, or in one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def within_all(names: Iterable[str], modules: set[str]) -> bool:
    """Whether all of these are one of the modules, or in one."""
    return all(within(name, modules) for name in names)
