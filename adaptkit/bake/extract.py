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
    from collections.abc import Callable, Mapping
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
        for weights in (after, before):
            if why := why_quantised(weights.layout):
                raise BakeError(
                    f"cannot extract an adapter with {weights.layout.directory}",
                    why=why,
                    fix="give the full-precision model it was made from",
                )
        found = compare(after, before, rank or 1 << 30, keep_full=keep_full)
        many = workers or cores()
        if not found.modules:  # PEFT's LoRA wants a target all the same
            found.modules.append(_untouched(after, found))
        if rank is None:
            found.modules = _by_energy(after, before, found, many, done)
        groups: dict[str, list[Module]] = defaultdict(list)
        for module in found.modules:
            groups[module.name].append(module)
        config = _config(after, before, found, method, name)
        saved = {f"{_PREFIX}{parameter}": parameter for parameter in found.saved}
        saved |= {_bias_key(parameter): parameter for parameter in found.biases}
        layout = {
            key: ("F32", array.shape)
            for parts in groups.values()
            for key, array in method.pack([(m, _shape(m)) for m in parts]).items()
        }
        for key, parameter in saved.items():
            array = after.parameter(parameter)
            layout[key] = (_dtype(array), array.shape)
        with TensorWriter(out / WEIGHTS, layout) as writer:

            def make(parts: list[Module]) -> list[tuple[str, float, float]]:
                measured, packed = [], []
                for module in parts:
                    tuned_weight = after.parameter(module.tensor)
                    change = _change(tuned_weight, before, found, module)
                    kept, lost = leading(Dense(change), module.rank, np.random.default_rng(_SEED))
                    stored = LowRank(
                        kept.B.astype(np.float32), np.ascontiguousarray(kept.A).astype(np.float32)
                    )
                    packed.append((module, stored))
                    size = float(np.linalg.norm(change))
                    measured.append((module.key, math.hypot(lost, rounding(kept, stored)), size))
                    done(change.size * tuned_weight.itemsize)
                for key, array in method.pack(packed).items():
                    writer.write(key, array)
                return measured

            measured = [one for m in run_modules(make, groups.values(), workers=many) for one in m]
            for key, parameter in saved.items():
                writer.write(key, np.asarray(after.parameter(parameter), order="C"))
            writer.commit()
        write_companions(out, config, {})
        rest = size_of_change(after, before, found.left_out, found.names)
    error = Loss(
        relative([a for _, a, _ in measured], [s for _, _, s in measured]),
        {key: relative([a], [s]) for key, a, s in measured},
    )
    moved, whole = math.hypot(*rest.values()), math.hypot(*(s for _, _, s in measured))
    total = math.hypot(moved, whole)
    top = max((m.saved_rank for m in found.modules), default=1)
    return ExtractReport(
        rank or top,
        {m.key: m.rank for m in found.modules},
        error,
        tuple(found.left_out),
        moved / total if total else 0.0,
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


def _by_energy(
    after: BaseWeights,
    before: BaseWeights,
    found: TunedChanges,
    workers: int,
    done: Callable[[int], None],
) -> list[Module]:
    """Each module with the smallest rank that keeps its share; all experts of one parameter have the largest."""

    def fitted(module: Module) -> int:
        tuned_weight = after.parameter(module.tensor)
        change = _change(tuned_weight, before, found, module)
        sums = np.cumsum(dense_svd(Dense(change)).S ** 2)
        done(change.size * tuned_weight.itemsize)
        if not sums[-1]:
            return 1
        return int(np.searchsorted(sums, ENERGY * sums[-1] * (1 - 1e-12))) + 1

    ranks: dict[str, int] = defaultdict(int)
    for module, rank in zip(
        found.modules, run_modules(fitted, found.modules, workers=workers), strict=True
    ):
        ranks[module.name] = max(ranks[module.name], min(rank, module.rank))
    return [replace(module, rank=ranks[module.name]) for module in found.modules]


def _change(tuned_weight: Array, before: BaseWeights, found: TunedChanges, module: Module) -> Array:
    """m×n, in working precision."""
    change = work(tuned_weight) - work(before.parameter(found.names[module.tensor]))
    if not np.isfinite(change).all():
        raise BakeError(
            "cannot extract an adapter",
            why=f"the tensor '{module.tensor}' of the tuned model or of the base holds NaN or Inf",
            fix="look where its training diverged, and extract from an earlier checkpoint",
        )
    matrix: Array = np.ascontiguousarray(as_matrix(change, module))
    return matrix


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
