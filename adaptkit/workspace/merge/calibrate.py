"""Measure what goes into an adapter's modules, and keep it beside the version."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from adaptkit.adapters.adapter import Adapter
from adaptkit.bases.compatibility import check_together
from adaptkit.errors import AdaptkitError
from adaptkit.extend.attachments import identity
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.types import Event
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.moments import kept_moments
from adaptkit.workspace.lookup.artifacts import find_version, verified_tree
from adaptkit.workspace.lookup.bases import measured_base
from adaptkit.workspace.results import Calibrated

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from adaptkit.training.data.datasets import DataFile
    from adaptkit.training.data.prompts import Prompts
    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context


_VECTORS = frozenset({"linear", "conv1d"})
"""Kinds of modules that are fed one vector a token; conv1d is what transformers calls GPT-2's linear layers."""


def calibrate(
    context: Context,
    ref: str,
    base: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    rows: int = 16,
    rank: int = 64,
    seed: int = 0,
    force: bool = False,
) -> Calibrated:
    """Measure the second moments of a version's inputs on `rows` rows of its own data; they replace earlier ones.

    `base` is the folder of the base; a row without an answer gets the adapter's own. Merge strategies such as
    `regmean` use them, and push and pull take them along.
    """
    from adaptkit.training.data.prompts import read_prompts

    if rows < 1 or rank < 1:
        raise AdaptkitError(
            f"cannot calibrate {ref}",
            why=f"it takes at least one row and rank 1, not {rows} and {rank}",
            fix="--rows 16 --rank 64",
        )
    version, folder = find_version(context, ref), user_path(base)
    prompts = read_prompts(user_path(data), rows, seed)
    measured = measured_base(context, folder).identity
    facts = check_together(
        [(version.ref, version.base), (str(base), measured)], context.pairs, force=force
    )
    for text in (*facts.get("forced", ()), *facts.get("warnings", ())):
        context.notify(text)
    return _measured(context, version, folder, prompts, rank, context.notify)


def calibrate_trained(
    context: Context, version: Version, base: Path, files: Sequence[DataFile], seed: int
) -> Calibrated | None:
    """The same for a version that was just trained, on rows of its files; None, with a note, where it cannot be done.

    What was measured before is kept: the version was there already.
    """
    from adaptkit.training.data.prompts import sample_rows

    if kept_moments(context).of(version.digest):
        return None
    try:
        sample = sample_rows(files, 16, seed)
        return _measured(context, version, base, sample, 64, lambda _: None)  # said before training
    except (AdaptkitError, RuntimeError, ValueError) as error:  # the version is whole without them
        why = error.summary if isinstance(error, AdaptkitError) else str(error).partition("\n")[0]
        context.notify(f"{version.ref} has no moments: {why}")
        return None


def _measured(
    context: Context,
    version: Version,
    folder: Path,
    prompts: Prompts,
    rank: int,
    notify: Callable[[str], None],
) -> Calibrated:
    from adaptkit.merge.moments import About, write
    from adaptkit.training.calibrate import BATCH, measure
    from adaptkit.training.live import LiveModel
    from adaptkit.workspace.merge.parents import left_out

    tree = verified_tree(context, version.digest)
    with ExitStack() as stack:
        adapter = stack.enter_context(Adapter.open(tree, version.ref))
        method = context.plugins.method_for(adapter)
        found = method.modules(adapter)
        sizes = {one.name: one.shape[1] for one in found if one.kind in _VECTORS}
        others = {one.name for one in found} - sizes.keys()
    if not sizes:
        raise AdaptkitError(
            f"cannot calibrate {version.ref}",
            why=f"none of the modules of this {method.name} adapter is fed one vector a token",
            fix="merge it with a strategy that needs no moments, such as --strategy linear",
        )
    with (
        staging(context.tmp) as work,
        context.watch(f"calibrating {version.ref}", len(prompts.rows), "rows") as progress,
    ):
        live = LiveModel(folder, {"adapter": tree})
        tokens, without = live.ready("adapter", prompts.rows, BATCH)
        if without:
            notify(left_out(version.ref, without, live.longest))
        if not tokens:
            raise AdaptkitError(
                f"cannot calibrate {version.ref}",
                why="none of its prompts can be answered",
                fix="give shorter prompts: adaptkit calibrate REF --base DIR --data FILE",
            )
        seen = measure(live, "adapter", tokens, sizes, rank=rank, progress=progress)
        about = About(
            version.digest,
            len(tokens),
            seen.tokens,
            prompts.digest,
            seen.modules,
            tuple(sorted({*seen.unmeasured, *others})),
        )
        files = write(about, seen.moments, work)
    kept = kept_moments(context)
    kept.keep(version.digest, files)
    kept.drop(version.digest, but=identity(files))
    detail = {"rows": about.rows, "tokens": about.tokens}
    context.registry.record(
        Event("calibrated", version.ref, version.digest, detail, author=context.config.author)
    )
    emit(context, "calibrated", version.ref, version.digest, detail)
    return Calibrated(
        version.ref,
        version.digest,
        about.rows,
        about.tokens,
        len(about.modules),
        len(seen.moments),
        sum(map(len, files.values())),
        about.unmeasured,
    )
