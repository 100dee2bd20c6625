"""What of a folder becomes an artifact: read, checked, its base settled, every file hashed.

Nothing is stored here and the folder is never changed. What has to differ from the folder (a base
given as a local path, weights in a pickle) is handed over as bytes beside the paths of what is
taken as it is.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.adapters.adapter import Adapter, artifact_paths
from adaptkit.adapters.fitting.fit import fit
from adaptkit.adapters.members import as_file, member_files, members, with_folders
from adaptkit.bases.files.checkpoint import scaled_tensor
from adaptkit.bases.known import declared_base, stored_reference
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import (
    AdaptkitError,
    BadAdapter,
    BadBase,
    BaseMismatch,
    MissingExtra,
    Unmergeable,
)
from adaptkit.extend.artifact_files import CONFIG, PICKLE, README, WEIGHTS
from adaptkit.extend.module_names import Names
from adaptkit.io.files import LARGEST_COMPANION, open_plain, os_errors, read_plain
from adaptkit.io.safe_paths import check_relative
from adaptkit.io.safetensors.writer import TensorWriter
from adaptkit.types import BaseIdentity, Facts, FileEntry, Manifest, artifact_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.bases.known import Base
    from adaptkit.extend import AdapterMethod


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
    checked: bool = False


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
    if not adapter.pickled:  # a pickle beside safetensors never enters an artifact
        if PICKLE in paths:
            gathered.warnings.append(f"{PICKLE} stays out: {WEIGHTS} beside it is the adapter")
        paths = [path for path in paths if path != PICKLE]
    for path in paths:
        gathered.sources[check_relative(path)] = adapter.path / path
    parts = member_files(adapter.path, members(adapter.config, adapter.path), adapter.label)
    gathered.sources |= parts
    skipped = [path for path in skipped if path not in parts]
    _check_companions(adapter)
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
        base=replace(base.identity, checked=gathered.checked),
        extras=tuple(entry for path, entry in entries.items() if path == README),
        facts=gathered.facts,
        created=created,
    )
    return PreparedAdapter(
        manifest, gathered.sources, method, tuple(gathered.warnings), tuple(skipped)
    )


def _check_companions(adapter: Adapter) -> None:
    """Refuse a tokenizer or text of a size that none has: to read 40 GB of zeros takes minutes."""
    for path in (*artifact_paths(adapter.path)[0], README):
        source = adapter.path / path
        if source.suffix in {".safetensors", ".bin"} or not source.is_file():
            continue
        if (size := source.stat().st_size) > LARGEST_COMPANION:
            raise BadAdapter(
                f"{adapter.label}: {path} has {size:,} bytes",
                why=f"more than {LARGEST_COMPANION:,} is no tokenizer and no text",
                fix=f"remove {path} from the folder",
            )


def fits(adapter: Adapter, method: AdapterMethod, folder: Path, cache: Path | None) -> bool:
    """Whether the class of the base in a folder has every module of an adapter, in its shape."""
    return misfits(adapter, method, folder, cache) == []


def misfits(
    adapter: Adapter, method: AdapterMethod, folder: Path, cache: Path | None
) -> list[str] | None:
    """What of an adapter the class of the base in a folder has no place for, in words; None where that is not known."""
    if method.unmergeable(adapter):
        return None
    with suppress(AdaptkitError), BaseWeights.open(folder, cache) as weights:
        made = fit(adapter, method, weights, shapes=scaled_tensor(weights.layout) is None)
        return made.misfits if made.architecture.known else None
    return None


def describe(path: str, source: Path | bytes) -> FileEntry:
    """The entry of one file: its size and sha256."""
    if isinstance(source, bytes):
        return FileEntry(path, len(source), hashlib.sha256(source).hexdigest())
    with os_errors("read", source), open_plain(source) as file:
        return FileEntry(
            path, source.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
        )


def _replace_local_base(adapter: Adapter, base: BaseIdentity, gathered: _Gathered) -> None:
    """Replace a local path: it means nothing on another machine, and is no part of what was trained."""
    readme = adapter.path / README
    named, local = declared_base(adapter.config, adapter.path)
    if readme.is_file():
        gathered.sources[README] = readme
    config = with_folders(adapter.config, members(adapter.config, adapter.path))
    if named is None or local is None:
        if config != adapter.config:
            gathered.sources[CONFIG] = as_file(config)
        return
    name = base.name or Path(named).name
    reference = {"base_model_name_or_path": stored_reference(adapter.config, adapter.path)}
    gathered.sources[CONFIG] = as_file(config | reference)
    if readme.is_file():
        gathered.sources[README] = read_plain(readme).replace(named.encode(), name.encode())


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
    label = adapter.label
    wrong: list[str] = []
    advice = "give the base it was trained on"
    if base.folder is None:
        wrong = _misfits_by_shape(adapter, method, base)
    else:
        with BaseWeights.open(base.folder, base.cache) as weights:
            scaled = base.identity.quantised is not None or scaled_tensor(weights.layout)
            try:
                made = fit(adapter, method, weights, shapes=not scaled)
                wrong, advice = made.misfits, made.advice
                if made.unbakeable:
                    gathered.facts["cannot_bake"] = made.unbakeable
                gathered.checked = made.architecture.known and not wrong
                if lost := made.passed_over:
                    more = f"; and {len(lost) - 2} more" if len(lost) > 2 else ""
                    gathered.warnings.append("; ".join(lost[:2]) + more)
                if not made.architecture.known:
                    gathered.warnings.append(
                        f"checked against the base's own names only: {made.architecture.unknown}"
                    )
            except (
                BaseMismatch
            ) as error:  # its file names modules that only the base has shapes for
                wrong = [error.why]
            except Unmergeable as error:
                gathered.facts["cannot_bake"] = [error.why]
                gathered.warnings.append(f"not checked against the base: {error.why}")
            except (MissingExtra, BadBase) as error:
                gathered.warnings.append(f"not checked against the base: {error.summary}")
    if not wrong:
        return
    shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    if not force:
        raise BaseMismatch(
            f"{label} does not fit the base {base.identity.name}",
            why=shown,
            fix=f"{advice}, or --force to record it all the same",
        )
    gathered.warnings.append(f"forced: {shown}")
    gathered.facts["forced"] = [shown]


def _misfits_by_shape(adapter: Adapter, method: AdapterMethod, base: Base) -> list[str]:
    """What does not fit a base of which only names and shapes are here."""
    assert base.shapes is not None
    names, wrong = Names(base.shapes), []
    try:
        modules = method.modules(adapter)
    except BaseMismatch as error:
        return [error.why]
    except Unmergeable:  # what cannot be merged can still be kept
        return []
    for module in modules:
        if module.kind == "expert" or adapter.config.get("layer_replication"):
            continue  # only the base itself tells where these are
        found = names.called(module.tensor)
        if not found:
            wrong.append(f"'{module.name}' is not in the base")
        elif base.identity.quantised is None and module.stored not in map(base.shapes.get, found):
            there = list(base.shapes[found[0]])
            wrong.append(f"'{module.name}' is {list(module.stored)} here and {there} in the base")
    return wrong
