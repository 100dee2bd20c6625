"""Lay a version out as another engine wants it."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.errors import Refused
from adaptkit.extend.artifact_files import MANIFEST
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import empty_target, pretty_json, rename_into, staging
from adaptkit.serving.engines import rewrite
from adaptkit.serving.engines.layouts import (
    REWRITE,
    Exported,
    layout_of,
    modelfile,
    served_name,
)
from adaptkit.serving.engines.rules import rules_of
from adaptkit.serving.preflight import preflight
from adaptkit.workspace.adapters.export.one_file import file_target
from adaptkit.workspace.lookup.artifacts import find_version, manifest_of, verified_tree
from adaptkit.workspace.lookup.bases import folder_here

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from adaptkit.serving.engines.layouts import Layout
    from adaptkit.serving.preflight import Finding
    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context

GGUF = ".gguf"
_SCALES = frozenset({"use_rslora", "alpha_pattern"})
"""What other converters ignore and ours multiplies into the weights."""


@dataclass(frozen=True, slots=True)
class Laid:
    """What was written for an engine, and what is typed there to load it."""

    out: Path
    engine: str
    names: tuple[str, ...]
    load: str
    source: str

    def to_json(self) -> dict[str, Any]:
        return {
            "out": str(self.out),
            "for": self.engine,
            "names": list(self.names),
            "load": self.load,
            "source": self.source,
        }


def export_for(
    context: Context,
    ref: str,
    out: str | os.PathLike[str],
    engine: str,
    *,
    base: str | os.PathLike[str] | None = None,
    canary: Sequence[str] = (),
    pool: str | None = None,
) -> Laid:
    """Write a version as `engine` wants it into the new folder (for gguf, file) `out`.

    What the engine would ignore or refuse is refused, with what to do instead. `base` is the base's folder, or for
    ollama its name there. `canary` (`REF=PERCENT`) and `pool` are for llm-d: versions that get a share of an alias.
    """
    layout = layout_of(engine)
    if (canary or pool) and engine != "llm-d":
        raise Refused(
            f"cannot write a canary for {engine}",
            why="its routes are not files that adaptkit writes",
            fix="--for llm-d",
        )
    if engine == "llm-d":
        return _llm_d(context, ref, out, layout, list(canary), pool)
    version = find_version(context, ref)
    _check(context, version, layout)
    name = served_name(version)
    if engine == "gguf":
        return _gguf(context, version, Path(out), layout, base)
    target = empty_target(Path(out))
    with staging(target.parent) as work:
        root = work / "root"
        root.mkdir()
        flat = engine == "ollama"
        _copy(context, version, root if flat else root / name)
        if flat:
            atomic_write(
                root / "Modelfile", modelfile(_ollama_base(context, version, base)).encode()
            )
        rename_into(root, target)
    made = Exported(name, target if flat else target / name, version.rank, version.base.name or "")
    return Laid(target, engine, (name,), layout.load(made), layout.source)


def _llm_d(
    context: Context,
    ref: str,
    out: str | os.PathLike[str],
    layout: Layout,
    canary: list[str],
    pool: str | None,
) -> Laid:
    """The versions of an alias and its canaries, and the resource that draws among them."""
    if pool is None:
        raise Refused(
            f"cannot write a rewrite of {ref}",
            why="it belongs to an InferencePool, and none is named",
            fix="--pool NAME, as kubectl get inferencepool shows it",
        )
    split = [refs.split_weight(text) for text in canary]
    parts = rewrite.shares(split)
    versions = [find_version(context, one) for one in (ref, *(name for name, _ in split))]
    if len({version.digest for version in versions}) < len(versions):
        raise Refused(
            f"cannot write a rewrite of {ref}",
            why="the alias and a canary are the same version",
            fix="name another version with --canary",
        )
    for version in versions:
        _check(context, version, layout)
    weights = [rewrite.WHOLE - sum(parts), *parts]
    names = tuple(served_name(version) for version in versions)
    resource = rewrite.rewrite(ref, list(zip(names, weights, strict=True)), pool)
    target = empty_target(Path(out))
    with staging(target.parent) as work:
        root = work / "root"
        root.mkdir()
        for version, name in zip(versions, names, strict=True):
            _copy(context, version, root / name)
        import yaml

        atomic_write(root / REWRITE, yaml.safe_dump(resource, sort_keys=False).encode())
        rename_into(root, target)
    made = Exported(names[0], target / names[0], versions[0].rank, versions[0].base.name or "")
    return Laid(target, layout.name, names, layout.load(made), layout.source)


def _gguf(
    context: Context,
    version: Version,
    out: Path,
    layout: Layout,
    base: str | os.PathLike[str] | None,
) -> Laid:
    from adaptkit.serving.engines import gguf_file

    if out.suffix != GGUF:
        raise Refused(
            f"cannot write {version.ref} as {out.name}", why="it is one file", fix=f"NAME{GGUF}"
        )
    folder = user_path(base) if base is not None else folder_here(context, version.base)
    if folder is None:
        raise Refused(
            f"cannot write {version.ref} as GGUF",
            why="the names of its layers and the order of its rows depend on the base, which is not here",
            fix="--base DIR, a folder with its config.json",
        )
    try:
        config = json.loads((Path(folder) / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise Refused(
            f"cannot write {version.ref} as GGUF",
            why=f"{folder} has no readable config.json",
            fix="--base DIR",
        ) from error
    shape = gguf_file.BaseShape.of(config, str(folder))
    target, name = file_target(out), served_name(version)
    tree = verified_tree(context, version.digest)
    with staging(target.parent) as work, Adapter.open(tree, version.ref) as adapter:
        source = OpenAdapter(adapter, context.plugins.method_for(adapter), version.digest)
        gguf_file.write(source, shape, work / "adapter.gguf", name)
        with os_errors("write", target):
            (work / "adapter.gguf").rename(target)
    made = Exported(name, target, version.rank, version.base.name or "")
    return Laid(target, layout.name, (name,), layout.load(made), layout.source)


def _check(context: Context, version: Version, layout: Layout) -> None:
    """Refuse what the engine does not apply as a whole, with what to do instead."""
    tree = verified_tree(context, version.digest)
    with ExitStack() as stack:
        adapter = stack.enter_context(Adapter.open(tree, version.ref))
        method = context.plugins.method_for(adapter)
        found = preflight(
            OpenAdapter(adapter, method, version.digest),
            rules_of(layout.rules),
            rank_limit=layout.rank_limit,
        )
    settled = _SCALES if layout.name == "gguf" else frozenset()
    lost = [f for f in found.findings if f.outcome != "applied" and f.part not in settled]
    if lost:
        raise Refused(
            f"cannot export {version.ref} for {layout.name}",
            why="; ".join(f"{f.part} is {f.outcome}: {f.reason}" for f in lost[:3]),
            fix=_way_out(lost) or f"adaptkit preflight {version.ref} --for {layout.rules}",
        )


def _way_out(lost: Sequence[Finding]) -> str:
    """What is typed instead: where something can only be baked in, no other way helps."""
    ways = [finding.fix for finding in lost if finding.fix]
    return next((way for way in ways if way.startswith("adaptkit bake")), next(iter(ways), ""))


def _copy(context: Context, version: Version, folder: Path) -> None:
    tree = verified_tree(context, version.digest)
    with os_errors("write", folder):
        shutil.copytree(tree, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    manifest = manifest_of(context, version)
    atomic_write(folder / MANIFEST, pretty_json(manifest.to_json()))


def _ollama_base(context: Context, version: Version, base: str | os.PathLike[str] | None) -> str:
    """What FROM names: what was given, else the base's folder here."""
    found = str(base) if base is not None else folder_here(context, version.base)
    if found is None or "\n" in str(found):
        raise Refused(
            f"cannot write a Modelfile for {version.ref}",
            why="it begins with the base, which is not on this machine",
            fix="--base llama3.2, as ollama list shows it, or --base DIR",
        )
    return str(found)
