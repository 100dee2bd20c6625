"""Score adapters on suites, and keep the figures on their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.bases.compare import admits
from adaptkit.errors import BadBase, BadData, BaseMismatch, NotFound
from adaptkit.evaluation.matrix import Matrix
from adaptkit.evaluation.run import score_all
from adaptkit.evaluation.speaker import Speaker
from adaptkit.evaluation.suites import read_suites
from adaptkit.io.safe_paths import user_path
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.lookup.artifacts import find_version, verified_tree
from adaptkit.workspace.lookup.bases import find_base, same_base
from adaptkit.workspace.tasks.run import open_executor
from adaptkit.workspace.tasks.supply import Supply

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from adaptkit.bases.known import Base
    from adaptkit.evaluation.suites import Suite
    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context

BASE = "base"
"""What the base without an adapter is called where adapters are named."""


def say_base_name(context: Context) -> None:
    """Where an adapter is called as the base is here, say how it is named."""
    if (found := context.registry.digest_of(BASE)) is not None:
        context.notify(f"{BASE} is the base alone; the adapter {BASE} is {BASE}@{found[0]} here")


def evaluate(
    context: Context,
    adapters: Sequence[str],
    suites: Sequence[str | os.PathLike[str]],
    *,
    base: str,
    baseline: str | None = None,
    new: Sequence[str] = (),
    batch: int = 16,
    record: bool = True,
    force: bool = False,
    on: str | None = None,
    recorded: Callable[[Version, Mapping[str, float]], None] = lambda _version, _metrics: None,
) -> Matrix:
    """The figures of registered adapters (and of `base`) on suites, kept as metrics of the versions.

    Each version's are kept as soon as it was asked everything: an end in the middle costs only the one that is being
    asked. `recorded` is called with each then.

    With a `baseline` (a reference, or `base`), what each adapter forgot is measured; `new` are the suites that it was
    meant to learn, which count for no forgetting. `on` names an executor: then one task scores one adapter.
    """
    on = executor_url(context, on)
    files = [user_path(path) for path in suites]
    read = read_suites(files)
    _check_asked(adapters, read, new)
    at_hand = base_at_hand(context, base)
    asked = dict.fromkeys([*([baseline] if baseline else []), *adapters])
    if BASE in asked:
        say_base_name(context)
    versions = {ref: None if ref == BASE else find_version(context, ref) for ref in asked}
    for version in versions.values():
        if version is not None:
            check_base(context, version, base, force=force)
    labelled = {_label(ref, version): version for ref, version in versions.items()}
    total = sum(suite.size for suite in read) * len(labelled)
    known = None if baseline is None else _label(baseline, versions[baseline])
    figures: dict[str, Mapping[str, float]] = {}

    def scored(label: str, row: Mapping[str, float]) -> None:
        figures[label] = row  # the baseline's come first
        version = labelled[label]
        if record and version is not None:
            metrics = Matrix(read, figures, known, frozenset(new)).metrics(label)
            _record(context, version, metrics, read)
            recorded(version, metrics)

    executor = open_executor(context, on)
    with context.watch("asking", total, "prompts") as done:
        if executor is None:
            _score_here(context, at_hand, labelled, read, batch, done, scored)
        else:
            from adaptkit.workspace.tasks.evaluate import score_on

            digests = {label: v.digest if v else None for label, v in labelled.items()}
            supply = Supply.of(context, [digest for digest in digests.values() if digest])
            with executor:
                score_on(
                    executor,
                    supply,
                    at_hand,
                    digests,
                    files,
                    read,
                    batch=batch,
                    done=done,
                    scored=scored,
                )
    return Matrix(read, figures, known, frozenset(new))


def _check_asked(adapters: Sequence[str], suites: Sequence[Suite], new: Sequence[str]) -> None:
    """Refuse to evaluate nothing, and new suites that are not among the suites."""
    names = [suite.name for suite in suites]
    for name in new:
        if name not in names:
            raise NotFound("suite", name, names)
    if not adapters or not suites:
        what = "suite" if adapters else "adapter"
        raise BadData("there is nothing to evaluate", why=f"no {what} is named")


def _score_here(
    context: Context,
    base: Base,
    adapters: Mapping[str, Version | None],
    suites: Sequence[Suite],
    batch: int,
    done: Callable[[int], None],
    scored: Callable[[str, Mapping[str, float]], None],
) -> None:
    """Score the adapters in this process, one after another on one model."""
    trees = {
        label: None if version is None else verified_tree(context, version.digest)
        for label, version in adapters.items()
    }
    assert base.folder is not None
    score_all(Speaker(base.folder, batch=batch), trees, suites, done, scored)


def _record(
    context: Context, version: Version, metrics: Mapping[str, float], suites: Sequence[Suite]
) -> None:
    """Keep figures as metrics of a version; one transaction."""
    noted = context.registry.annotate(
        version.name, version.number, metrics=metrics, author=context.config.author
    )
    suites_used = {suite.name: suite.digest for suite in suites}
    emit(context, "evaluated", noted.ref, noted.digest, {"suites": suites_used})


def base_at_hand(context: Context, base: str) -> Base:
    """A base whose weights are on this machine: its folder is known."""
    found = find_base(context, base)
    if found.folder is None:
        raise BadBase(
            f"cannot run {base}",
            why="its weights are not on this machine",
            fix="fetch them (hf download OWNER/MODEL) and give the folder: --base DIR",
        )
    return found


def base_folder(context: Context, base: str) -> Path:
    """The folder of a base whose weights are on this machine."""
    folder = base_at_hand(context, base).folder
    assert folder is not None
    return folder


def check_base(context: Context, version: Version, base: str, *, force: bool = False) -> None:
    """Refuse an adapter of another base: it would give figures that mean nothing."""
    found = find_base(context, base).identity
    ruling = admits(same_base(context, version.base, found), version.base, found, "serve")
    if not ruling.allowed and not force:
        raise BaseMismatch(
            f"{version.ref} is not for the base {base}",
            why=ruling.reason,
            fix="give the base it was trained on, or --force",
        )
    if ruling.warning or (not ruling.allowed and force):
        context.notify(f"{version.ref} and {base}: {ruling.warning or ruling.reason}")


def _label(ref: str, version: Version | None) -> str:
    return ref if version is None else version.ref
