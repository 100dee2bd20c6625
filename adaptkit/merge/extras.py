"""What a merge meets besides updates: heads, biases, new tokens, tokenizer files, settings.

None of them can be summed. One rule serves all three kinds: equal, or owned by one parent → kept;
in conflict → an error that names them, unless `--extras` says `average` (tensors only), `from=REF`
or `drop`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.adapters.adapter import artifact_paths
from adaptkit.algebra.lowrank import work
from adaptkit.errors import ExtrasConflict
from adaptkit.extend.artifact_files import CONFIG, PICKLE, WEIGHTS
from adaptkit.io.files import read_plain
from adaptkit.io.safetensors.reader import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from adaptkit.adapters.adapter import Adapter
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import AdapterMethod, Array
    from adaptkit.types import TensorInfo

    Owner = tuple["Contributor", str]
    """A parent, and what it calls a tensor."""


@dataclass(frozen=True, slots=True)
class Contributor:
    """One parent in a settlement: its adapter, its digest and its weight."""

    adapter: Adapter
    digest: str
    weight: float
    rows: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """For tensors that are single rows of one of the base's: which."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The base's tensor that a key means: PEFT calls a bias otherwise where its layer has an update."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """The base's tensor that single rows are of, by their key."""

    @classmethod
    def of(cls, source: OpenAdapter, weight: float) -> Contributor:
        """An open adapter, with what its method says of its tensors."""
        adapter, method = source.adapter, source.method
        names = {key: name for name, key in method.replacements(adapter).items()}
        found = method.row_replacements(adapter)
        parts = {key: name for name, (key, _) in found.items()}
        return cls(adapter, source.digest, weight, dict(found.values()), names, parts)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What is kept, by key, and what `drop` left out.

    Tensors are made when asked for, one at a time.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedTensors:
    """As `Resolved`, with the header of what is kept and a way to read each."""

    layout: Mapping[str, TensorInfo]
    dropped: tuple[str, ...]
    rows: Mapping[str, tuple[int, ...]]
    _readers: Mapping[str, Callable[[], Array]]

    def read(self, key: str) -> Array:
        return self._readers[key]()


@dataclass(frozen=True, slots=True)
class ResolvedExtras:
    """What became of everything that is no update."""

    tensors: ResolvedTensors
    files: Mapping[str, bytes]
    settings: Mapping[str, Any]
    dropped: tuple[str, ...]


def resolve_extras(
    policy: str,
    parties: Sequence[Contributor],
    keys: Sequence[Sequence[str]],
    settings: Sequence[str],
) -> ResolvedExtras:
    """Settle tensors, files and settings by one policy.

    `keys[i]` are the extra tensors of `parties[i]`.
    """
    tensors = resolve_tensors(policy, parties, keys)
    files = resolve_files(policy, parties)
    fields = resolve_settings(policy, parties, settings)
    return ResolvedExtras(
        tensors, files.values, fields.values, (*tensors.dropped, *files.dropped, *fields.dropped)
    )


def resolve_tensors(
    policy: str, parties: Sequence[Contributor], keys: Sequence[Sequence[str]]
) -> ResolvedTensors:
    """Settle the tensors that are no deltas; `keys[i]` are those of `parties[i]`."""
    layout: dict[str, TensorInfo] = {}
    readers: dict[str, Callable[[], Array]] = {}
    rows: dict[str, tuple[int, ...]] = {}
    dropped: list[str] = []
    conflicts: list[str] = []
    called = [
        {party.names.get(key, key): key for key in owned}
        for party, owned in zip(parties, keys, strict=True)
    ]
    apart = _whole_and_in_rows(parties, called)
    if apart and policy in {"refuse", "average"}:
        conflicts += [
            f"the tensor '{name}', whole in one and rows of it in another" for name in apart
        ]
    for name in sorted({name for table in called for name in table}):
        owners = [
            (party, table[name])
            for party, table in zip(parties, called, strict=True)
            if name in table
        ]
        key = owners[0][1]
        if apart & {name, *(party.parts.get(own) for party, own in owners)}:
            owners = [one for one in owners if one[0] is _chosen(policy, parties)]
            if not owners:
                dropped.append(key)
                continue
            key = owners[0][1]
        if all(own in party.rows for party, own in owners):
            settled = resolve_rows(policy, [party for party, _ in owners], key)
            conflicts += settled.conflicts
            dropped += settled.dropped
            if settled.rows:
                info = owners[0][0].adapter.header[key]
                shape = (len(settled.rows), *info.shape[1:])
                layout[key] = replace(
                    info, shape=shape, nbytes=info.nbytes // info.shape[0] * shape[0]
                )
                rows[key], readers[key] = settled.rows, settled.read
            continue
        kept: Callable[[], Array] | None = _reader(*owners[0])
        if not _same_tensor(owners):
            if policy == "refuse":
                conflicts.append(f"the tensor '{key}'")
                continue
            kept = _average(owners) if policy == "average" else _chosen_reader(policy, owners)
        if kept is None:
            dropped.append(key)
            continue
        chosen = _chosen(policy, [party for party, _ in owners])
        owner, key = next((one for one in owners if one[0] is chosen), owners[0])
        layout[key], readers[key] = owner.adapter.header[key], kept
    _raise_conflicts(conflicts, parties)
    return ResolvedTensors(layout, tuple(dropped), rows, readers)


def _whole_and_in_rows(
    parties: Sequence[Contributor], called: Sequence[Mapping[str, str]]
) -> set[str]:
    """Tensors that one parent brings whole and another rows of; what is beside a parent's own rows is a copy."""
    whole = {
        name
        for party, table in zip(parties, called, strict=True)
        for name in table
        if name not in party.parts.values()
    }
    return whole & {name for party in parties for name in party.parts.values()}


@dataclass(frozen=True, slots=True)
class ResolvedRows:
    """Single rows of one tensor: which are kept, in order, and a way to make them."""

    rows: tuple[int, ...]
    dropped: tuple[str, ...]
    conflicts: tuple[str, ...]
    read: Callable[[], Array]


def resolve_rows(policy: str, owners: Sequence[Contributor], key: str) -> ResolvedRows:
    """Settle each row of its own: a new token that only one parent has is no conflict."""
    values: dict[int, list[tuple[Contributor, Array]]] = {}
    for party in owners:
        stored = party.adapter.read(key)
        for row, number in zip(stored, party.rows[key], strict=True):
            values.setdefault(number, []).append((party, row))
    kept: dict[int, Array] = {}
    dropped, conflicts = [], []
    for number, found in sorted(values.items()):
        first = found[0][1]
        total = sum(party.weight for party, _ in found)
        chosen = _chosen(policy, [party for party, _ in found])
        if all(np.array_equal(row, first) for _, row in found[1:]):
            kept[number] = first
        elif chosen:
            kept[number] = next(row for party, row in found if party is chosen)
        elif policy == "average" and total:
            kept[number] = np.asarray(
                sum(work(row) * (party.weight / total) for party, row in found)
            )
        elif policy in {"refuse", "average"}:
            conflicts.append(f"row {number} of the tensor '{key}'")
        else:
            dropped.append(f"row {number} of {key}")
    dtype = numpy_dtype(owners[0].adapter.header[key].dtype)
    return ResolvedRows(
        tuple(kept),
        tuple(dropped),
        tuple(conflicts),
        lambda: np.stack([row.astype(dtype) for row in kept.values()]),
    )


def respelled(
    tensors: ResolvedTensors,
    parties: Sequence[Contributor],
    method: AdapterMethod,
    modules: Collection[str],
) -> ResolvedTensors:
    """The same tensors under the keys that they have beside these modules' updates."""
    spelled = {}
    for key in tensors.layout:
        owner = next(p for p in parties if key in p.adapter.header)
        alone = (
            {module.name for module in method.modules(owner.adapter)}
            if method.recognises(owner.adapter)
            else set()
        )
        layer = owner.parts.get(key, "").rpartition(".")[0]
        name = method.kept_key(key, set(modules) - alone)
        if name is None or layer in modules:
            raise ExtrasConflict(
                f"{' and '.join(p.adapter.label for p in parties)} cannot stand together in one adapter",
                why=f"'{key}' is brought whole, or in rows, by {owner.adapter.label}, and another updates that layer: "
                "PEFT does only one of them",
                fix="write full weights: --into bake DIR; or take the layer out of one of them: adaptkit strip REF "
                "--modules GLOB",
            )
        spelled[key] = name
    return replace(
        tensors,
        layout={spelled[key]: info for key, info in tensors.layout.items()},
        rows={spelled[key]: rows for key, rows in tensors.rows.items()},
        _readers={spelled[key]: tensors._readers[key] for key in tensors.layout},  # noqa: SLF001  (of the same class)
    )


def resolve_files(policy: str, parties: Sequence[Contributor]) -> Resolved:
    """Settle the tokenizer and chat-template files; the values are their bytes."""
    contents = [
        {path: read_plain(party.adapter.path / path) for path in _companions(party)}
        for party in parties
    ]
    return _settle(policy, parties, contents, "the file")


def resolve_settings(policy: str, parties: Sequence[Contributor], names: Sequence[str]) -> Resolved:
    """Settle configuration fields; a field that is absent or null has no owner."""
    declared = [
        {n: p.adapter.config[n] for n in names if p.adapter.config.get(n) is not None}
        for p in parties
    ]
    return _settle(policy, parties, declared, "the setting")


def _settle(
    policy: str, parties: Sequence[Contributor], tables: Sequence[Mapping[str, Any]], kind: str
) -> Resolved:
    values: dict[str, Any] = {}
    dropped, conflicts = [], []
    for key in sorted({key for table in tables for key in table}):
        owners = [
            (party, table[key])
            for party, table in zip(parties, tables, strict=True)
            if key in table
        ]
        first = owners[0][1]
        chosen = _chosen(policy, [party for party, _ in owners])
        if all(value == first for _, value in owners[1:]):
            values[key] = first
        elif chosen:
            values[key] = next(value for party, value in owners if party is chosen)
        elif policy == "drop" or policy.startswith("from="):
            dropped.append(key)
        else:
            conflicts.append(f"{kind} '{key}'")
    _raise_conflicts(conflicts, parties)
    return Resolved(values, tuple(dropped))


def _raise_conflicts(conflicts: Sequence[str], parties: Sequence[Contributor]) -> None:
    if conflicts:
        shown = ", ".join(conflicts[:6]) + (
            f" and {len(conflicts) - 6} more" if len(conflicts) > 6 else ""
        )
        raise ExtrasConflict(
            f"{' and '.join(p.adapter.label for p in parties)} disagree about {shown}",
            why="these are not updates, so they cannot be summed (tokenizers not averaged either)",
            fix=f"--extras average | drop | from=REF, for example --extras from={parties[0].adapter.label}",
        )


def _chosen(policy: str, owners: Sequence[Contributor]) -> Contributor | None:
    digest = policy.removeprefix("from=") if policy.startswith("from=") else ""
    return next((party for party in owners if party.digest == digest), None)


def _chosen_reader(policy: str, owners: Sequence[Owner]) -> Callable[[], Array] | None:
    chosen = _chosen(policy, [party for party, _ in owners])
    return next((_reader(party, key) for party, key in owners if party is chosen), None)


def _reader(party: Contributor, key: str) -> Callable[[], Array]:
    return lambda: party.adapter.read(key)


def _average(owners: Sequence[Owner]) -> Callable[[], Array]:
    infos = [party.adapter.header[key] for party, key in owners]
    total = sum(party.weight for party, _ in owners)
    if (
        len({info.shape for info in infos}) > 1
        or total == 0
        or not infos[0].dtype.startswith(("F", "BF"))
    ):
        why = (
            "the weights add up to zero"
            if total == 0
            else f"shapes {[list(i.shape) for i in infos]}"
        )
        raise ExtrasConflict(
            f"cannot average the tensor '{owners[0][1]}'",
            why=why,
            fix=f"--extras drop, or --extras from={owners[0][0].adapter.label}",
        )

    def read() -> Array:
        mean = sum(work(party.adapter.read(key)) * (party.weight / total) for party, key in owners)
        return np.asarray(mean).astype(numpy_dtype(infos[0].dtype))

    return read


def _same_tensor(owners: Sequence[Owner]) -> bool:
    (first, own), *others = owners
    return all(
        party.adapter.header[key] == first.adapter.header[own]
        and np.array_equal(party.adapter.read(key), first.adapter.read(own))
        for party, key in others
    )


def _companions(party: Contributor) -> list[str]:
    return [
        path
        for path in artifact_paths(party.adapter.path)[0]
        if path not in {CONFIG, WEIGHTS, PICKLE}
    ]
