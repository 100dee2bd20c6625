"""Take parts out of an adapter."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.bases.known import Base
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BadRecipe
from adaptkit.extend.artifact_files import MANIFEST
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import empty_target, pretty_json, rename_into, staging
from adaptkit.types import Parent
from adaptkit.workspace.lookup.adapters import ingest_result, open_for_merge
from adaptkit.workspace.lookup.artifacts import check_destination, register
from adaptkit.workspace.results import Stripped

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from adaptkit.workspace.context.context import Context


def strip(
    context: Context,
    ref: str,
    *,
    heads: bool = False,
    embeddings: bool = False,
    modules: Sequence[str] = (),
    base: str | os.PathLike[str] | None = None,
    name: str | None = None,
    out: str | os.PathLike[str] | None = None,
    message: str = "",
) -> Stripped:
    """One adapter without its heads, its embeddings or modules by glob, for engines that load none of these.

    With `base`, a folder, the model's class says what is an embedding.
    """
    from adaptkit.adapters.strip import strip as strip_adapter

    check_destination(name, out, message=message)
    if not (heads or embeddings or modules):
        raise BadRecipe(
            f"cannot strip {ref}",
            why="no part is named",
            fix="--heads, --embeddings or --modules GLOB",
        )
    target = None if out is None else empty_target(Path(out))
    with ExitStack() as stack, staging(context.tmp if target is None else target.parent) as work:
        source, declared = open_for_merge(context, refs.parse(ref), work, stack)
        architecture = None
        if base is not None:
            weights = stack.enter_context(BaseWeights.open(user_path(base), context.home.cache))
            architecture = weights.architecture()
        folder = work / "stripped"
        with os_errors("write", folder):
            folder.mkdir()
        left = strip_adapter(
            source.adapter,
            source.method,
            folder,
            heads=heads,
            embeddings=embeddings,
            modules=modules,
            architecture=architecture,
        )
        prepared = ingest_result(context, folder, Base(declared), work)
        manifest = replace(
            prepared.manifest,
            parents=(Parent(source.digest, 1.0, "stripped", source.label),),
            facts={"stripped": left},
        )
        prepared = replace(prepared, manifest=manifest)
        if target is not None:
            atomic_write(folder / MANIFEST, pretty_json(manifest.to_json()))
            rename_into(folder, target)
            return Stripped(tuple(left), manifest.digest, out=target)
        assert name is not None
        added = register(context, prepared, name, message=message, origin="merged")
        return Stripped(tuple(left), manifest.digest, added.version)
