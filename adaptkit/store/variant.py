"""A checked-out artifact in which files have other content: what they say of this machine, such as where its base is."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from adaptkit.errors import StoreError
from adaptkit.io.files import links_unknown, os_errors, sha256_file
from adaptkit.types import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def variant(tree: Path, changed: Mapping[str, str]) -> Path:
    """A folder beside `tree` with its files as hard links, less those that are `changed`.

    It is made once, checked each time, and goes with the tree in `gc`.
    """
    key = digest_of(dict(changed)).removeprefix("sha256:")[:16]
    folder = tree.with_name(f"{tree.name}.{key}")
    if _holds(folder, tree, changed):
        return folder
    temp = tree.with_name(f".tree.{secrets.token_hex(8)}")
    try:
        with os_errors("build", folder):
            for name in sorted(_files(tree) - changed.keys()):
                _link(tree / name, temp / name)
            for name, text in changed.items():
                (temp / name).parent.mkdir(parents=True, exist_ok=True)
                (temp / name).write_text(text, "utf-8")
            if folder.exists():
                folder.rename(tree.with_name(f".old.{secrets.token_hex(8)}"))
            temp.rename(folder)
    except StoreError:
        if not _holds(folder, tree, changed):  # unless another process was first
            raise
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return folder


def _holds(folder: Path, tree: Path, changed: Mapping[str, str]) -> bool:
    with suppress(OSError, UnicodeDecodeError):
        names = _files(tree) | changed.keys()
        return _files(folder) == names and all(
            (folder / name).read_text("utf-8") == changed[name]
            if name in changed
            else _same(folder / name, tree / name)
            for name in names
        )
    return False


def _same(file: Path, original: Path) -> bool:
    if file.is_symlink():
        return False
    return file.samefile(original) or sha256_file(file) == sha256_file(original)


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if not links_unknown(error):
            raise
        shutil.copy(source, target)
