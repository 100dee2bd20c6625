"""Open an adapter from a registered version, a folder or a URL; describe its artifact."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.formats import foreign_file, from_dialect
from adaptkit.adapters.ingest import fits, prepare
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.adapters.reload import check_reload
from adaptkit.bases.known import declared_base
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BadAdapter, BaseMismatch
from adaptkit.io.progress.progress import no_progress
from adaptkit.remotes import transfer
from adaptkit.types import Sameness
from adaptkit.workspace.context.moments import receive_moments
from adaptkit.workspace.context.signatures import admit
from adaptkit.workspace.lookup.artifacts import find_version, verified_tree
from adaptkit.workspace.lookup.bases import (
    base_of,
    find_base,
    folder_here,
    measured_base,
    same_base,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.adapters.ingest import PreparedAdapter
    from adaptkit.bases.known import Base
    from adaptkit.extend import StorageBackend
    from adaptkit.io.progress.progress import Progress
    from adaptkit.types import BaseIdentity, Facts, PlacedVersion, Quantisation
    from adaptkit.workspace.context.context import Context


def ingest_folder(
    context: Context,
    folder: Path,
    base: str | None,
    work: Path,
    *,
    label: str = "",
    allow_pickle: bool = False,
    dialect: str | None = None,
    quantised: Quantisation | None = None,
    **how: Any,
) -> PreparedAdapter:
    """A folder as the artifact it becomes.

    A file of another tool as the PEFT directory it is converted to.

    Errors call it by its label.
    """
    shapes = None if base is None else find_base(context, base).shapes
    readable, facts = _in_peft(context, folder, work, dialect, shapes)
    with Adapter.open(readable, label or str(folder), allow_pickle=allow_pickle) as adapter:
        known = base_of(context, adapter, base)
        if quantised is not None:
            known = replace(known, identity=replace(known.identity, quantised=quantised))
        prepared = _prepare(context, adapter, known, work, **how)
        if not how.get("force"):
            check_named_base(context, adapter, base, known)
    recorded: Facts = {**prepared.manifest.facts, **facts}
    manifest = replace(prepared.manifest, facts=recorded)
    return replace(prepared, manifest=manifest)


def check_named_base(context: Context, adapter: Adapter, given: str | None, known: Base) -> None:
    """Refuse a base that is not the one in the folder that the adapter's own configuration names."""
    named, folder = declared_base(adapter.config, adapter.path)
    if given is None or folder is None or folder == known.folder or not folder.is_dir():
        return
    verdict = same_base(context, measured_base(context, folder).identity, known.identity)
    if verdict.sameness is Sameness.DIFFERENT:
        raise BaseMismatch(
            f"{adapter.label} is not for the base {given}",
            why=f"its configuration names {named}, and {verdict.reason}",
            fix="leave out --base, or --force to record it all the same",
        )


def ingest_result(
    context: Context, folder: Path, base: Base, work: Path, **how: Any
) -> PreparedAdapter:
    """A folder that was written here and whose base is known, opened again as PEFT will open it."""
    with ExitStack() as stack:
        adapter = stack.enter_context(Adapter.open(folder, "the result"))
        architecture, model_type = None, ""
        if base.folder is not None:
            weights = stack.enter_context(BaseWeights.open(base.folder, base.cache))
            architecture = weights.architecture()
            model_type = str(weights.layout.config.get("model_type", ""))
            if architecture.known:
                adapter.attach_base(weights)
        prepared = _prepare(context, adapter, base, work, **how)
        here = folder_here(context, base.identity) if base.folder is None else None
        if here is not None:
            found = prepared.manifest.base
            checked = fits(adapter, prepared.method, here, context.home.cache)
            manifest = replace(prepared.manifest, base=replace(found, checked=checked))
            prepared = replace(prepared, manifest=manifest)
        check_reload(adapter, prepared.method, architecture, model_type)
        return prepared


def ingest_pulled(
    context: Context,
    place: StorageBackend,
    placed: PlacedVersion,
    work: Path,
    *,
    allow_pickle: bool = False,
    progress: Progress = no_progress,
) -> PreparedAdapter:
    """Fetch an adapter that adaptkit did not make and read it as a folder.

    Its origin is recorded.
    """
    folder = Path(mkdtemp(dir=work))
    transfer.download(place, placed, context.store, folder, progress)
    try:
        prepared = ingest_folder(
            context, folder, None, work, label=place.url, allow_pickle=allow_pickle
        )
    except BadAdapter as error:
        raise error.about(str(folder), place.url) from error
    facts: Facts = {**placed.manifest.facts, **prepared.manifest.facts}
    return replace(prepared, manifest=replace(prepared.manifest, facts=facts))


def open_for_merge(
    context: Context,
    ref: refs.Ref,
    work: Path,
    stack: ExitStack,
    *,
    allow_pickle: bool = False,
    weights: BaseWeights | None = None,
) -> tuple[OpenAdapter, BaseIdentity]:
    """One adapter of a merge.

    A registered version, a folder, or a place (fetched, then pinned by digest).

    `weights` are those of the base, for methods whose update needs them.
    """
    label = str(ref)
    if isinstance(ref, refs.PathRef):
        inner = Path(mkdtemp(dir=work))
        readable, _ = _in_peft(context, ref.path, inner, None, weights.shapes if weights else None)
        adapter = stack.enter_context(Adapter.open(readable, label, allow_pickle=allow_pickle))
        prepared = _prepare(context, adapter, base_of(context, adapter, None), inner)
        if weights:
            adapter.attach_base(weights)
        manifest = prepared.manifest
        return OpenAdapter(adapter, prepared.method, manifest.digest, weights), manifest.base
    if isinstance(ref, (refs.UrlRef, refs.RemoteRef)):
        digest, base = _fetched(context, ref, work, allow_pickle=allow_pickle)
    else:
        version = find_version(context, ref)
        digest, base = version.digest, version.base
    adapter = stack.enter_context(Adapter.open(verified_tree(context, digest), label))
    if weights:
        adapter.attach_base(weights)
    method = context.plugins.method_for(adapter)
    method.check(adapter)
    return OpenAdapter(adapter, method, digest, weights), base


def _fetched(
    context: Context, ref: refs.UrlRef | refs.RemoteRef, work: Path, *, allow_pickle: bool
) -> tuple[str, BaseIdentity]:
    place, selector = context.places.to_pull(ref)
    placed = transfer.choose(place, selector)
    admit(context, place, placed, ref.name if isinstance(ref, refs.RemoteRef) else None)
    if placed.described:
        manifest = transfer.fetch(place, placed, context.store)
        receive_moments(context, place, placed.number, manifest.digest)
    else:
        prepared = ingest_pulled(context, place, placed, work, allow_pickle=allow_pickle)
        manifest = context.store.add(prepared.manifest, prepared.sources)
    return manifest.digest, manifest.base


def _in_peft(
    context: Context,
    path: Path,
    work: Path,
    dialect: str | None,
    shapes: Mapping[str, tuple[int, ...]] | None,
) -> tuple[Path, Facts]:
    """The PEFT directory that a path is, or is turned into; with the facts to record of that."""
    if dialect is None and foreign_file(path) is None:
        return path, {}
    out = Path(mkdtemp(dir=work))
    try:
        facts = from_dialect(
            path, context.plugins.methods(), out, dialect=dialect, base_shapes=shapes
        )
    except BadAdapter:
        if dialect is None and path.is_dir():
            return path, {}  # what is wrong with it is reported where it is opened
        raise
    for text in facts["converted_from"].get("notes", ()):
        context.notify(f"{path}: {text}")
    return out, facts


def _prepare(
    context: Context, adapter: Adapter, base: Base, work: Path, *, method: str = "", **how: Any
) -> PreparedAdapter:
    adapter.base_shapes = base.shapes
    reader = context.plugins.method(method) if method else context.plugins.method_for(adapter)
    prepared = prepare(adapter, reader, base, created=context.now(), staging=work, **how)
    for text in prepared.warnings:
        context.notify(f"{adapter.label}: {text}")
    return prepared
