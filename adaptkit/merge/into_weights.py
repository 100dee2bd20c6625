"""Several adapters as one, for a bake.

Each module's merged update as it is, not cut to a rank and not rounded.

This is where methods meet that no adapter file can hold together (DoRA with OFT with LN tuning):
all of them are changes of the base's weights, and their weighted combination is one too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.adapters.write import write_companions
from adaptkit.algebra.lowrank import work
from adaptkit.errors import BadRecipe, Unmergeable
from adaptkit.extend import AdapterMethod
from adaptkit.merge.extras import Contributor, resolve_extras
from adaptkit.merge.plan import merged_update, plan_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import AdapterView, Array, Delta, MergeStrategy, Module, Rows
    from adaptkit.merge.extras import ResolvedTensors
    from adaptkit.merge.recipe import Recipe
    from adaptkit.types import TensorInfo


def merged_updates(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    sources: Sequence[OpenAdapter],
    base: BaseWeights,
    folder: Path,
) -> OpenAdapter:
    """One source that represents a whole merge.

    `folder` takes the tokenizer files that were settled.
    """
    if recipe.rank is not None or recipe.energy is not None:
        raise BadRecipe(
            "a merge into full weights has no rank",
            why="the whole update is added to the weights",
            fix="drop --rank and --energy",
        )
    for source in sources:
        if reason := source.method.unbakeable(source.adapter):
            raise Unmergeable(f"cannot bake {source.label}", why=reason)
    weights = {parent.digest: parent.weight for parent in recipe.sources}
    parties = [Contributor.of(s, weights[s.digest]) for s in sources]
    settled = resolve_extras(
        recipe.extras,
        parties,
        [s.method.extras(s.adapter) for s in sources],
        ("layer_replication",),
    )
    write_companions(folder, {}, settled.files)
    method = MergedUpdates(recipe, strategy, sources, base, settled.tensors)
    label = " + ".join(f"{weights[s.digest]:g}·{s.label}" for s in sources)
    return OpenAdapter(
        Adapter(folder, label, settled.settings, _Combined(method, settled.tensors)),
        method,
        recipe.digest,
        base,
    )


class MergedUpdates(AdapterMethod):
    """The merged update of every module, computed when the bake comes to it."""

    name: ClassVar[str] = "blend"

    def __init__(
        self,
        recipe: Recipe,
        strategy: MergeStrategy[Any],
        sources: Sequence[OpenAdapter],
        base: BaseWeights,
        settled: ResolvedTensors,
    ) -> None:
        self._recipe, self._strategy, self._sources, self._base, self._settled = (
            recipe,
            strategy,
            sources,
            base,
            settled,
        )
        self._weights = {parent.digest: parent.weight for parent in recipe.sources}
        with_modules = [source for source in sources if source.method.modules(source.adapter)]
        plans = plan_modules(recipe, strategy, with_modules, any_rank=True) if with_modules else []
        self._plans = {plan.module.key: plan for plan in plans}
        self._adapters = {source.digest: source for source in sources}
        self.vectors = self._own_replacements()

    def recognises(self, view: AdapterView) -> bool:
        return False  # it is made, never found

    def unmergeable(self, view: AdapterView) -> str:
        return ""  # what cannot be merged was refused when it was made

    def modules(self, view: AdapterView) -> tuple[Module, ...]:
        return tuple(plan.module for plan in self._plans.values())

    def delta(self, view: AdapterView, module: Module) -> Delta:
        return merged_update(self._recipe, self._strategy, self._plans[module.key], self._adapters)[
            0
        ]

    def _parts(self, module: Module) -> list[tuple[OpenAdapter, Module]]:
        plan = self._plans[module.key]
        return [(self._adapters[digest], part) for digest, part in plan.parts]

    def needs_bias(self, view: AdapterView, module: Module) -> bool:
        return any(
            source.method.needs_bias(source.adapter, part) for source, part in self._parts(module)
        )

    def bias_applier(self, view: AdapterView, module: Module) -> Callable[[Array], Array] | None:
        parts = self._parts(module)
        if not any(source.method.bias_applier(source.adapter, part) for source, part in parts):
            return None

        def apply(bias: Array) -> Array:
            added = self.delta(view, module).bias
            if added is None:
                return bias
            total: Array = bias + added.astype(bias.dtype)
            return total

        return apply

    def replacements(self, view: AdapterView) -> Mapping[str, str]:
        kept = {
            name: key
            for source in self._sources
            for name, key in source.method.replacements(source.adapter).items()
            if key in self._settled.layout
        }
        return kept | {name: name for name in self.vectors}

    def row_replacements(self, view: AdapterView) -> Mapping[str, Rows]:
        return {
            name: (key, self._settled.rows[key])
            for source in self._sources
            for name, (key, _) in source.method.row_replacements(source.adapter).items()
            if key in self._settled.rows
        }

    def vector(self, name: str) -> Array:
        """A tensor that adapters bring whole, as the base's plus the weighted changes."""
        found = self._base.name_of(name)
        assert found is not None
        before = work(self._base.read(found))
        total: Array = before + sum(
            self._weights[source.digest] * (work(source.adapter.read(key)) - before)
            for source, key in self.vectors[name]
        )
        return total

    def _own_replacements(self) -> dict[str, list[tuple[OpenAdapter, str]]]:
        """Tensors that are a method's very update, such as trained norms: whole, and no extras."""
        found: dict[str, list[tuple[OpenAdapter, str]]] = {}
        for source in self._sources:
            extras = set(source.method.extras(source.adapter))
            for name, key in source.method.replacements(source.adapter).items():
                if key not in extras and self._base.name_of(name):
                    found.setdefault(name, []).append((source, key))
        return found


class _Combined:
    """The tensors of a blend: what was settled, and what is combined when it is asked for."""

    def __init__(self, method: MergedUpdates, settled: ResolvedTensors) -> None:
        self._method, self._settled = method, settled
        combined = {
            name: source.adapter.header[key] for name, ((source, key), *_) in method.vectors.items()
        }
        self.infos: Mapping[str, TensorInfo] = {**settled.layout, **combined}

    def read(self, key: str) -> Array:
        return self._method.vector(key) if key in self._method.vectors else self._settled.read(key)

    def close(self) -> None:
        return
