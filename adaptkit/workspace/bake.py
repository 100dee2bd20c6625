"""Adapters into full weights, and back out of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.adapters.ingest import fits
from adaptkit.bake.work_folder import failed_name
from adaptkit.bases.compare import admits, names_no_base
from adaptkit.bases.compatibility import how_to_know
from adaptkit.bases.files.checkpoint import weight_files
from adaptkit.bases.known import snapshot_of
from adaptkit.errors import BaseMismatch, Unmergeable
from adaptkit.extend.artifact_files import MANIFEST
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.io.sizes import count_text
from adaptkit.io.staging import empty_target, pretty_json, rename_into, staging
from adaptkit.workspace.bake_check import LOGITS, checked, comparison
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.lookup.adapters import ingest_result, open_for_merge
from adaptkit.workspace.lookup.artifacts import check_destination, register
from adaptkit.workspace.lookup.bases import measured_base, same_base
from adaptkit.workspace.results import Baked, Extracted, PlannedBake

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bake.extract import ExtractReport
    from adaptkit.bake.run import BakeReport
    from adaptkit.types import BaseIdentity, Facts
    from adaptkit.workspace.context.context import Context


def bake_adapter(
    context: Context,
    ref: str,
    base: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    check: str | None = None,
    force: bool = False,
    clean: bool = False,
    allow_pickle: bool = False,
    workers: int | None = None,
    on: str | None = None,
    sync: bool = True,
) -> Baked:
    """Write the model in `base` with an adapter in its weights to `out`.

    The same call goes on where one stopped. A registered adapter's weight files are written on the executor `on`,
    where there is one and the model is large enough for that to pay.

    `check` is a prompt: before the model gets its name, its output is compared with the live adapter, the logits
    of a language model (needs torch and PEFT) or the outputs of a pipeline's changed components (needs diffusers too).
    A model that differs is `OUT.failed`. Without `sync` nothing waits for the disk: after a power cut, bake again.
    """
    folder, on = user_path(base), executor_url(context, on)
    with ExitStack() as stack, staging(context.tmp) as work:
        source, declared = open_for_merge(
            context, refs.parse(ref), work, stack, allow_pickle=allow_pickle
        )
        apart: dict[str, float] = {}
        compare = None if check is None else comparison(source, folder, check, work)
        failed = failed_name(user_path(out).absolute())
        report = bake_opened(
            context,
            [(ref, declared)],
            source,
            folder,
            Path(out),
            dtype=dtype,
            force=force,
            clean=clean,
            workers=workers,
            on=on,
            sync=sync,
            check=compare and (lambda made: apart.update(checked(compare, made, failed))),
        )
        return Baked(report, apart.pop(LOGITS, None), apart)


def bake_plan(
    context: Context,
    ref: str,
    base: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    dtype: str | None = None,
    allow_pickle: bool = False,
    on: str | None = None,
) -> PlannedBake:
    """What a bake would write, without writing it; refused where the adapter does not fit.

    Whether the base is the adapter's own is not looked at: that takes hashing it.
    """
    from adaptkit.bake.plan import by_file, plan_bake
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.io.safetensors.reader import size_of
    from adaptkit.workspace.tasks.bake import bake_estimate

    folder = user_path(base)
    executor_url(context, on)
    if out is not None:
        empty_target(Path(out))
    with ExitStack() as stack, staging(context.tmp) as work:
        source, _ = open_for_merge(context, refs.parse(ref), work, stack, allow_pickle=allow_pickle)
        weights = stack.enter_context(BaseWeights.open(folder, context.home.cache))
        source.adapter.attach_base(weights)
        planned = plan_bake(source, weights, dtype)
        tensors = planned.tensors.values()
        return PlannedBake(
            tuple(weights.layout.inside(file) for file in by_file(planned, weights)),
            sum(tensor.changed for tensor in tensors),
            sum(size_of(tensor.dtype, tensor.shape) for tensor in tensors),
            bake_estimate(folder),
        )


def extract_adapter(
    context: Context,
    tuned: str | os.PathLike[str],
    base: str | os.PathLike[str],
    *,
    rank: int | None = None,
    name: str | None = None,
    out: str | os.PathLike[str] | None = None,
    message: str = "",
    keep_full: bool = False,
) -> Extracted:
    """What a full fine-tune changed in its base, as an adapter of a rank; what that leaves out is reported.

    Without a rank each matrix gets the smallest one that keeps 99 % of its change. `keep_full` saves norms, biases and
    whatever else cannot be a low-rank update as whole modules.
    """
    from adaptkit.bake import extract

    check_destination(name, out, message=message)
    method = context.plugins.packing_method()
    if method is None:
        raise Unmergeable(
            "cannot extract an adapter",
            why="no plugin has a method that holds low-rank updates",
        )
    target = None if out is None else empty_target(Path(out))
    found = measured_base(context, user_path(base))
    with staging(context.tmp if target is None else target.parent) as work:
        folder = work / "extracted"
        with os_errors("write", folder):
            folder.mkdir()
        passes = 2 if rank is None else 1  # the ranks, then the factors
        size = passes * sum(file.stat().st_size for file in weight_files(user_path(tuned)))
        with context.watch("extracting", size, "bytes") as step:
            report = extract.run(
                user_path(tuned),
                user_path(base),
                folder,
                method,
                rank=rank,
                name=snapshot_of(user_path(base).absolute()),
                keep_full=keep_full,
                cache=context.home.cache,
                done=step,
            )
        for text in report.remarks:
            context.notify(text)
        if report.left_out:
            context.notify(left_out(report, keep_full=keep_full))
        facts: Facts = {
            "extracted": {"loss": report.error.total, "left_out": list(report.left_out)}
        }
        prepared = ingest_result(context, folder, found, work)
        prepared = replace(prepared, manifest=replace(prepared.manifest, facts=facts))
        if target is not None:
            atomic_write(folder / MANIFEST, pretty_json(prepared.manifest.to_json()))
            rename_into(folder, target)
            return Extracted(report, prepared.manifest.digest, out=target)
        assert name is not None
        added = register(context, prepared, name, message=message, origin="extracted")
        return Extracted(report, prepared.manifest.digest, added.version)


def left_out(report: ExtractReport, *, keep_full: bool) -> str:
    """What is said of the tensors that an extracted adapter leaves out."""
    never = [name for name in report.left_out if keep_full or "." not in name]  # in no module
    how = ""
    if len(never) < len(report.left_out):
        how = "; saved with --keep-full" + (f", but for {', '.join(never[:3])}" if never else "")
    why = "PEFT has no low-rank update for such" if how else "no adapter of PEFT brings such"
    return (
        f"left out, because {why}: {count_text(len(report.left_out), 'tensor')} "
        f"({report.left_out_share:.2g} of the whole change{how}), such as {', '.join(report.left_out[:3])}"
    )


def bake_opened(
    context: Context,
    declared: Sequence[tuple[str, BaseIdentity]],
    source: OpenAdapter,
    base: Path,
    out: Path,
    *,
    dtype: str | None,
    force: bool,
    clean: bool,
    workers: int | None,
    on: str | None = None,
    sync: bool = True,
    check: Callable[[Path], None] | None = None,
) -> BakeReport:
    """Bake when the base is that of every adapter, by what is `declared` for each."""
    from adaptkit.bake.run import run
    from adaptkit.workspace.tasks.bake import shards_elsewhere

    measured = measured_base(context, base)
    found = measured.identity
    for ref, known in declared:
        verdict = same_base(context, known, found)
        fitting = names_no_base(known) and fits(
            source.adapter, source.method, base, context.home.cache
        )
        ruling = admits(verdict, known, found, "bake", fits=fitting)
        if not ruling.allowed and not force:
            raise BaseMismatch(
                f"cannot bake {ref} into {base}",
                why=ruling.reason,
                fix="; ".join(
                    [
                        *how_to_know(verdict, [(ref, known)], str(base)),
                        "give the base it was trained on, or --force",
                    ]
                ),
            )
        for text in filter(None, (ruling.reason, ruling.warning)):
            context.notify(f"{ref} and {base}: {text}")
    size = sum(file.stat().st_size for file in weight_files(base))
    with context.watch(f"baking {source.label}", size, "bytes") as progress:
        report = run(
            source,
            base,
            out,
            dtype=dtype,
            clean=clean,
            workers=workers,
            sync=sync,
            elsewhere=shards_elsewhere(context, on, source, measured, workers),
            cache=context.home.cache,
            done=progress,
            check=check,
        )
    for text in report.remarks:
        context.notify(text)
    return report
