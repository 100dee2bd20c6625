"""One adapter in another form: at another rank, or as LoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import BadRecipe
from adaptkit.workspace.merge.merge import merge

if TYPE_CHECKING:
    import os

    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.results import Merged


def resize(
    context: Context,
    ref: str,
    *,
    rank: int | None = None,
    energy: float | None = None,
    keep: str = "fro",
    name: str | None = None,
    out: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    message: str = "",
    alias: str | None = None,
    force: bool = False,
    new_version: bool = False,
    allow_pickle: bool = False,
) -> Merged:
    """Approximate one adapter, optimally, by a rank or by a share of its energy."""
    if rank is None and energy is None:
        raise BadRecipe(
            f"cannot resize {ref}",
            why="neither a rank nor a share is given",
            fix="--rank 8, or --energy 0.95",
        )
    return merge(
        context,
        [ref],
        rank=rank,
        energy=energy,
        keep=keep,
        name=name,
        out=out,
        base=base,
        dtype=dtype,
        message=message,
        alias=alias,
        force=force,
        new_version=new_version,
        allow_pickle=allow_pickle,
        into_lora=True,
    )


def convert(
    context: Context,
    ref: str,
    *,
    rank: int | None = None,
    energy: float | None = None,
    name: str | None = None,
    out: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    message: str = "",
    alias: str | None = None,
    force: bool = False,
    new_version: bool = False,
    allow_pickle: bool = False,
) -> Merged:
    """Write one adapter of any additive method as LoRA; the loss of a rank is reported."""
    return merge(
        context,
        [ref],
        rank=rank,
        energy=energy,
        name=name,
        out=out,
        base=base,
        dtype=dtype,
        message=message,
        alias=alias,
        force=force,
        new_version=new_version,
        allow_pickle=allow_pickle,
        into_lora=True,
    )
