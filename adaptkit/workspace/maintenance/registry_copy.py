"""Move a registry to another database, as JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import Refused, RegistryError
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.workspace.context.events import emit

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from adaptkit.workspace.context.context import Context

START = b'{"adaptkit-registry":'
"""Of every export."""
_LOOK = 4096  # bytes that are read first: another file may be gigabytes, or never end


def export_registry(context: Context, path: str | os.PathLike[str]) -> Path:
    """Write the whole registry to a file of JSON lines, whole or not at all; of files, only an export is replaced."""
    context.check_home()
    target = user_path(path).absolute()
    if target.is_file():
        with os_errors("read", target), target.open("rb") as file:
            start = file.read(len(START))
        if start not in {START, b""}:
            raise Refused(
                f"cannot export the registry to {target}",
                why="that file is no registry export",
                fix="choose another name, or remove the file",
            )
    data = "".join(f"{line}\n" for line in context.registry.export_lines()).encode()
    with os_errors("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(target, data)
    return target


def import_registry(context: Context, path: str | os.PathLike[str]) -> dict[str, int]:
    """Take in what `export_registry` wrote: how many rows of each kind were new.

    All of it, or nothing.
    """
    source = user_path(path)
    with os_errors("read", source), source.open("rb") as file:
        data = file.read(_LOOK)
        if data.lstrip().startswith(START):
            data += file.read()
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise RegistryError(
            f"cannot import {source}",
            why="it is no text",
            fix="adaptkit registry export FILE writes one",
        ) from error
    new = context.registry.import_lines(
        lines, author=context.config.author, source=source.name, check_name=refs.check_name
    )
    if new:
        emit(context, "imported", source.name, detail=new)
    return new
