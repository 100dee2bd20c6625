"""What of a folder becomes an artifact: read, checked, its base settled, every file hashed.

Nothing is stored here and the folder is never changed. What has to differ from the folder (a base
given as a local path, weights in a pickle) is handed over as bytes beside the paths of what is
taken as it is.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.adapters.adapter import Adapter, artifact_paths
from adaptkit.bases.known import declared_base
from adaptkit.bases.layer_replication import Layers
from adaptkit.bases.weights import BaseWeights, tensors_called
from adaptkit.errors import BaseMismatch, MissingExtra, Unmergeable
from adaptkit.extend.artifact_files import CONFIG, PICKLE, README, WEIGHTS
from adaptkit.io.files import os_errors
from adaptkit.io.safe_paths import check_relative
from adaptkit.io.safetensors_writer import TensorWriter
from adaptkit.types import BaseIdentity, Facts, FileEntry, Manifest, artifact_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.bases.known import Base
    from adaptkit.extend import AdapterMethod, Module


@dataclass(frozen=True, slots=True)
class PreparedAdapter:
    """An adapter ready to be stored.

    Its manifest, where each file's bytes come from, and what was noticed.
    """

    manifest: Manifest
    sources: Mapping[str, Path | bytes]
    method: AdapterMethod
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(slots=True)
class _Gathered:
    sources: dict[str, Path | bytes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    facts: Facts = field(default_factory=Facts)


def prepare(
    adapter: Adapter,
    method: AdapterMethod,
    base: Base,
    *,
    created: str,
    staging: Path,
    include: Sequence[str] = (),
    force: bool = False,
) -> PreparedAdapter:
    """Check an opened adapter whole, and describe the artifact it becomes.

    `staging` takes converted weights.
    """
    method.check(adapter)
    adapter.check_tensors()
    gathered = _Gathered()
    if base.shapes is not None and not method.unmergeable(adapter):
        _check_fit(adapter, method, base, gathered, force=force)
    paths, skipped = artifact_paths(adapter.path, include)
    for path in paths:
        gathered.sources[check_relative(path)] = adapter.path / path
    _replace_local_base(adapter, base.identity, gathered)
    if adapter.pickled:
        _convert_pickle(adapter, staging, gathered)
    if adapter.strays:
        gathered.warnings.append(
            f"{len(adapter.strays)} tensor names carry a stray adapter name or wrapper prefix, such as "
            f"'{adapter.strays[0]}': adaptkit reads them, PEFT does not; adaptkit merge REF --name NEW writes clean ones"
        )
    entries = {path: describe(path, source) for path, source in gathered.sources.items()}
    files = tuple(sorted(entry for path, entry in entries.items() if path != README))
    manifest = Manifest(
        digest=artifact_digest(files),
        files=files,
        method=method.name,
        rank=method.rank(adapter),
        base=base.identity,
        extras=tuple(entry for path, entry in entries.items() if path == README),
        facts=gathered.facts,
        created=created,
    )
    return PreparedAdapter(
        manifest, gathered.sources, method, tuple(gathered.warnings), tuple(skipped)
    )


def describe(path: str, source: Path | bytes) -> FileEntry:
    """The entry of one file: its size and sha256."""
    if isinstance(source, bytes):
        return FileEntry(path, len(source), hashlib.sha256(source).hexdigest())
    with os_errors("read", source), source.open("rb") as file:
        return FileEntry(
            path, source.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
        )


def _replace_local_base(adapter: Adapter, base: BaseIdentity, gathered: _Gathered) -> None:
    """Replace a local path by the base's name: the path means nothing on another machine."""
    readme = adapter.path / README
    declared, local = declared_base(adapter.config, adapter.path)
    if readme.is_file():
        gathered.sources[README] = readme
    if declared is None or local is None:
        return
    name = base.name or Path(declared).name
    config = dict(adapter.config) | {"base_model_name_or_path": name}
    gathered.sources[CONFIG] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    if readme.is_file():
        gathered.sources[README] = readme.read_bytes().replace(declared.encode(), name.encode())


def _convert_pickle(adapter: Adapter, staging: Path, gathered: _Gathered) -> None:
    """Write the tensors of a pickle as safetensors.

    The pickle itself never becomes part of an artifact.
    """
    layout = {key: (info.dtype, info.shape) for key, info in adapter.header.items()}
    with TensorWriter(staging / WEIGHTS, layout) as writer:
        for key in layout:
            writer.write(key, adapter.read(key))
        writer.commit()
    pickle = gathered.sources.pop(PICKLE)
    gathered.facts["converted_from"] = {"path": PICKLE, "sha256": describe(PICKLE, pickle).sha256}
    gathered.sources[WEIGHTS] = staging / WEIGHTS


def _check_fit(
    adapter: Adapter, method: AdapterMethod, base: Base, gathered: _Gathered, *, force: bool
) -> None:
    """Every module must find its weight in the base, in the shape it was trained for."""
    assert base.shapes is not None
    wrong, label = [], adapter.label
    with ExitStack() as stack:
        weights = stack.enter_context(BaseWeights.open(base.folder)) if base.folder else None
        if weights is not None:
            adapter.attach_base(weights)
        layers = (
            Layers.of(adapter.config.get("layer_replication"), weights.layout.config, label)
            if weights
            else Layers()
        )
        modules: tuple[Module, ...] = ()
        try:
            modules = method.modules(adapter)
        except (
            Unmergeable
        ) as error:  # the file lists the modules, but only the base has their shapes
            wrong.append(error.why)
        except MissingExtra as error:
            gathered.warnings.append(f"not checked against the base: {error.why or error.what}")
        for module in modules:
            if weights is None and (
                module.kind == "expert" or adapter.config.get("layer_replication")
            ):
                continue  # only the base itself shows where these are
            asked = replace(
                module, name=layers.old_name(module.name), weight=layers.old_name(module.weight)
            )
            shapes, whole = _shapes(asked, weights, base.shapes)
            if not shapes:
                wrong.append(f"'{module.name}' is not in the base")
            elif whole and base.identity.quantised is None and module.stored not in shapes:
                wrong.append(
                    f"'{module.name}' is {list(module.stored)} here and {list(shapes[0])} in the base"
                )
    if not wrong:
        return
    shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    if not force:
        raise BaseMismatch(
            f"{label} does not fit the base {base.identity.name}",
            why=shown,
            fix="give the base it was trained on, or --force to record it anyway",
        )
    gathered.warnings.append(f"forced: {shown}")
    gathered.facts["forced"] = [shown]


def _shapes(
    module: Module, weights: BaseWeights | None, known: Mapping[str, tuple[int, ...]]
) -> tuple[list[tuple[int, ...]], bool]:
    """The shapes of the base's tensors that hold a module's weight, and whether it is one."""
    if weights is None:
        return [known[name] for name in tensors_called(module.tensor, known)], True
    pieces = weights.pieces(module)
    return [weights.shapes[piece.tensor] for piece in pieces], len(pieces) == 1 and pieces[
        0
    ].expert is None
