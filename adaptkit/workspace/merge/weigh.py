"""Choose the weights of a merge, by adapter and module, on the parents' own unlabelled prompts."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.bases.compatibility import check_together
from adaptkit.errors import BadRecipe, NotFound, Unmergeable
from adaptkit.extend import LowRank
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.workspace.lookup.bases import measured_base
from adaptkit.workspace.lookup.merge_sources import open_sources
from adaptkit.workspace.merge.parents import read_parents, schedule, teacher_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.refs import Sources, WeightedRef
    from adaptkit.training.null_space import Weighed
    from adaptkit.types import Facts
    from adaptkit.workspace.context.context import Context


@dataclass(frozen=True, slots=True)
class WeighedSources:
    """The adapters of a merge with the weights that were chosen, what was measured, and how, for the manifest."""

    sources: tuple[WeightedRef, ...]
    report: Weighed
    facts: Facts

    def to_json(self) -> dict[str, Any]:
        return {**self.report.to_json(), "weights": self.report.weights}


def weigh(
    context: Context,
    sources: Sources,
    base: str | os.PathLike[str],
    data: Mapping[str, str | os.PathLike[str]],
    *,
    steps: int = 50,
    rate: float = 1e-3,
    batch: int = 16,
    held_out: float = 0.2,
    seed: int = 0,
    force: bool = False,
    allow_pickle: bool = False,
) -> WeighedSources:
    """Weights by module for a merge, by null-space compression (NSC, arXiv 2603.26317); nothing is merged.

    `data` maps every source to a file of its own prompts; where a prompt has no answer, the adapter writes it. The
    weights given with the sources are those it starts from. The result goes on as a recipe that needs no data:
    `merge(weighed.sources, facts=weighed.facts, …)`.
    """
    from adaptkit.training.live import LiveModel
    from adaptkit.training.null_space import weigh as choose

    weighted, folder = refs.weighted(sources), user_path(base)
    labels = [str(one.ref) for one in weighted]
    _check(weighted, labels, data)
    how = schedule(steps, rate, batch, held_out, seed)
    files = read_parents({label: data[label] for label in labels})
    with ExitStack() as stack, staging(context.tmp) as work:
        opened = open_sources(
            context, weighted, work, stack, allow_pickle=allow_pickle, weights=None
        )
        known = [(source.label, identity) for source, identity in opened]
        known.insert(0, (str(base), measured_base(context, folder).identity))
        facts = check_together(known, context.pairs, force=force)
        for text in (*facts.get("forced", ()), *facts.get("warnings", ())):
            context.notify(text)
        adapters = [source for source, _ in opened]
        updates = {source.label: _updates(context, source) for source in adapters}
        live = LiveModel(folder, {f"p{i}": one.adapter.path for i, one in enumerate(adapters)})
        with context.watch(f"weighing {' and '.join(labels)}", steps, "steps") as progress:
            parents = [
                teacher_of(live, label, f"p{i}", files[label], how, held_out, context.notify)
                for i, label in enumerate(labels)
            ]
            start = {str(one.ref): one.weight for one in weighted}
            report = choose(live, parents, updates, start, how, progress)
    weighed = {
        **report.to_json(),
        "by": "null-space",
        "rate": rate,
        "batch": batch,
        "seed": seed,
        "data": {label: [p.digest, len(p.rows)] for label, p in files.items()},
    }
    chosen = tuple(
        replace(one, modules={name: (value,) for name, value in report.weights[label].items()})
        for one, label in zip(weighted, labels, strict=True)
    )
    return WeighedSources(chosen, report, {"weighed": weighed})


def _check(weighted: Sequence[WeightedRef], labels: Sequence[str], data: Mapping[str, Any]) -> None:
    """Two adapters or more, each once and with one weight, and prompts of every one."""
    if len(weighted) < 2:
        raise BadRecipe(
            f"cannot weigh {' and '.join(labels) or 'nothing'}",
            why="it takes two adapters or more",
            fix="adaptkit merge naval medic --weigh naval=naval.jsonl --weigh medic=medic.jsonl …",
        )
    for label in labels:
        if labels.count(label) > 1:
            raise BadRecipe(
                f"cannot weigh {label} twice",
                why="one weight is chosen for each adapter and module",
                fix="name it once",
            )
    for label in data:
        if label not in labels:
            raise NotFound("source of this merge", label, labels)
    for one, label in zip(weighted, labels, strict=True):
        if label not in data:
            raise BadRecipe(
                f"cannot weigh {label}",
                why="no prompts of its own are given, so nothing shows what it reads",
                fix=f"--weigh {label}=FILE",
            )
        if one.modules:
            raise BadRecipe(
                f"{label} has weights by module already",
                why="they are what weighing chooses",
                fix=f"leave out --weight '{label}[…]=…'",
            )


def _updates(context: Context, source: OpenAdapter) -> dict[str, LowRank]:
    """The low-rank updates of an adapter by module; the others keep the weight they are given."""
    method, adapter = source.method, source.adapter
    found: dict[str, LowRank] = {}
    others = []
    if not (why := method.unmergeable(adapter)) and not method.closed:
        for module in method.modules(adapter):
            delta = None
            if module.parts == 1 and module.kind in {"linear", "conv1d"}:
                delta = method.delta(adapter, module)
            if isinstance(delta, LowRank):
                found[module.name] = delta
            else:
                others.append(module.key)
    if not found:
        raise Unmergeable(
            f"cannot weigh {source.label}",
            why=why
            or f"adapters of the method {method.name} have no low-rank factors, and weights are chosen by the rows of A",
            fix="leave out --weigh, and give it a weight by hand: REF=W",
        )
    if others:
        context.notify(
            f"{len(others)} modules of {source.label} keep their weight, for they have no factors that read one vector"
            f" a token: {', '.join(others[:3])}{', …' if len(others) > 3 else ''}"
        )
    return found
