"""What each module of a merge gets.

Who takes part, which rank, and what its update is before it is cut or stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.adapters.opened import OpenAdapter
from adaptkit.algebra.lowrank import add, balance, dense_svd, factored, sum_biases, svd, work
from adaptkit.algebra.spaces import view
from adaptkit.errors import AdaptkitError, BadRecipe, PluginError, Unmergeable, nearest
from adaptkit.extend import Dense, LowRank
from adaptkit.extend.module_names import Names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from adaptkit.extend import Array, Delta, MergeStrategy, Module, Moment
    from adaptkit.merge.recipe import Recipe
    from adaptkit.types import Parent


@dataclass(frozen=True, slots=True)
class ModulePlan:
    """One module of the result. Pure data, so that another process can do the work.

    `parts` are the digests of the adapters that take part, each with its own module; `depth` is 0
    in the first layer of the model and 1 in the last.
    """

    module: Module
    parts: tuple[tuple[str, Module], ...]
    depth: float = 0.0


Adapters = Mapping[str, OpenAdapter]
"""The opened adapters of a merge, by digest."""


def check_methods(
    sources: Sequence[OpenAdapter], recipe: Recipe, *, any_rank: bool = False
) -> None:
    """Refuse, by name, what cannot be merged, or not without its base or a rank."""
    for source in sources:
        if reason := source.method.unmergeable(source.adapter):
            raise Unmergeable(f"cannot merge {source.label}", why=reason)
        needs = source.method.needs(source.adapter)
        if needs != "nothing" and source.base is None:
            what = "weights" if needs == "weights" else "shapes of the weights"
            raise Unmergeable(
                f"cannot merge {source.label} without its base",
                why=f"a {source.method.name} update depends on the base's {what}",
                fix="--base DIR",
            )
        if needs == "weights" and not any_rank and not source.method.modules(source.adapter):
            raise Unmergeable(
                f"cannot write {source.label} as LoRA",
                why="it changes no matrix, and low-rank updates are for matrices only",
                fix="keep it as it is, or write full weights: adaptkit bake, or merge with --into bake DIR",
            )
        if needs == "weights" and not any_rank and recipe.rank is None and recipe.energy is None:
            raise BadRecipe(
                f"merging {source.label} needs --rank",
                why="its update is not low rank; what a rank loses is reported",
                fix="--rank 64, or write full weights: --into bake DIR",
            )


def check_globs(source: OpenAdapter, globs: Iterable[str]) -> None:
    """Refuse a glob that names no module of the adapter, and show the nearest names.

    The numbers of layers are shown as `*`, so that each name shown is a glob that matches.
    """
    globs = list(globs)
    names = {module.name for module in source.method.modules(source.adapter)} if globs else set()
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            patterns = {_without_layers(name) for name in names}
            near = nearest(glob, patterns, show=3)[:3]
            raise BadRecipe(
                f"'{glob}' names no module of {source.label}",
                why=f"nearest are {', '.join(near)}" if near else "it has no modules",
                fix=f"for example {source.label}[{near[0]}]=0.5" if near else "",
            )


def _without_layers(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def plan_modules(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    sources: Sequence[OpenAdapter],
    *,
    any_rank: bool = False,
) -> list[ModulePlan]:
    """Which adapters take part in which module, and the rank each module gets."""
    check_methods(sources, recipe, any_rank=any_rank)
    for source in sources:
        check_globs(source, (one.glob for one in recipe.modules if one.digest == source.digest))
    found: dict[str, list[tuple[OpenAdapter, Module]]] = defaultdict(list)
    for source in sources:
        for module in source.method.modules(source.adapter):
            found[module.key].append((source, module))
    if recipe.missing == "skip":
        check_shared(sources, found)
    rule = _ranks(recipe, strategy, found)
    layers = {key: layer_of(parts[0][1].name) for key, parts in found.items()}
    last = max((layer or 0 for layer in layers.values()), default=0)
    plans = []
    for key in sorted(found):
        parts = found[key]
        check_shapes(key, parts)
        first, rank, layer = parts[0][1], rule.rank(parts), layers[key]
        plans.append(
            ModulePlan(
                first if rank == first.rank else replace(first, rank=rank),
                tuple((source.digest, module) for source, module in parts),
                layer / last if layer is not None and last else 0.0,
            )
        )
    most = max(parts[0][1].saved(rule.largest(parts)) for parts in found.values())
    if recipe.rank is not None and recipe.rank > most:
        raise BadRecipe(
            f"--rank is {recipe.rank}",
            why=f"the whole result has rank {most}",
            fix="drop --rank to keep it whole",
        )
    return plans


@dataclass(frozen=True, slots=True)
class _Ranks:
    """Which rank a module of the result gets.

    `cap` is the largest that is wanted; `beyond` says that the result is done entry by entry, and has no low rank.
    """

    recipe: Recipe
    cap: int | None
    beyond: bool

    def largest(self, parts: Sequence[tuple[OpenAdapter, Module]]) -> int:
        """The rank that the whole update of a module may have."""
        if self.beyond:
            return min(parts[0][1].shape)
        return sum(rank_of(source, module) for source, module in parts)

    def rank(self, parts: Sequence[tuple[OpenAdapter, Module]]) -> int:
        first = parts[0][1]
        ranks = [rank_of(source, module) for source, module in parts]
        whole = ranks[0] if self.recipe.space == "factors" else min(sum(ranks), *first.shape)
        if self.cap is None and self.recipe.energy is None:
            return whole
        reach = min(first.shape) if self.beyond else whole
        shared = 1 if first.kind == "expert" else first.parts  # these share the rank
        return min(reach, max(1, (self.cap or reach * shared) // shared))


def _ranks(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    found: Mapping[str, Sequence[tuple[OpenAdapter, Module]]],
) -> _Ranks:
    cap = recipe.rank
    if cap is None and strategy.rank_rule == "parents":
        cap = max(
            part.saved(rank_of(source, part)) for parts in found.values() for source, part in parts
        )
    weights = [parent.weight for parent in recipe.sources]
    linear = strategy.coefficients(weights, strategy.params(**recipe.params)) is not None
    return _Ranks(recipe, cap, beyond=recipe.space == "dense" and not linear)


def check_shapes(key: str, parts: Sequence[tuple[OpenAdapter, Module]]) -> None:
    """Refuse a module that has one shape in one adapter and another in the next."""
    source, first = parts[0]
    for other, module in parts[1:]:
        if (module.shape, module.parts) != (first.shape, first.parts):
            raise Unmergeable(
                f"the module '{key}' has two shapes",
                why=f"{list(first.shape)} in {source.label}, {list(module.shape)} in {other.label}",
                fix="these adapters were trained on different models",
            )


def check_shared(
    sources: Sequence[OpenAdapter], found: Mapping[str, Sequence[tuple[OpenAdapter, Module]]]
) -> None:
    """Refuse a merge in which some adapter shares no module with any other: nothing would be combined."""
    if len(sources) < 2:
        return
    shared = {s.digest for parts in found.values() if len(parts) > 1 for s, _ in parts}
    alone = next((source for source in sources if source.digest not in shared), None)
    if alone is None:
        return
    own = [key for key, parts in found.items() if parts[0][0] is alone]
    others = Names(key for key, parts in found.items() if parts[0][0] is not alone)
    spelled = next(((key, other) for key in own for other in others.called(key)), None)
    why = f"each of its modules, such as '{own[0]}', is in it alone" if own else "it has no module"
    if spelled is not None:
        why = f"the same module is '{spelled[0]}' in it and '{spelled[1]}' in another"
    raise Unmergeable(
        f"{alone.label} shares no module with the others",
        why=why,
        fix="adapters that are meant to stand side by side: --disjoint; to count what is absent as zero: --missing zero"
        if spelled is None
        else "add both from files of one tool, or with --base DIR, which settles the names",
    )


def layer_of(name: str) -> int | None:
    """The number of the layer in a module's name: the first part that is a number."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def rank_of(source: OpenAdapter, module: Module) -> int:
    """The rank of one update; what changes the weights themselves has a full one."""
    return min(module.shape) if source.needs_weights else module.rank


def merged_update(
    recipe: Recipe, strategy: MergeStrategy[Any], plan: ModulePlan, adapters: Adapters
) -> tuple[Delta, Delta]:
    """The strategy's result before any truncation, and the exact sum.

    One object where they are the same.
    """
    module = plan.module
    parents, weights, deltas = contributions(recipe, plan, adapters)
    params = strategy.params(**recipe.params)
    coefficients = strategy.coefficients(weights, params)
    if coefficients is not None:
        total = add(deltas, coefficients)
        return total, total
    rngs = [generator(recipe.seed, parent.digest, module.key) for parent in parents]
    present = dict(plan.parts)
    moments = (
        [_moment(adapters[p.digest], present[p.digest]) for p in parents]
        if strategy.needs == "moments"
        else []
    )
    measured = [moment for moment in moments if moment is not None]
    at = f"{' and '.join(adapters[p.digest].label for p in parents)}, module '{module.key}'"
    if strategy.needs != "nothing" and len(measured) == len(moments):
        low = [factored(delta) for delta in deltas]
        if (
            strategy.needs == "factors"
        ):  # the same update written with other factors must merge alike
            low = [balance(delta) for delta in low]
        rebuilt: Delta
        with _naming("strategy", strategy, at):
            rebuilt = strategy.merge_factors(low, weights, params, rngs, measured)
    else:
        seen = view(recipe.space, deltas, weights)
        with _naming("strategy", strategy, at):
            merged = [strategy.merge(tensors, w, params, rngs) for tensors, w in seen.groups]
        rebuilt = seen.rebuild(merged)
    return replace(rebuilt, bias=sum_biases(deltas, weights)), add(deltas, weights)


def contributions(
    recipe: Recipe, plan: ModulePlan, adapters: Adapters
) -> tuple[list[Parent], list[float], list[Delta]]:
    """Who adds to a module, with which weight, and what."""
    present = dict(plan.parts)
    parents = [p for p in recipe.sources if recipe.missing == "zero" or p.digest in present]
    weights = [weight_in(recipe, parent, plan) for parent in parents]
    deltas = [
        delta_of(adapters[p.digest], present[p.digest])
        if p.digest in present
        else _zero(plan.module)
        for p in parents
    ]
    return parents, weights, deltas


def _moment(source: OpenAdapter, module: Module) -> Moment | None:
    if source.moment is None:
        raise Unmergeable(
            f"the inputs of {source.label} were not measured",
            why="the strategy needs them",
            fix=f"adaptkit calibrate {source.label} --base DIR --data FILE",
        )
    return source.moment(module.name, module.shape[1]) if module.kind == "linear" else None


def weight_in(recipe: Recipe, parent: Parent, plan: ModulePlan) -> float:
    """The adapter's weight in this module.

    The last glob that names it, else the weight of the whole adapter.
    """
    for one in reversed(recipe.modules):
        if one.digest == parent.digest and fnmatchcase(plan.module.name, one.glob):
            return one.at(plan.depth)
    return parent.weight


def rank_for_energy(
    recipe: Recipe, strategy: MergeStrategy[Any], plan: ModulePlan, adapters: Adapters
) -> ModulePlan:
    """The module with the smallest rank that keeps what `--energy` asks for."""
    assert recipe.energy is not None
    whole, _ = merged_update(recipe, strategy, plan, adapters)
    values = (svd(whole) if isinstance(whole, LowRank) else dense_svd(whole)).S
    if recipe.keep == "ratio":
        rank = int(np.count_nonzero(values * recipe.energy >= values[0]))
    else:
        sums = np.cumsum(values if recipe.keep == "cumulative" else values**2)
        share = recipe.energy if recipe.keep == "cumulative" else recipe.energy**2
        rank = int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12))) + 1
    return replace(plan, module=replace(plan.module, rank=max(1, min(rank, plan.module.rank))))


def equalise_ranks(plans: Sequence[ModulePlan]) -> list[ModulePlan]:
    """The parts of one module share one rank: the largest that any of them asks for."""
    ranks: dict[str, int] = defaultdict(int)
    for one in plans:
        ranks[one.module.name] = max(ranks[one.module.name], one.module.rank)
    return [replace(one, module=replace(one.module, rank=ranks[one.module.name])) for one in plans]


def delta_of(source: OpenAdapter, part: Module) -> Delta:
    """One adapter's update of one module; where it changes the weight itself, what it changes.

    `PluginError` names the method, the adapter and the module when the method's code breaks.
    """
    try:
        return _delta_of(source, part)
    except AdaptkitError:
        raise
    except Exception as error:
        at = f"{source.label}, module '{part.key}'"
        raise _broken("method", source.method, at, error) from error


@contextmanager
def _naming(kind: str, plugin: Any, at: str) -> Iterator[None]:
    """What a plugin's code raises becomes an error that names the plugin, the adapter and the module."""
    try:
        yield
    except AdaptkitError:
        raise
    except Exception as error:
        raise _broken(kind, plugin, at, error) from error


def _broken(kind: str, plugin: Any, at: str, error: Exception) -> PluginError:
    return PluginError(
        f"the {kind} '{plugin.name}' ({type(plugin).__module__}) broke on {at}",
        why=" ".join(f"{type(error).__name__}: {error}".split()),
        fix="ADAPTKIT_DEBUG=1 shows where; adaptkit plugins doctor tries every plugin",
    )


def _delta_of(source: OpenAdapter, part: Module) -> Delta:
    if not source.needs_weights:
        return source.method.delta(source.adapter, part)
    assert source.base is not None
    weight = work(source.base.matrix(part))
    updated = source.method.applier(source.adapter, part)(weight, slice(0, part.shape[0]))
    return Dense(updated - weight, _bias_change(source, part))


def _bias_change(source: OpenAdapter, part: Module) -> Array | None:
    """What becomes of the bias of a layer that has one."""
    assert source.base is not None
    apply = source.method.bias_applier(source.adapter, part)
    name = source.base.name_of(f"{part.name}.bias") if apply else None
    if apply is None or name is None:
        return None
    before = work(source.base.read(name))[
        part.part * part.shape[0] : (part.part + 1) * part.shape[0]
    ]
    return apply(before) - before


def _zero(module: Module) -> LowRank:
    return LowRank(np.zeros((module.shape[0], 0)), np.zeros((0, module.shape[1])))


def generator(seed: int, digest: str, module: str) -> np.random.Generator:
    """The random numbers of one adapter in one module, in whichever process."""
    key = sha256(f"{seed}\0{digest}\0{module}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key)))
