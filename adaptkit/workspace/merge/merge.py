"""Merge adapters into one."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import BadRecipe
from adaptkit.extend.artifact_files import MANIFEST
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.machine.hardware import machine
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import empty_target, pretty_json, rename_into, staging
from adaptkit.types import Facts
from adaptkit.workspace.adapters.export.one_file import SUFFIX, dialect_for, file_target, write_file
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.lookup.adapters import ingest_result
from adaptkit.workspace.lookup.artifacts import check_destination, register
from adaptkit.workspace.lookup.bases import measured_base
from adaptkit.workspace.lookup.merge_sources import (
    all_params,
    module_count,
    open_sources,
    parents_of,
    review_merge,
    with_moments,
)
from adaptkit.workspace.results import Merged
from adaptkit.workspace.tasks.merge import estimate_of, modules_elsewhere

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bases.known import Base
    from adaptkit.extend import MergeStrategy
    from adaptkit.merge.recipe import Choices, Recipe
    from adaptkit.merge.report import MergeReport
    from adaptkit.refs import Sources
    from adaptkit.types import BaseIdentity, Manifest
    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.tasks.merge import Estimate


def merge(
    context: Context,
    sources: Sources,
    *,
    name: str | None = None,
    out: str | os.PathLike[str] | None = None,
    strategy: str = "linear",
    space: str | None = None,
    params: Mapping[str, Any] | None = None,
    rank: int | None = None,
    energy: float | None = None,
    keep: str = "fro",
    normalize: bool = False,
    seed: int = 0,
    dtype: str | None = None,
    extras: str | None = None,
    missing: str = "skip",
    base: str | os.PathLike[str] | None = None,
    message: str = "",
    alias: str | None = None,
    force: bool = False,
    new_version: bool = False,
    allow_pickle: bool = False,
    workers: int | None = None,
    into_lora: bool = False,
    dialect: str | None = None,
    on: str | None = None,
    facts: Facts | None = None,
    **strategy_params: Any,
) -> Merged:
    """Merge adapters into the next version of `name`, or into the folder `out` without registering.

    `sources` are references, each alone (`"naval@prod"`, weight 1), with its weight (`"naval=0.7"`,
    `("naval", 0.7)`), a mapping of them to weights, or `WeightedRef` objects, which also take
    weights by module. Parameters of the strategy go into `params` or are given as keywords:
    `merge(…, strategy="ties", density=0.5)`.

    `into_lora` packs the result as low-rank factors even where the method would stay itself. `base`
    is the folder of the base, for methods whose update needs its weights (DoRA, OFT, …). An `out`
    that ends in `.safetensors` is one file for another tool, `dialect`; that of the sources if
    nobody says. `facts` are kept in the manifest, beside the merge's own.
    """
    from adaptkit.merge import recipe as recipes

    on = executor_url(context, on)
    plan = context.plugins.strategy(strategy)
    every_param = all_params(context, merge, plan, params, strategy_params)
    check_destination(name, out, alias=alias, message=message, new_version=new_version)
    target = _target(out, dialect)
    choices = recipes.Choices(
        space=space,
        params=every_param,
        rank=rank,
        energy=energy,
        keep=keep,
        normalize=normalize,
        seed=seed,
        dtype=dtype,
        extras=extras,
        missing=missing,
    )
    weighted = refs.weighted(sources)
    with ExitStack() as stack, staging(context.tmp if target is None else target.parent) as work:
        parents = _open_parents(context, plan, weighted, choices, base, work, stack, allow_pickle)
        known, found_facts = _check_bases(context, parents, base, force=force)
        if extras is not None and len(parents.opened) == 1:
            _say_extras(context, parents.opened[0][0], extras)
        review_merge(context, parents.recipe, parents.opened, name)
        folder = work / "merged"
        report = _make(context, plan, parents, folder, on, workers, into_lora=into_lora)
        prepared = ingest_result(context, folder, known, work)
        manifest = replace(
            prepared.manifest,
            parents=parents.recipe.sources,
            recipe=parents.recipe.canonical(),
            facts={**(facts or Facts()), **found_facts, **_measured(report)},
        )
        if target is not None:
            _write(context, folder, target, manifest, dialect, weighted, work)
            return Merged(report, parents.recipe, manifest, out=target)
        assert name is not None
        added = register(
            context,
            replace(prepared, manifest=manifest),
            name,
            message=message,
            alias=alias,
            new_version=new_version,
            origin="merged",
        )
        return Merged(report, parents.recipe, manifest, added.version, added.created)


def _target(out: str | os.PathLike[str] | None, dialect: str | None) -> Path | None:
    """The folder or the one file to write; None where the result is registered."""
    one_file = out is not None and Path(out).suffix == SUFFIX
    target = None if out is None else (file_target if one_file else empty_target)(Path(out))
    if dialect is not None and not one_file:
        raise BadRecipe(
            f"cannot write a merge for {dialect} here",
            why="what another tool reads is one file",
            fix=f"--out NAME{SUFFIX}",
        )
    return target


@dataclass(frozen=True, slots=True)
class _Parents:
    """The opened adapters of a merge with what is known of their bases, and the resolved recipe."""

    opened: Sequence[tuple[OpenAdapter, BaseIdentity]]
    recipe: Recipe


def _open_parents(
    context: Context,
    plan: MergeStrategy[Any],
    weighted: Sequence[refs.WeightedRef],
    choices: Choices,
    base: str | os.PathLike[str] | None,
    work: Path,
    stack: ExitStack,
    allow_pickle: bool,
) -> _Parents:
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.merge import recipe as recipes

    weights = (
        None
        if base is None
        else stack.enter_context(BaseWeights.open(user_path(base), context.home.cache))
    )
    opened = open_sources(
        context, weighted, work, stack, allow_pickle=allow_pickle, weights=weights
    )
    recipe = recipes.resolve(plan, *parents_of(weighted, opened), choices)
    return _Parents(*with_moments(context, plan, opened, recipe, stack))


def _check_bases(
    context: Context, parents: _Parents, base: str | os.PathLike[str] | None, *, force: bool
) -> tuple[Base, Facts]:
    """Refuse adapters of different bases; the base of the result, and facts for its manifest."""
    from adaptkit.bases.compatibility import best_known, check_together
    from adaptkit.bases.known import Base

    measured = None if base is None else measured_base(context, user_path(base))
    bases = [(source.label, known) for source, known in parents.opened]
    if measured is not None:
        bases.insert(0, (str(base), measured.identity))
    facts = check_together(bases, context.pairs, force=force)
    for text in (*facts.get("forced", ()), *facts.get("warnings", ())):
        context.notify(text)
    best = best_known([found for _, found in bases])
    return Base(best) if measured is None else replace(measured, identity=best), facts


def _make(
    context: Context,
    plan: MergeStrategy[Any],
    parents: _Parents,
    folder: Path,
    on: str | None,
    workers: int | None,
    *,
    into_lora: bool,
) -> MergeReport:
    from adaptkit.merge.run import run

    with os_errors("write", folder):
        folder.mkdir()
    with context.watch("merging", module_count(parents.opened), "modules") as step:
        return run(
            parents.recipe,
            plan,
            [source for source, _ in parents.opened],
            folder,
            workers=workers,
            method=context.plugins.packing_method(),
            into_lora=into_lora,
            elsewhere=modules_elsewhere(context, on, parents.recipe, parents.opened, workers),
            done=step,
        )


def _measured(report: MergeReport) -> Facts:
    """What the manifest keeps of a merge's report, and where it was made."""
    return {
        "loss": {
            "error": report.error.total,
            "from_sum": report.from_sum,
            "dropped": list(report.dropped),
        },
        "made_with": machine(),
    }


def _write(
    context: Context,
    folder: Path,
    target: Path,
    manifest: Manifest,
    dialect: str | None,
    weighted: Sequence[refs.WeightedRef],
    work: Path,
) -> None:
    """The result as a folder with its manifest, or as one file for another tool."""
    if target.suffix == SUFFIX:
        tool = dialect or dialect_for(context, [one.ref for one in weighted])
        write_file(context, folder, target, tool, work, label=target.name)
    else:
        atomic_write(folder / MANIFEST, pretty_json(manifest.to_json()))
        rename_into(folder, target)


def _say_extras(context: Context, source: OpenAdapter, policy: str) -> None:
    """`--extras` settles conflicts, and one adapter alone has none."""
    kept = source.method.extras(source.adapter)
    heads = f", which keeps {', '.join(kept[:3])}; adaptkit strip {source.label} takes parts out"
    context.notify(
        f"--extras {policy} settles what several adapters disagree on and changes nothing of {source.label} alone"
        + (heads if kept else "")
    )


def merge_cost(
    context: Context,
    sources: Sources,
    *,
    strategy: str = "linear",
    space: str | None = None,
    params: Mapping[str, Any] | None = None,
    rank: int | None = None,
    energy: float | None = None,
    keep: str = "fro",
    normalize: bool = False,
    seed: int = 0,
    dtype: str | None = None,
    extras: str | None = None,
    missing: str = "skip",
    allow_pickle: bool = False,
    on: str | None = None,
) -> Estimate:
    """What merging takes, by the shapes of the modules, and whether an executor would pay.

    What `merge` would refuse of its choices is refused here.
    """
    from adaptkit.merge import recipe as recipes

    executor_url(context, on)
    plan = context.plugins.strategy(strategy)
    choices = recipes.Choices(
        space=space,
        params=all_params(context, merge_cost, plan, params, {}),
        rank=rank,
        energy=energy,
        keep=keep,
        normalize=normalize,
        seed=seed,
        dtype=dtype,
        extras=extras,
        missing=missing,
    )
    weighted = refs.weighted(sources)
    with ExitStack() as stack, staging(context.home.reading) as work:
        opened = open_sources(
            context, weighted, work, stack, allow_pickle=allow_pickle, weights=None
        )
        recipes.resolve(plan, *parents_of(weighted, opened), choices)
        return estimate_of([source for source, _ in opened])
