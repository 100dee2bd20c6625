"""The modules of one merge on workers, when there is enough to compute."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.io.machine.parallel import run_modules
from adaptkit.merge.modules import Packing, by_module, make_modules, together
from adaptkit.merge.plan import plan_modules
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.tasks.run import in_order, open_executor
from adaptkit.workspace.tasks.supply import Supply, plugins

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from adaptkit.extend import Executor
    from adaptkit.merge.modules import MadeModule
    from adaptkit.merge.plan import ModulePlan
    from adaptkit.merge.recipe import Recipe
    from adaptkit.merge.run import Elsewhere
    from adaptkit.workspace.context.context import Context

PER_SECOND = 1.3e9
"""Multiplications a second of one BLAS thread in a merge's small matrices (docs/executors.md, on a busy core)."""
WORTH = 20.0
"""Seconds of one thread below which handing the modules over costs more than it saves."""
A_TASK = 32 << 20
"""Bytes of results in one task."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a merge computes, in seconds of one thread, and whether that is worth an executor."""

    seconds: float

    @property
    def pays(self) -> bool:
        return self.seconds >= WORTH

    @property
    def text(self) -> str:
        """For `--dry-run`."""
        where = "runs on an executor, if one is given" if self.pays else "stays in this process"
        return f"about {self.shown} s of one thread: {where} (workers pay from {WORTH:g} s on)"

    @property
    def shown(self) -> str:
        return f"{max(self.seconds, 0.01):.2g}" if self.seconds < 100 else f"{self.seconds:,.0f}"

    @property
    def why(self) -> str:
        """Why workers were not asked."""
        return f"about {self.shown} s of one thread, and workers pay from {WORTH:g} s on"


def modules_elsewhere(
    context: Context,
    on: str | None,
    recipe: Recipe,
    opened: Sequence[tuple[OpenAdapter, Any]],
    workers: int | None,
) -> Elsewhere | None:
    """How to make the modules on the executor in force; None where threads of this process do it."""
    url = executor_url(context, on)
    if url is None:
        return None
    nameable = all(
        source.base is None and source.moment is None and context.store.holds(source.digest)
        for source, _ in opened
    )
    sources = [source for source, _ in opened]

    def make(plans: Sequence[ModulePlan], packing: Packing) -> Iterator[Sequence[MadeModule]]:
        executor = open_executor(context, url, workers=workers)
        assert executor is not None
        supply = Supply.of(context, [source.digest for source in sources])
        with executor:
            yield from modules_on(executor, supply, recipe, sources, plans, packing)

    if not nameable or recipe.energy is not None:
        context.notify(f"the merge stays in this process: its modules cannot be made on {url}")
        return None
    guess = estimate(plan_modules(recipe, context.plugins.strategy(recipe.strategy), sources))
    if not guess.pays:
        context.notify(f"the merge stays in this process: {guess.why}")
        return None
    return make


def estimate(plans: Sequence[ModulePlan]) -> Estimate:
    """Factors of m×R and R×n, R the sum of the ranks: (m + n)·R² for QR and SVD, and R³ for the core, a few times."""
    parts = [(plan.module.shape, sum(part.rank for _, part in plan.parts)) for plan in plans]
    return Estimate(sum(_multiplications(*shape, rank) for shape, rank in parts) / PER_SECOND)


def estimate_of(sources: Sequence[OpenAdapter]) -> Estimate:
    """The same before a strategy is chosen: by the modules alone."""
    ranks: dict[tuple[str, tuple[int, int]], int] = defaultdict(int)
    for source in sources:
        for module in source.method.modules(source.adapter):
            ranks[module.key, module.shape] += module.rank
    return Estimate(
        sum(_multiplications(*shape, rank) for (_, shape), rank in ranks.items()) / PER_SECOND
    )


def _multiplications(rows: int, columns: int, rank: int) -> float:
    rank = min(rank, rows, columns)
    return 8.0 * (rows + columns) * rank**2 + 40.0 * rank**3


def modules_on(
    executor: Executor,
    supply: Supply,
    recipe: Recipe,
    sources: Sequence[OpenAdapter],
    plans: Sequence[ModulePlan],
    packing: Packing,
) -> Iterator[list[MadeModule]]:
    """Each module of the merge, made on a worker, in the order of the plans; a task holds as many as fit into `A_TASK`."""
    named = tuple((source.digest, source.label) for source in sources)
    return in_order(
        executor,
        make_some,
        [(supply, recipe, named, names, packing) for names in _tasks(plans)],
    )


def _tasks(plans: Sequence[ModulePlan]) -> Iterator[tuple[str, ...]]:
    names: list[str] = []
    size = 0
    for name, group in by_module(plans).items():
        names.append(name)
        size += sum(4 * one.module.rank * sum(one.module.shape) for one in group)
        if size >= A_TASK or len(names) >= 512:
            yield tuple(names)
            names, size = [], 0
    if names:
        yield tuple(names)


def make_some(
    supply: Supply,
    recipe: Recipe,
    named: Sequence[tuple[str, str]],
    names: Sequence[str],
    packing: Packing,
) -> list[MadeModule]:
    """On a worker: some modules of a merge, by name; the plan is made again from the same recipe and artifacts."""
    known = plugins()
    strategy: Any = known.strategy(recipe.strategy)
    with ExitStack() as stack:
        sources = []
        for digest, label in named:
            adapter = stack.enter_context(Adapter.open(supply.bring(digest), label))
            sources.append(OpenAdapter(adapter, known.method_for(adapter), digest))
        groups = by_module(plan_modules(recipe, strategy, sources))
        method = known.method(packing.method)
        adapters = {source.digest: source for source in sources}
        made = run_modules(
            lambda some: make_modules(recipe, strategy, some, adapters, method, packing),
            together(groups[name] for name in names),
            workers=1,
        )
        return [one for part in made for one in part]
