"""Train a merged version so that it says what its parents say, and register it as the next version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.write import rewrite_weights
from adaptkit.bases.compatibility import best_known, check_together
from adaptkit.bases.known import Base
from adaptkit.errors import BadRecipe
from adaptkit.io.machine.hardware import machine
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.types import Parent
from adaptkit.workspace.lookup.adapters import ingest_result
from adaptkit.workspace.lookup.artifacts import find_version, register, verified_tree
from adaptkit.workspace.lookup.bases import measured_base
from adaptkit.workspace.merge.parents import read_parents, schedule, teacher_of
from adaptkit.workspace.results import names

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from adaptkit.training.data.prompts import Prompts
    from adaptkit.training.distil import Distilled, Schedule
    from adaptkit.types import Facts, Version
    from adaptkit.workspace.context.context import Context

BASE = "the base"


@dataclass(frozen=True, slots=True)
class DistilledVersion:
    """A version that was distilled, from which one, and what became of the held-out prompts."""

    version: Version
    created: bool
    source: Version
    report: Distilled

    def to_json(self) -> dict[str, Any]:
        return {
            **names(self.version),
            "digest": self.version.digest,
            "created": self.created,
            "from": self.source.ref,
            **self.report.to_json(),
        }


def distil(
    context: Context,
    ref: str,
    base: str | os.PathLike[str],
    data: Mapping[str, str | os.PathLike[str]],
    *,
    keep: str | os.PathLike[str] | None = None,
    name: str | None = None,
    steps: int = 50,
    rate: float = 1e-3,
    batch: int = 16,
    held_out: float = 0.2,
    seed: int = 0,
    message: str = "",
    alias: str | None = None,
    force: bool = False,
) -> DistilledVersion:
    """Train a version, at its rank, to say on each parent's prompts what that parent says; the next version of its name.

    `data` maps parents (references) to files of prompts; where a prompt has no answer, the parent writes it. `keep`
    are prompts on which the base must stay as it is. The share `held_out` of each file decides which step is kept.
    """
    if not data:
        raise BadRecipe(
            f"cannot distil {ref}",
            why="no parent's prompts are given",
            fix="--data naval=naval.jsonl --data medic=medic.jsonl",
        )
    how = schedule(steps, rate, batch, held_out, seed)
    student = find_version(context, ref)
    parents = {label: find_version(context, label) for label in data}
    files = read_parents({**data, **({BASE: keep} if keep is not None else {})})
    known, facts = _check_bases(context, student, parents, base, force=force)
    _warn_of_the_silent(context, student, parents)
    with (
        staging(context.tmp) as work,
        context.watch(f"distilling {student.ref}", steps, "steps") as progress,
    ):
        made = work / "distilled"
        report = _train(
            context, user_path(base), student, parents, files, how, held_out, progress, made
        )
        prepared = ingest_result(context, made, known, work)
        facts["distilled"] = {
            **report.to_json(),
            "rate": rate,
            "batch": batch,
            "seed": seed,
            "data": {label: [p.digest, len(p.rows)] for label, p in files.items()},
        }
        facts["made_with"] = machine()
        manifest = replace(prepared.manifest, parents=_lineage(student, parents), facts=facts)
        added = register(
            context,
            replace(prepared, manifest=manifest),
            name or student.name,
            message=message,
            alias=alias,
            origin="distilled",
        )
    return DistilledVersion(added.version, added.created, student, report)


def _check_bases(
    context: Context,
    student: Version,
    parents: Mapping[str, Version],
    base: str | os.PathLike[str],
    *,
    force: bool,
) -> tuple[Base, Facts]:
    """Refuse versions of different bases; the base of the result, and facts for its manifest."""
    known = [(one.ref, one.base) for one in (student, *parents.values())]
    known.insert(0, (str(base), measured_base(context, user_path(base)).identity))
    facts = check_together(known, context.pairs, force=force)
    for text in (*facts.get("forced", ()), *facts.get("warnings", ())):
        context.notify(text)
    return Base(best_known([one for _, one in known])), facts


def _train(
    context: Context,
    folder: Path,
    student: Version,
    parents: Mapping[str, Version],
    files: Mapping[str, Prompts],
    how: Schedule,
    held_out: float,
    progress: Callable[[int], None],
    made: Path,
) -> Distilled:
    """Train the student on what its parents say, and write it into `made`; `BASE` among the files is to stay as it is."""
    from adaptkit.training.distil import distil as train
    from adaptkit.training.live import LiveModel

    trees = {
        "student": verified_tree(context, student.digest),
        **{f"p{i}": verified_tree(context, one.digest) for i, one in enumerate(parents.values())},
    }
    live = LiveModel(folder, trees)
    adapters = [*(f"p{i}" for i in range(len(parents))), *([None] if BASE in files else [])]
    teachers = [
        teacher_of(live, label, adapter, prompts, how, held_out, context.notify)
        for (label, prompts), adapter in zip(files.items(), adapters, strict=True)
    ]
    report = train(live, "student", teachers, how, progress)
    rewrite_weights(trees["student"], made, live.tensors("student"), student.ref)
    return report


def _lineage(student: Version, parents: Mapping[str, Version]) -> tuple[Parent, ...]:
    return (
        Parent(student.digest, 1.0, "distilled", student.ref),
        *(Parent(one.digest, 1.0, "teacher", label) for label, one in parents.items()),
    )


def _warn_of_the_silent(context: Context, student: Version, parents: Mapping[str, Version]) -> None:
    """Parents of the merge without prompts: nothing keeps what they taught."""
    given = {one.digest for one in parents.values()}
    silent = [
        parent.label or parent.digest[:19]
        for parent in context.registry.manifest(student.digest).parents
        if parent.role == "merged" and parent.digest not in given
    ]
    if silent:
        context.notify(
            f"no prompts are given for {' and '.join(silent)}, which went into {student.ref}: that skill may be lost"
        )
