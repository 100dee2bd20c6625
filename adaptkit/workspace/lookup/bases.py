"""Bases by what a person types.

A folder is measured, a name or a level is looked up among those known.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.bases.compare import compare
from adaptkit.bases.compatibility import best_known
from adaptkit.bases.files.checkpoint import read_layout, weight_files
from adaptkit.bases.files.hub_cache import claimed_by_cache
from adaptkit.bases.folders import folder_of, remember_folder
from adaptkit.bases.identity import base_shapes, claimed, measure, tensor_hashes
from adaptkit.bases.known import Base, declared_base
from adaptkit.errors import BadBase, BadReference, Conflict, NotFound, StoreError
from adaptkit.extend.artifact_files import LARGEST_MANIFEST, MANIFEST
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.types import BaseIdentity, Level, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.adapters.adapter import Adapter
    from adaptkit.types import Verdict
    from adaptkit.workspace.context.context import Context


def find_base(context: Context, ref: str, *, claim: bool = False) -> Base:
    """A base by path, URL, name or level (`tm1:…`).

    With its tensors' shapes when it is a folder or at a URL.

    A folder is measured; what a remote says of the files at a URL is only claimed. With `claim`, a
    snapshot in the Hub cache is believed: its blobs are named by their sha256.
    """
    folder = user_path(ref)
    if folder.is_dir():
        identity = claimed_by_cache(folder) if claim else None
        if identity is not None:
            return Base(identity, _shapes(folder), folder, context.home.cache, _remarks(folder))
        return measured_base(context, folder)
    if "://" in ref:
        return _remote_base(context, ref)
    if "/" in ref and ref.startswith((".", "/", "~")):
        raise BadBase(
            f"no base folder at {ref}",
            why="the path is a file" if folder.exists() else "the path does not exist",
            fix="check the path for a typo",
        )
    names = context.registry.base_names()
    if (given := names.get(ref)) is not None:
        return Base(_enriched(context, given))
    known = [base for base, _ in context.registry.bases()]
    found = [b for b in known if ref == b.name or any(map(_level_named(ref), b.levels))]
    if not found:
        raise NotFound(
            "base",
            ref,
            {*names, *(b.name for b in known if b.name)},
            fix=f"there is no folder {ref} here either: check the path for a typo"
            if "/" in ref
            else "give the model's folder: --base DIR",
        )
    return Base(_enriched(context, replace(best_known(found), checked=False)))


def _level_named(ref: str) -> Callable[[Level], bool]:
    """Whether a level is the one that a text names: whole, or by its beginning as tables show it."""
    begun = ref.removesuffix("…")
    if not re.fullmatch(r"(as1|fs1|tm1):[0-9a-f]{8,}", begun):
        return lambda _level: False
    return lambda level: level.value.startswith(begun)


def measured_base(context: Context, folder: Path) -> Base:
    """The base in a folder, every level of its identity hashed or remembered."""
    size = sum(file.stat().st_size for file in weight_files(folder))
    with context.watch(f"hashing {folder.name}", size, "bytes") as progress:
        identity = measure(folder, cache=context.home.cache, progress=progress)
    remember_folder(identity, folder, context.home.cache)
    return Base(identity, _shapes(folder), folder, context.home.cache, _remarks(folder))


def folder_here(context: Context, base: BaseIdentity) -> Path | None:
    """Where on this machine the base is: its folder, measured again; None where it was never seen or has changed."""
    return folder_of(
        base, context.home.cache, lambda folder: measured_base(context, folder).identity
    )


def same_base(context: Context, one: BaseIdentity, other: BaseIdentity) -> Verdict:
    """Whether two bases are one, by everything that was ever measured here."""
    return compare(one, other, context.pairs)


def base_of(context: Context, adapter: Adapter, given: str | None) -> Base:
    """The base at hand for an adapter.

    The one given, else the local path it names, else its name alone.
    """
    declared, local = declared_base(adapter.config, adapter.path)
    hub_name = declared if local is None else None
    if given is None and local is not None and local.is_dir():
        given = str(local)
    if given is None:
        name = hub_name or (Path(declared).name if declared else None)
        return Base(_claimed_beside(adapter, name) or BaseIdentity(name))
    base = find_base(context, given)
    for remark in base.remarks:
        context.notify(f"{given}: {remark}")
    return replace(base, identity=replace(base.identity, name=hub_name or base.identity.name))


def compare_base_refs(context: Context, one: str, other: str) -> Verdict:
    """Whether two bases are one, and why; with both folders at hand, which tensors differ."""
    first, second = find_base(context, one).identity, find_base(context, other).identity
    folders = [user_path(ref) for ref in (one, other)]
    if not all(folder.is_dir() for folder in folders):
        return same_base(context, first, second)
    hashes = [tensor_hashes(folder, context.home.cache) for folder in folders]
    verdict = compare(first, second, context.pairs, (hashes[0], hashes[1]))
    added = _added_rows(base_shapes(folders[0]), base_shapes(folders[1]), verdict.tensors)
    return replace(verdict, reason=f"{verdict.reason}; {added}") if added else verdict


def learn(context: Context, base: BaseIdentity, author: str = "") -> None:
    """Remember which tensors were measured in which files.

    A contradiction is reported and changes nothing.
    """
    files, tensors = base.level("fs1"), base.level("tm1")
    if files is None or tensors is None or not (files.measured and tensors.measured):
        return
    try:
        context.registry.record_pair(
            files.value, tensors.value, author=author or context.config.author
        )
    except Conflict as error:
        context.notify(error.summary)
    context.__dict__.pop("pairs", None)  # read again when next needed


def _enriched(context: Context, base: BaseIdentity) -> BaseIdentity:
    """With the `tm1` that was measured for these very files."""
    files = base.level("fs1")
    if files is None or base.level("tm1") is not None or files.value not in context.pairs:
        return base
    tensors = Level(context.pairs[files.value], files.measured)
    return replace(base, levels=(*base.levels, tensors))


def _remote_base(context: Context, ref: str) -> Base:
    place, selector = context.places.to_pull(ref)
    if selector is not None and selector.kind != "rev":
        raise BadReference(
            f"cannot look at the base '{ref}'",
            why="a base model has revisions, not versions",
            fix=f"{place.url}@rev:main",
        )
    revision = selector.value if selector else ""
    if (copy := place.copy_here(revision)) is not None:
        cached = claimed_by_cache(copy)
        if cached is not None:
            known = _enriched(context, cached)
            return Base(known, _shapes(copy), copy, context.home.cache, _remarks(copy))
    with staging(context.home.cache) as folder, context.watch(f"looking at {place.url}", None):
        shas = place.outline(revision, folder)
        try:
            found = claimed(folder, shas, place.url.partition("://")[2])
            return Base(_enriched(context, found), _shapes(folder), remarks=_remarks(folder))
        except (BadBase, StoreError) as error:
            renamed = error.about(str(folder), place.url)
            raise BadBase(renamed.what, why=renamed.why, fix=renamed.fix) from error


def _shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Every tensor's shape; None for pickles, whose tensors are unknown without running them."""
    if any(file.suffix != ".safetensors" for file in weight_files(folder)):
        return None
    return base_shapes(folder)


def _remarks(folder: Path) -> tuple[str, ...]:
    """Which variant of the weights counts, where the folder has several or another one than the plain."""
    return tuple(read_layout(folder).remarks())


def _added_rows(
    one: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]], differ: Sequence[str]
) -> str:
    """When all that differs are the rows of embeddings: so many were added, as for new tokens."""
    pairs = [(one.get(name), other.get(name)) for name in differ]
    if not pairs or not all(
        a and b and len(a) == len(b) == 2 and a[1] == b[1] and a[0] != b[0] for a, b in pairs
    ):
        return ""
    a, b = pairs[0]
    assert a is not None
    assert b is not None
    return f"all that differs are embeddings of {a[0]} and {b[0]} rows: tokens were added to one of them"


def _claimed_beside(adapter: Adapter, name: str | None) -> BaseIdentity | None:
    """What the `adaptkit.json` of an exported folder says of its base: claims, as far as nothing contradicts them."""
    said = _manifest_beside(adapter.path)
    if said is None or name not in {None, said.base.name}:
        return None
    levels = tuple(replace(level, measured=False) for level in said.base.levels)
    return replace(said.base, levels=levels, checked=False)


def _manifest_beside(folder: Path) -> Manifest | None:
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        file = folder / MANIFEST
        if file.stat().st_size <= LARGEST_MANIFEST:
            return Manifest.from_json(json.loads(file.read_bytes()))
    return None
