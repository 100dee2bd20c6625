"""An adapter as the one file that another tool reads, and which tool that is."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.formats import Foreign, foreign_file, to_dialect
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import AdaptkitError, Refused
from adaptkit.io.files import fsync_directory, os_errors
from adaptkit.workspace.lookup.artifacts import find_version, manifest_of
from adaptkit.workspace.lookup.bases import folder_here

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from adaptkit.types import BaseIdentity
    from adaptkit.workspace.context.context import Context

SUFFIX = ".safetensors"


def file_target(out: Path) -> Path:
    """The absolute path of a file that is to be written, which must be missing."""
    out = out.expanduser().absolute()
    if out.exists():
        raise Refused(f"{out} exists", why="the result is one file", fix="choose another name")
    return out


def write_file(
    context: Context,
    folder: Path,
    target: Path,
    dialect: str,
    work: Path,
    metadata: Any = None,
    label: str = "",
    base: BaseIdentity | None = None,
) -> Path:
    """Write a PEFT directory as one file for a tool, in one step; nothing is left where it cannot be read again."""
    with Adapter.open(folder, label) as adapter, base_here(context, adapter, base):
        method = context.plugins.method_for(adapter)
        file = to_dialect(adapter, method, dialect, work, metadata)
    with os_errors("write", target):
        file.rename(target)
    fsync_directory(target.parent)
    return target


@contextmanager
def base_here(context: Context, adapter: Adapter, base: BaseIdentity | None) -> Iterator[None]:
    """Give an adapter its base where that is on this machine: names alone do not always say which model it is for."""
    with ExitStack() as stack:
        if base is not None:
            with suppress(AdaptkitError, OSError):
                if (folder := folder_here(context, base)) is not None:
                    weights = BaseWeights.open(folder, context.home.cache)
                    adapter.attach_base(stack.enter_context(weights))
        yield


def dialect_for(context: Context, sources: Sequence[refs.Ref]) -> str:
    """What a merge into one file is written in where nobody says: what all that have a dialect share, else diffusers'."""
    found = {dialect for ref in sources if (dialect := _dialect_of(context, ref))}
    return found.pop() if len(found) == 1 else "diffusers"


def _dialect_of(context: Context, ref: refs.Ref) -> str:
    if isinstance(ref, refs.PathRef):
        file = foreign_file(ref.path)
        if file is None:
            return ""
        view = Foreign(file)
        try:
            names = (method.dialect_of(view) for method in context.plugins.methods())
            return next(filter(None, names), "")
        finally:
            view.close()
    if isinstance(ref, (refs.NameRef, refs.DigestRef)):
        origin = manifest_of(context, find_version(context, ref)).facts.get("converted_from")
        return str((origin or {}).get("dialect", ""))
    return ""
