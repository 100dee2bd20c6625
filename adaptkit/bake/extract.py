"""What a full fine-tune changed, as an adapter: tuned weights minus the base's, one matrix at a time.

Updates of a fine-tune are not low rank; what the rank leaves out is measured. New heads and resized vocabularies become
`modules_to_save`. Parameters that are no matrices (norms, biases) cannot become low-rank updates: they are named, with
how far they moved, or saved whole with `keep_full`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.adapters.write import write_companions
from adaptkit.algebra.loss import Loss, relative
from adaptkit.algebra.lowrank import dense_svd, leading, rounding, work
from adaptkit.bake.tuned import compare, layer_of, size_of_change, within
from adaptkit.bases.classes.peft_names import modules_of, only_these
from adaptkit.bases.files.quantised import why_quantised
from adaptkit.bases.weights import BaseWeights, as_matrix
from adaptkit.errors import BadRecipe, BakeError
from adaptkit.extend import Dense, LowRank, Module
from adaptkit.extend.artifact_files import WEIGHTS
from adaptkit.io.machine.hardware import cores
from adaptkit.io.machine.parallel import run_modules
from adaptkit.io.safetensors.writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from adaptkit.bake.tuned import TunedChanges
    from adaptkit.extend import AdapterMethod, Array, Model
    from adaptkit.types import TensorInfo

ENERGY = 0.99
"""The share of each matrix's squared norm that `rank="auto"` keeps."""
_SEED = 0
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class _Nothing:
    """An adapter that holds nothing yet, for the method that writes the first configuration."""

    label: str
    config: Mapping[str, Any]
    header: Mapping[str, TensorInfo]
    base_shapes: Mapping[str, tuple[int, ...]] | None = None

    def model(self) -> Model | None:
        return None

    def read(self, key: str) -> Array:
        raise KeyError(key)


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """What was extracted: ranks by module, and what they leave out of these modules' change.

    `left_out` are the parameters that are no matrices; `left_out_share` is how far they moved, relative to the whole
    change of all shared parameters. `saved` are the modules that the adapter brings whole.
    """

    rank: int
    ranks: Mapping[str, int]
    error: Loss
    left_out: tuple[str, ...]
    left_out_share: float = 0.0
    saved: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())


def run(
    tuned: Path,
    base: Path,
    out: Path,
    method: AdapterMethod,
    *,
    rank: int | None,
    name: str | None,
    keep_full: bool = False,
    workers: int | None = None,
    cache: Path | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> ExtractReport:
    """Write the adapter into `out`, an empty folder; `name` is what its config calls the base.

    Without a `rank`, each module gets the smallest that keeps `ENERGY` of its change. `done` is
    called with the bytes of each weight that was looked at, twice without a `rank`.
    """
    if rank is not None and rank < 1:
        raise BadRecipe(
            f"--rank is {rank}", why="a rank is at least 1", fix="for example --rank 64, or auto"
        )
    with BaseWeights.open(tuned, cache) as after, BaseWeights.open(base, cache) as before:
        _check_full_precision(after, before)
        found = compare(after, before, rank or 1 << 30, keep_full=keep_full)
        pair, many = _Pair(after, before, found, done), workers or cores()
        if not found.modules:  # PEFT's LoRA wants a target all the same
            found.modules.append(_untouched(after, found))
        if rank is None:
            found.modules = _by_energy(pair, many)
        config = _config(after, before, found, method, name)
        measured = _write(pair, out / WEIGHTS, method, many)
        write_companions(out, config, {})
        rest = size_of_change(after, before, found.left_out, found.names)
    return _report(found, measured, math.hypot(*rest.values()), rank)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A tuned model and its base, and what was found to differ."""

    after: BaseWeights
    before: BaseWeights
    found: TunedChanges
    done: Callable[[int], None]

    def change(self, module: Module) -> Array:
        """What was added to a module's matrix: m×n, in working precision."""
        tuned = self.after.parameter(module.tensor)
        change = work(tuned) - work(self.before.parameter(self.found.names[module.tensor]))
        if not np.isfinite(change).all():
            raise BakeError(
                "cannot extract an adapter",
                why=f"the tensor '{module.tensor}' of the tuned model or of the base holds NaN or Inf",
                fix="look where its training diverged, and extract from an earlier checkpoint",
            )
        self.done(change.size * tuned.itemsize)
        matrix: Array = np.ascontiguousarray(as_matrix(change, module))
        return matrix


@dataclass(frozen=True, slots=True)
class _ModuleLoss:
    """How much of a module's change its update leaves out, and the norm of the whole change."""

    key: str
    lost: float
    size: float


def _check_full_precision(*models: BaseWeights) -> None:
    for weights in models:
        if why := why_quantised(weights.layout):
            raise BakeError(
                f"cannot extract an adapter with {weights.layout.directory}",
                why=why,
                fix="give the full-precision model it was made from",
            )


def _write(pair: _Pair, file: Path, method: AdapterMethod, workers: int) -> list[_ModuleLoss]:
    """Write the updates of all modules, and what is saved whole."""
    groups: dict[str, list[Module]] = defaultdict(list)
    for module in pair.found.modules:
        groups[module.name].append(module)
    saved = {f"{_PREFIX}{parameter}": parameter for parameter in pair.found.saved}
    saved |= {_bias_key(parameter): parameter for parameter in pair.found.biases}
    layout = {
        key: ("F32", array.shape)
        for parts in groups.values()
        for key, array in method.pack([(m, _shape(m)) for m in parts]).items()
    }
    for key, parameter in saved.items():
        array = pair.after.parameter(parameter)
        layout[key] = (_dtype(array), array.shape)
    with TensorWriter(file, layout) as writer:

        def make(parts: list[Module]) -> list[_ModuleLoss]:
            measured, packed = [], []
            for module in parts:
                change = pair.change(module)
                kept, lost = leading(Dense(change), module.rank, np.random.default_rng(_SEED))
                stored = LowRank(
                    kept.B.astype(np.float32), np.ascontiguousarray(kept.A).astype(np.float32)
                )
                packed.append((module, stored))
                lost = math.hypot(lost, rounding(kept, stored))
                measured.append(_ModuleLoss(module.key, lost, float(np.linalg.norm(change))))
            for key, array in method.pack(packed).items():
                writer.write(key, array)
            return measured

        measured = [one for m in run_modules(make, groups.values(), workers=workers) for one in m]
        for key, parameter in saved.items():
            writer.write(key, np.asarray(pair.after.parameter(parameter), order="C"))
        writer.commit()
    return measured


def _report(
    found: TunedChanges, measured: Sequence[_ModuleLoss], left_out: float, rank: int | None
) -> ExtractReport:
    """`left_out` is how far the parameters moved that are no matrices."""
    total = math.hypot(left_out, *(one.size for one in measured))
    return ExtractReport(
        rank or max((m.saved_rank for m in found.modules), default=1),
        {m.key: m.rank for m in found.modules},
        Loss(
            relative([one.lost for one in measured], [one.size for one in measured]),
            {one.key: relative([one.lost], [one.size]) for one in measured},
        ),
        tuple(found.left_out),
        left_out / total if total else 0.0,
        tuple(found.whole),
        _remarks(found),
    )


def _config(
    after: BaseWeights,
    before: BaseWeights,
    found: TunedChanges,
    method: AdapterMethod,
    name: str | None,
) -> dict[str, Any]:
    new, old = after.architecture(), before.architecture()
    task = new.task or old.task
    view = _Nothing(
        str(after.layout.directory),
        {
            "base_model_name_or_path": name,
            "fan_in_fan_out": any(m.kind == "conv1d" for m in found.modules),
            "bias": "lora_only" if found.biases else "none",
            "modules_to_save": only_these(found.whole, modules_of(new.parameters)) or None,
            "target_parameters": found.targets or None,
        },
        {},
    )
    kept = (
        *(f"{_PREFIX}{parameter}" for parameter in found.saved),
        *map(_bias_key, found.biases),
    )
    settings = {"task_type": task} if task else {}
    config = method.merged_config([view], found.modules, kept, settings, bias=False)
    touched = {m.name for m in found.modules}
    if {new.embedding, new.head} <= touched and _equal_pair(new.embedding, new.head, new.ties):
        config["ensure_weight_tying"] = _peft_ties(new.embedding, new.head)
    return config


def _bias_key(parameter: str) -> str:
    """PEFT's key of a bias whose layer has an update."""
    return f"{_PREFIX}{parameter.removesuffix('.bias')}.base_layer.bias"


def _equal_pair(embedding: str, head: str, ties: Mapping[str, str]) -> bool:
    known = ties.get(f"{embedding}.weight")
    return known is not None and known == ties.get(f"{head}.weight")


def _peft_ties(embedding: str, head: str) -> bool:
    """PEFT ties the adapters of layers of these names only; others get equal factors of their own."""
    names = {"embed_tokens", "lm_head"}
    return {embedding.rpartition(".")[2], head.rpartition(".")[2]} == names


def _untouched(after: BaseWeights, found: TunedChanges) -> Module:
    """The first layer that is not saved whole, whose update is zero."""
    arch = after.architecture()
    whole = set(found.whole)
    for name in arch.layers:
        parameter = f"{name}.weight"
        module = layer_of(arch, parameter, 1) if parameter in found.names else None
        if module is not None and not within(name, whole):
            return module
    raise BakeError(
        f"cannot extract an adapter from {after.layout.directory}",
        why="every layer of it would be saved whole, so nothing is left that a low-rank update goes on",
        fix="leave out --keep-full, or share the tuned model itself",
    )


def _by_energy(pair: _Pair, workers: int) -> list[Module]:
    """Each module with the smallest rank that keeps its share; all experts of one parameter have the largest."""
    modules = pair.found.modules

    def fitted(module: Module) -> int:
        sums = np.cumsum(dense_svd(Dense(pair.change(module))).S ** 2)
        if not sums[-1]:
            return 1
        return int(np.searchsorted(sums, ENERGY * sums[-1] * (1 - 1e-12))) + 1

    ranks: dict[str, int] = defaultdict(int)
    for module, rank in zip(modules, run_modules(fitted, modules, workers=workers), strict=True):
        ranks[module.name] = max(ranks[module.name], min(rank, module.rank))
    return [replace(module, rank=ranks[module.name]) for module in modules]


def _dtype(array: Array) -> str:
    names = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
    return (names | {"int64": "I64", "int32": "I32", "bool": "BOOL"})[array.dtype.name]


def _remarks(found: TunedChanges) -> tuple[str, ...]:
    count = found.new_tokens
    if not count:
        return ()
    how = f"model.resize_token_embeddings({count})"
    return (f"the tuned model has {count} tokens: resize the base before loading it, {how}",)


def _shape(module: Module) -> LowRank:
    zero = np.zeros((), np.int8)
    return LowRank(
        np.broadcast_to(zero, (module.shape[0], module.rank)),
        np.broadcast_to(zero, (module.rank, module.shape[1])),
    )
