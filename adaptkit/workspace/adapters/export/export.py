"""Copy a version into a folder or one file of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.adapters.adapter import Adapter, read_config
from adaptkit.adapters.formats import to_dialect
from adaptkit.adapters.members import as_file, with_paths
from adaptkit.errors import BadRecipe
from adaptkit.extend.artifact_files import CONFIG, MANIFEST
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.staging import empty_target, pretty_json, rename_into, staging
from adaptkit.workspace.adapters.export.one_file import (
    SUFFIX,
    base_here,
    dialect_for,
    file_target,
    write_file,
)
from adaptkit.workspace.lookup.artifacts import (
    find_version,
    manifest_of,
    verified_tree,
)

if TYPE_CHECKING:
    import os

    from adaptkit.workspace.context.context import Context


_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def export(
    context: Context, ref: str, out: str | os.PathLike[str], *, dialect: str | None = None
) -> Path:
    """Copy a version into a folder of its own, with its README and `adaptkit.json`.

    In a `dialect`, its one file; where `out` ends in `.safetensors`, in that of the tool that wrote it if nobody says.
    """
    if Path(out).suffix in _PICKLES:
        raise BadRecipe(
            f"cannot write {out}",
            why=f"what is written is a folder, or for another tool a file NAME{SUFFIX}",
            fix=f"for example {Path(out).with_suffix(SUFFIX)}",
        )
    version = find_version(context, ref)
    one_file = Path(out).suffix == SUFFIX
    if one_file and dialect is None:
        dialect = dialect_for(context, [refs.parse(version.ref)])
    target = (file_target if one_file else empty_target)(Path(out))
    tree, manifest = verified_tree(context, version.digest), manifest_of(context, version)
    with staging(target.parent) as work:
        folder = work / "copy"
        if dialect is not None:
            origin = manifest.facts.get("converted_from") or {}
            folder.mkdir()
            if one_file:
                metadata = origin.get("metadata")
                return write_file(
                    context, tree, target, dialect, folder, metadata, label=ref, base=version.base
                )
            with Adapter.open(tree, ref) as adapter, base_here(context, adapter, version.base):
                method = context.plugins.method_for(adapter)
                file = to_dialect(adapter, method, dialect, folder, origin.get("metadata"))
            rename_into(folder, target)
            return target / file.name
        with os_errors("write", folder):
            shutil.copytree(tree, folder, copy_function=shutil.copyfile)
        atomic_write(folder / MANIFEST, pretty_json(manifest.to_json()))
        config = read_config(folder, ref)
        if (placed := with_paths(config, folder, target)) != config:
            atomic_write(folder / CONFIG, as_file(placed))
        rename_into(folder, target)
    return target
