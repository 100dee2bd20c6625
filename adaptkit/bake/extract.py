"""What a full fine-tune changed, as an adapter: tuned weights minus the base's, one matrix at a time.

Updates of a fine-tune are not low rank; what the rank leaves out is measured. Tensors that are no matrices (norms,
biases) cannot become low-rank updates: they are named, with how far they moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.adapters.write import write_companions
from adaptkit.algebra.loss import Loss, relative
from adaptkit.algebra.lowrank import leading, rounding, work
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BadBase, BadRecipe
from adaptkit.extend import Dense, LowRank, Module
from adaptkit.extend.artifact_files import WEIGHTS
from adaptkit.io.hardware import cores
from adaptkit.io.parallel import run_modules
from adaptkit.io.safetensors_writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from adaptkit.extend import AdapterMethod, Array, Model
    from adaptkit.types import TensorInfo

_EMBEDDINGS = ("embed_tokens", "wte", "wpe", "word_embeddings", "embed_in", "tok_embeddings")
_CONV1D = frozenset(
    {"gpt2", "openai-gpt"}
)  # models whose projections keep their weights transposed
_SEED = 0


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
    """What was extracted: ranks by module, what they leave out of the change, tensors that are no matrices."""

    rank: int
    ranks: Mapping[str, int]
    error: Loss
    left_out: tuple[str, ...]


def run(
    tuned: Path,
    base: Path,
    out: Path,
    method: AdapterMethod,
    *,
    rank: int,
    name: str,
    workers: int | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> ExtractReport:
    """Write the adapter into `out`, an empty folder; `name` is what its config calls the base.

    `done` is called with the bytes of each weight that was looked at.
    """
    if rank < 1:
        raise BadRecipe(
            f"--rank is {rank}", why="a rank is at least 1", fix="for example --rank 64"
        )
    with BaseWeights.open(tuned) as after, BaseWeights.open(base) as before:
        modules, left_out = _plan(after, before, rank)
        layout = {
            key: ("F32", array.shape)
            for module in modules
            for key, array in method.pack([(module, _shape(module))]).items()
        }
        conv1d = any(module.kind == "conv1d" for module in modules)
        view = _Nothing(str(tuned), {"base_model_name_or_path": name, "fan_in_fan_out": conv1d}, {})
        config = method.merged_config([view], modules, (), {"task_type": "CAUSAL_LM"}, bias=False)
        with TensorWriter(out / WEIGHTS, layout) as writer:

            def make(module: Module) -> tuple[str, float, float]:
                tuned_weight = after.read(f"{module.name}.weight")
                change = work(tuned_weight) - work(before.read(f"{module.name}.weight"))
                change = change.T if module.kind == "conv1d" else change
                kept, residual = leading(Dense(change), module.rank, np.random.default_rng(_SEED))
                stored = LowRank(
                    kept.B.astype(np.float32), np.ascontiguousarray(kept.A).astype(np.float32)
                )
                for key, array in method.pack([(module, stored)]).items():
                    writer.write(key, array)
                for weights in (after, before):
                    weights.drop_pages(f"{module.name}.weight")
                done(tuned_weight.nbytes)
                return (
                    module.key,
                    math.hypot(residual, rounding(kept, stored)),
                    float(np.linalg.norm(change)),
                )

            found = list(run_modules(make, modules, workers=workers or cores()))
            writer.commit()
        write_companions(out, config, {})
    error = Loss(
        relative([a for _, a, _ in found], [s for _, _, s in found]),
        {key: relative([a], [s]) for key, a, s in found},
    )
    return ExtractReport(rank, {m.key: m.rank for m in modules}, error, left_out)


def _plan(
    after: BaseWeights, before: BaseWeights, rank: int
) -> tuple[list[Module], tuple[str, ...]]:
    """The matrices that changed, and the other tensors that did."""
    old, new = before.shapes, after.shapes
    if missing := sorted(old.keys() ^ new.keys()):
        raise BadBase(
            f"{after.layout.directory} and {before.layout.directory} are not one architecture",
            why=f"only one of them has {', '.join(missing[:3])}",
            fix="give the base it was tuned from",
        )
    if other := next((name for name in sorted(old) if old[name] != new[name]), None):
        raise BadBase(
            f"'{other}' is {list(new[other])} in {after.layout.directory} and {list(old[other])} in the base",
            why="a tensor whose shape changed has no difference",
            fix="give the base it was tuned from",
        )
    conv1d = before.layout.config.get("model_type") in _CONV1D
    modules, left_out = [], []
    for name, shape in sorted(old.items()):
        if after.raw(name) == before.raw(name):
            continue
        module, weight, _ = name.rpartition(".weight")
        if len(shape) != 2 or not weight:
            left_out.append(name)
        elif module.rpartition(".")[2] in _EMBEDDINGS:
            modules.append(
                Module(module, "embedding", (shape[0], shape[1]), min(rank, *shape), shape)
            )
        elif conv1d and module != "lm_head":
            modules.append(Module(module, "conv1d", (shape[1], shape[0]), min(rank, *shape), shape))
        else:
            modules.append(Module(module, "linear", (shape[0], shape[1]), min(rank, *shape), shape))
    if not modules:
        raise BadBase(
            f"{after.layout.directory} changes no matrix of its base",
            why="all of them are equal, byte for byte",
            fix="is this the tuned model?",
        )
    return modules, tuple(left_out)


def _shape(module: Module) -> LowRank:
    zero = np.zeros((), np.int8)
    return LowRank(
        np.broadcast_to(zero, (module.shape[0], module.rank)),
        np.broadcast_to(zero, (module.rank, module.shape[1])),
    )
