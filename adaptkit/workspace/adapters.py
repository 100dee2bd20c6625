"""Adapters and their versions: add, list, show, load, note, remove, restore, export."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.adapters.adapter import Adapter, read_config
from adaptkit.adapters.formats import to_dialect
from adaptkit.bases.compare import admits
from adaptkit.bases.known import declared_base
from adaptkit.errors import BadReference, BaseMismatch, NotFound, requires_extra
from adaptkit.extend.artifact_files import CONFIG, MANIFEST
from adaptkit.extend.review import Delete
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import empty_target, pretty_json, rename_into, staging
from adaptkit.store.variant import variant
from adaptkit.types import Sameness
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.reviews import review
from adaptkit.workspace.lookup.adapters import ingest_folder
from adaptkit.workspace.lookup.artifacts import (
    find_version,
    manifest_of,
    register,
    verified_tree,
)
from adaptkit.workspace.lookup.bases import find_base, folder_here, same_base
from adaptkit.workspace.lookup.places import list_remote, narrowed, remote_in, show_elsewhere
from adaptkit.workspace.one_file import SUFFIX, file_target, write_file
from adaptkit.workspace.pull import pull
from adaptkit.workspace.results import Shown
from adaptkit.workspace.units import parse_condition, parse_rank

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from adaptkit.types import BaseIdentity, Manifest, Quantisation, Version
    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.results import Added

_FITTING = (Sameness.SAME, Sameness.PROBABLY_SAME)


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
                why="a folder does not say what it is called",
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
        _check_claim(context, prepared.manifest, force=bool(how.get("force")))
        return register(
            context,
            prepared,
            name,
            message=message,
            alias=alias,
            new_version=new_version,
            origin="added",
        )


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


def list_adapters(
    context: Context,
    *,
    base: str | None = None,
    method: str | None = None,
    every: bool = False,
    rank: str | None = None,
    tag: str | None = None,
    metrics: Sequence[str] = (),
    words: Sequence[str] = (),
    team: str | None = None,
) -> tuple[Version, ...]:
    """The latest version of each name (or `every` version), narrowed.

    `rank` is `8` or `>=8`, `metrics` are conditions such as `accuracy>=0.9`, and each of `words`
    must be found in the name, the names it had, the description, the message or a tag. A word such
    as `team:` lists what is in that remote.
    """
    unfit = {"--base": base, "--rank": rank, "--tag": tag, "--metric": metrics, "--team": team}
    if (remote := remote_in(tuple(words), dict(unfit))) is not None:
        others = tuple(word for word in words if word != f"{remote}:")
        return narrowed(list_remote(context, remote, every=every), others, method)
    context.check_home()
    find = context.registry.versions if every else context.registry.latest_versions
    fitting = None
    if base is not None:
        wanted = find_base(context, base).identity
        fitting = [
            known
            for known in context.registry.known_bases()
            if same_base(context, known, wanted).sameness in _FITTING
            or (not wanted.levels and known.name == wanted.name)
        ]
    return tuple(
        find(
            method=method,
            tag=tag,
            team=team and refs.check_name(team),
            words=tuple(words),
            rank=None if rank is None else parse_rank(rank),
            fitting=fitting,
            figures=tuple(parse_condition(text) for text in metrics),
        )
    )


def show(context: Context, ref: str) -> Shown:
    """Everything known of one version: registered, in a place, or in a folder that is not registered."""
    parsed = refs.parse(ref)
    if isinstance(parsed, (refs.UrlRef, refs.RemoteRef, refs.PathRef)):
        return show_elsewhere(context, parsed)
    version = find_version(context, parsed)
    return Shown(
        version,
        manifest_of(context, version),
        tuple(context.registry.parents(version.digest)),
        tuple(context.registry.placements(version.digest)),
    )


def path_of(context: Context, ref: str) -> Path:
    """A verified PEFT directory of a version, for `from_pretrained`, vLLM or diffusers.

    Its configuration names the base's folder where that is on this machine, so that `AutoPeftModel` finds it. Only read
    from it.
    """
    version = find_version(context, ref)
    tree = verified_tree(context, version.digest)
    config = read_config(tree, ref)
    if declared_base(config, tree)[0] is not None:
        return tree  # a repository on the Hub: it can be followed from everywhere
    reference = folder_here(context, version.base) or _repository(version.base)
    if reference is None:
        return tree
    text = json.dumps(config | {"base_model_name_or_path": str(reference)}, indent=2)
    return variant(tree, {CONFIG: text + "\n"})


def _repository(base: BaseIdentity) -> str | None:
    """The Hub's name of a base that was given by it; what a folder is called is no such name."""
    measured = any(level.measured for level in base.levels)
    return base.name if base.name and "/" in base.name and not measured else None


def load(context: Context, ref: str, model: Any, *, force: bool = False, **how: Any) -> Any:
    """The version loaded by PEFT onto `model`; onto a PEFT model, as one adapter more.

    A model that is another base than the version's is refused (unless `force`): by the files it was loaded from where
    they are here, and by the shapes of its parameters.
    """
    with requires_extra("torch", f"cannot load '{ref}' onto a model"):
        from peft import PeftModel
    from adaptkit.workspace.lookup.live import check_model

    version = find_version(context, ref)
    folder = verified_tree(context, version.digest)
    if not force:
        check_model(context, version, folder, model)
    if isinstance(model, PeftModel):
        name = how.pop("adapter_name", version.ref.replace("@", "-"))
        model.load_adapter(str(folder), name, **how)
        model.set_adapter(name)
        return model
    return PeftModel.from_pretrained(model, folder, **how)


def note(
    context: Context,
    ref: str,
    *,
    message: str | None = None,
    tags: Sequence[str] = (),
    metrics: Mapping[str, float] | None = None,
    description: str | None = None,
    without_tags: Sequence[str] = (),
    without_metrics: Sequence[str] = (),
) -> Version:
    """Write down what was learned later.

    A message, tags and metrics of a version, the description of its adapter. `without_tags` and
    `without_metrics` are taken away; `NotFound` lists those that are there.
    """
    version = find_version(context, ref)
    for key, value in (metrics or {}).items():
        if not math.isfinite(value):
            raise BadReference(
                f"the metric '{key}' is {value}",
                why="a metric is a finite number",
                fix=f"for example --metric {key}=0.93",
            )
    for text in (*tags, message or "", description or "", *(metrics or {})):
        _check_text(text)
    noted = context.registry.annotate(
        version.name,
        version.number,
        message=message,
        tags=tuple(tags),
        metrics=metrics or {},
        description=description,
        without_tags=tuple(without_tags),
        without_metrics=tuple(without_metrics),
        author=context.config.author,
    )
    emit(context, "noted", noted.ref, noted.digest)
    return noted


def remove(context: Context, ref: str) -> Version:
    """Move a version to the trash; refused while an alias or a descendant points at it."""
    version = find_version(context, ref)
    review(context, Delete((version,)))
    context.registry.delete(version.name, version.number, author=context.config.author)
    emit(context, "deleted", version.ref, version.digest)
    return version


def restore(context: Context, ref: str) -> Version:
    """Take a version out of the trash, under the number it had."""
    parsed = refs.parse(ref)
    if (
        not isinstance(parsed, refs.NameRef)
        or not parsed.selector
        or parsed.selector.kind != "number"
    ):
        raise BadReference(
            f"cannot restore '{ref}'",
            why="a version in the trash is named by its number",
            fix="for example: adaptkit restore naval@3",
        )
    version = context.registry.restore(
        parsed.name, parsed.selector.number, author=context.config.author
    )
    emit(context, "restored", version.ref, version.digest)
    return version


def trash(context: Context) -> tuple[Version, ...]:
    """The versions that `restore` can bring back."""
    context.check_home()
    return tuple(context.registry.trash())


def export(
    context: Context, ref: str, out: str | os.PathLike[str], *, dialect: str | None = None
) -> Path:
    """Copy a version into a folder of its own, with its README and `adaptkit.json`.

    In a `dialect`, its one file.
    """
    one_file = dialect is not None and Path(out).suffix == SUFFIX
    target = (file_target if one_file else empty_target)(Path(out))
    version = find_version(context, ref)
    tree, manifest = verified_tree(context, version.digest), manifest_of(context, version)
    with staging(target.parent) as work:
        folder = work / "copy"
        if dialect is not None:
            origin = manifest.facts.get("converted_from") or {}
            folder.mkdir()
            if one_file:
                metadata = origin.get("metadata")
                return write_file(context, tree, target, dialect, folder, metadata, label=ref)
            with Adapter.open(tree, ref) as adapter:
                method = context.plugins.method_for(adapter)
                file = to_dialect(adapter, method, dialect, folder, origin.get("metadata"))
            rename_into(folder, target)
            return target / file.name
        with os_errors("write", folder):
            shutil.copytree(tree, folder, copy_function=shutil.copyfile)
        atomic_write(folder / MANIFEST, pretty_json(manifest.to_json()))
        rename_into(folder, target)
    return target


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


_UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")


def _check_text(text: str) -> None:
    if _UNWRITABLE.search(text):
        raise BadReference(
            f"cannot write down {text!r}",
            why="it holds a NUL or half a character",
            fix="type it again without",
        )
