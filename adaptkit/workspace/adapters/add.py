"""Take in a folder, a file or what is in a remote as an adapter's next version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.bases.compare import admits
from adaptkit.errors import BadReference, BaseMismatch, NotFound
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.workspace.lookup.adapters import ingest_folder
from adaptkit.workspace.lookup.artifacts import (
    find_version,
    register,
)
from adaptkit.workspace.lookup.bases import same_base
from adaptkit.workspace.remotes.pull import pull

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from adaptkit.adapters.ingest import PreparedAdapter
    from adaptkit.errors import AdaptkitError
    from adaptkit.types import Manifest, Quantisation
    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.results import Added


def add(
    context: Context,
    path: str | os.PathLike[str],
    name: str | None = None,
    *,
    base: str | None = None,
    message: str = "",
    alias: str | None = None,
    include: Sequence[str] = (),
    allow_pickle: bool = False,
    new_version: bool = False,
    force: bool = False,
    dialect: str | None = None,
    quantised: Quantisation | None = None,
) -> Added:
    """Take in an adapter folder as the next version of `name`.

    A URL or `REMOTE:NAME` is pulled, under the name it has there.

    `created` of the result is False when it already is the latest version.

    What kohya's scripts or diffusers wrote is recognised and turned into a PEFT directory;
    `dialect` says who wrote it where the file does not show it. `quantised` says how the base was
    quantised when it was loaded for training (QLoRA): its identity stays that of its files. What is
    pulled says itself what it is: only `alias`, `new_version` and `allow_pickle` mean something
    then.
    """
    how = {
        "base": base,
        "message": message,
        "include": include,
        "force": force,
        "dialect": dialect,
        "quantised": quantised,
    }
    if not _is_elsewhere(path):
        if name is None:
            raise BadReference(
                f"cannot add {path}",
                why="neither a folder nor a file says what it is called",
                fix=f"adaptkit add {path} --name NAME",
            )
        return _add_folder(
            context,
            path,
            name,
            base=base,
            message=message,
            alias=alias,
            include=include,
            force=force,
            allow_pickle=allow_pickle,
            new_version=new_version,
            dialect=dialect,
            quantised=quantised,
        )
    if unfit := next((key for key, value in how.items() if value), ""):
        raise BadReference(
            f"cannot add {path} with another {unfit.replace('_', ' ')}",
            why="what is pulled says itself what it is",
            fix=f"adaptkit add {path}",
        )
    return pull(
        context,
        str(path),
        name=name,
        alias=alias,
        new_version=new_version,
        allow_pickle=allow_pickle,
    )


def _add_folder(
    context: Context,
    path: str | os.PathLike[str],
    name: str,
    *,
    message: str,
    alias: str | None,
    new_version: bool,
    **how: Any,
) -> Added:
    refs.check_name(name)
    if alias is not None:
        refs.check_alias(alias)
    with staging(context.tmp) as work:
        prepared = ingest_folder(context, user_path(path), work=work, **how)
        return take_in(
            context,
            prepared,
            name,
            message=message,
            alias=alias,
            new_version=new_version,
            force=bool(how.get("force")),
        )


def take_in(
    context: Context,
    prepared: PreparedAdapter,
    name: str,
    *,
    message: str,
    alias: str | None,
    new_version: bool,
    force: bool,
) -> Added:
    """Register a folder that was checked as the next version of `name`."""
    _check_claim(context, prepared.manifest, force=force)
    return register(
        context,
        prepared,
        name,
        message=message,
        alias=alias,
        new_version=new_version,
        origin="added",
    )


def not_added(folder: Path, error: AdaptkitError) -> str:
    """Why one of many folders was not added, with its path."""
    what = error.summary
    return what if str(folder) in what else f"{folder}: {what}"


def _check_claim(context: Context, manifest: Manifest, *, force: bool) -> None:
    """The same bytes cannot be for two bases: refuse a claim that contradicts the one that is registered."""
    try:
        known = find_version(context, manifest.digest)
    except NotFound:
        return
    if not manifest.base.levels:
        return
    verdict = same_base(context, known.base, manifest.base)
    if admits(verdict, known.base, manifest.base, "merge").allowed:
        return
    if not force:
        raise BaseMismatch(
            f"these bytes are registered as {known.ref}, for the base {known.base.name}",
            why=f"they cannot be for {manifest.base.name} too: {verdict.reason}",
            fix="--force records the other base for them",
        )
    context.registry.attach_base(manifest.digest, manifest.base, author=context.config.author)


def _is_elsewhere(path: str | os.PathLike[str]) -> bool:
    """Whether a URL or `REMOTE:NAME` is meant, and no file of that name is there."""
    if not isinstance(path, str) or Path(path).exists():
        return False
    if "://" in path:
        return True
    try:
        return isinstance(refs.parse(path), refs.RemoteRef)
    except BadReference:
        return False
