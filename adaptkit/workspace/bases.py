"""Looking at base models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import BaseMismatch
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.types import BaseIdentity, Sameness
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.lookup.artifacts import find_version, verified_tree
from adaptkit.workspace.lookup.bases import find_base, learn, measured_base, same_base

if TYPE_CHECKING:
    import os

    from adaptkit.bases.check import BaseReport
    from adaptkit.workspace.context.context import Context
    from adaptkit_registry import Pair


def list_bases(context: Context) -> tuple[tuple[BaseIdentity, int], ...]:
    """Every base known, with the number of versions made for it."""
    context.check_home()
    return tuple(context.registry.bases())


def base_names(context: Context) -> dict[str, BaseIdentity]:
    """What people call bases here."""
    context.check_home()
    return context.registry.base_names()


def add_base(
    context: Context,
    ref: str,
    *,
    name: str | None = None,
    derived_from: str | None = None,
    claim: bool = False,
    move: bool = False,
) -> tuple[str, BaseIdentity]:
    """Name a base (by its own name if none is given), whether or not an adapter uses it."""
    found = find_base(context, ref, claim=claim).identity
    if derived_from is not None:
        origin = find_base(context, derived_from).identity
        best = origin.level("tm1") or origin.level("fs1")
        found = replace(found, derived_from=best.value if best else origin.name)
    called = refs.check_name(name or (found.name or "").rpartition("/")[2].casefold())
    learn(context, found)
    context.registry.name_base(called, found, author=context.config.author, move=move)
    return called, found


def alias_base(context: Context, name: str, ref: str | None, *, move: bool = False) -> None:
    """Call a base by a further name, or (None) by this one no more."""
    if ref is None:
        context.registry.forget_base_name(name, author=context.config.author)
    else:
        context.registry.name_base(
            refs.check_name(name),
            find_base(context, ref).identity,
            author=context.config.author,
            move=move,
        )


def check_base(context: Context, folder: str | os.PathLike[str]) -> BaseReport:
    """What the class of a base says of it: layers, ties, embedding and head, and whether adapters can be baked in."""
    from adaptkit.bases.check import check_base as look

    return look(user_path(folder), context.home.cache)


def measured_by(context: Context, base: BaseIdentity) -> Pair | None:
    """Who measured the tensors in this base's files, and when."""
    files = base.level("fs1")
    return context.registry.pairs().get(files.value) if files else None


def verify_base(context: Context, ref: str, base: str, *, force: bool = False) -> BaseIdentity:
    """Measure what was only claimed.

    The base of a version (and that the version fits it), or a base by its name.
    """
    found = measured_base(context, user_path(base))
    known = context.registry.base_names().get(ref)
    version = None if known is not None else find_version(context, ref)
    declared = known if version is None else version.base
    assert declared is not None
    verdict = same_base(context, declared, found.identity)
    if verdict.sameness is Sameness.DIFFERENT and not force:
        raise BaseMismatch(
            f"{ref} is another base than {base}"
            if version is None
            else f"{version.ref} is for another base than {base}",
            why=verdict.reason,
        )
    measured = replace(
        found.identity,
        name=declared.name or found.identity.name,
        quantised=declared.quantised or found.identity.quantised,
        derived_from=declared.derived_from or found.identity.derived_from,
    )
    learn(context, found.identity)
    if version is None:
        context.registry.name_base(ref, measured, author=context.config.author, move=True)
        return measured
    from adaptkit.workspace.lookup.adapters import ingest_result  # loads numpy

    with staging(context.tmp) as work:
        tree = verified_tree(context, version.digest)
        prepared = ingest_result(context, tree, found, work, force=force)
        measured = replace(measured, checked=prepared.manifest.base.checked)
    context.registry.attach_base(version.digest, measured, author=context.config.author)
    emit(context, "base-added", version.ref, version.digest)
    return measured
