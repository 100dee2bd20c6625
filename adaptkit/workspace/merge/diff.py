"""Compare adapters before merging them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import AdaptkitError, BaseMismatch
from adaptkit.io.staging import staging
from adaptkit.workspace.lookup.merge_sources import (
    open_sources,
)

if TYPE_CHECKING:
    from adaptkit.merge.comparing.comparison import Comparison
    from adaptkit.refs import Sources
    from adaptkit.workspace.context.context import Context


def diff(context: Context, sources: Sources, *, allow_pickle: bool = False) -> Comparison:
    """Compare adapters: norms, spectra, cosines, signs, what a rank of their sum would lose, what to try."""
    from adaptkit.bases.compatibility import check_together
    from adaptkit.merge.comparing.compare import compare
    from adaptkit.merge.comparing.comparison import NOT_AT_ALL
    from adaptkit.merge.plan import check_globs

    weighted = refs.weighted(sources)
    with ExitStack() as stack, staging(context.home.reading) as work:
        opened = open_sources(
            context, weighted, work, stack, allow_pickle=allow_pickle, weights=None
        )
        for one, (source, _) in zip(weighted, opened, strict=True):
            check_globs(source, one.modules)
        try:
            bases = [(source.label, known) for source, known in opened]
            check_together(bases, context.pairs, force=False)
            apart = None
        except BaseMismatch as error:
            apart = error
        compared, weights = [source for source, _ in opened], [one.weight for one in weighted]
        modules = sum(len(one.method.modules(one.adapter)) for one in compared)
        with context.watch("comparing", modules, "modules") as step:
            try:
                found = compare(compared, weights, done=step)
            except AdaptkitError as error:  # what cannot be compared is often for another base
                raise (apart or error) from error
        return found if apart is None else replace(found, advice=NOT_AT_ALL, reason=apart.summary)
