"""What a bake will write: every tensor of the result, where it comes from, and what happens to it.

All refusals are made here, before anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.bases.checkpoint import declared_quantisation
from adaptkit.bases.layer_replication import Layers
from adaptkit.errors import BakeError, NotFound, Unmergeable
from adaptkit.io.safetensors import STORED_DTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import Module


@dataclass(frozen=True, slots=True)
class Change:
    """`count` rows of a tensor, from `at`, that are rows of a module from `row`; `whole` when it is all of both."""

    module: Module
    at: int
    row: int
    count: int
    whole: bool


@dataclass(slots=True)
class Tensor:
    """One tensor of the result: where it comes from and what happens to it."""

    source: str
    shape: tuple[int, ...]
    dtype: str
    changes: list[Change] = field(default_factory=list)
    biases: list[Module] = field(default_factory=list)
    replaced_by: str = ""
    rows_from: tuple[str, tuple[int, ...]] = ("", ())

    @property
    def changed(self) -> bool:
        return bool(self.changes or self.biases or self.replaced_by or self.rows_from[0])


@dataclass(slots=True)
class BakePlan:
    """Every tensor of the result, what changes in config.json, and what must be said."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    remarks: list[str]


def plan_bake(source: OpenAdapter, weights: BaseWeights, dtype: str | None) -> BakePlan:
    """Find a tensor for everything that the adapter changes."""
    view, method, label = source.adapter, source.method, source.label
    where = weights.layout.directory
    if quantised := declared_quantisation(weights.layout.config):
        raise BakeError(
            f"cannot bake into {where}",
            why=f"its weights are quantised ({quantised.method})",
            fix="bake into the full-precision model it was made from",
        )
    if reason := method.unbakeable(view):
        raise Unmergeable(f"cannot bake {label}", why=reason)
    if dtype is not None and dtype not in STORED_DTYPES:
        raise NotFound("dtype", dtype, STORED_DTYPES)
    layers = Layers.of(view.config.get("layer_replication"), weights.layout.config, label)
    tensors = {
        new: Tensor(name, place.entry.shape, _cast_to(place.entry.dtype, dtype))
        for name, place in (weights.layout.tensors or {}).items()
        for new in layers.copies(name)
    }
    plan = BakePlan(
        tensors,
        ({} if dtype is None else {"dtype": dtype}) | layers.config(weights.layout.config),
        [],
    )
    plan.remarks.extend(layers.remarks)
    finder = _Finder(plan, weights, layers)
    missing: list[str] = []
    for name, key in sorted(method.replacements(view).items()):
        found = finder.tensor(name)
        if found is None:
            missing.append(name)
        else:
            _replace(plan, found, key, view.header[key].shape, label)
    for name, rows in sorted(method.row_replacements(view).items()):
        known = weights.name_of(name)
        if known is None:
            missing.append(name)
        else:
            _replace_rows(plan.tensors[known], known, rows, view.header[rows[0]].shape, label)
    for module in method.modules(view):
        changes = finder.changes(module)
        if not changes:
            missing.append(module.tensor)
            continue
        _check_fit(plan, changes, by_rows=method.by_rows(view), label=label)
        for name, change in changes:
            plan.tensors[name].changes.append(change)
        bias = finder.tensor(f"{module.name}.bias", untie=False)
        if bias is None and method.needs_bias(view, module):
            raise BakeError(
                f"cannot bake {label}",
                why=f"it adds a bias to '{module.name}', a layer that has none "
                "in this architecture",
                fix="keep it as an adapter, or train without lora_bias",
            )
        if bias is not None and method.bias_applier(view, module) is not None:
            plan.tensors[bias].biases.append(module)
    _refuse_missing(missing, label, where)
    if not any(tensor.changed for tensor in tensors.values()) and not layers.remarks:
        raise BakeError(
            f"cannot bake {label}",
            why="it would change nothing in the base",
            fix="look at adaptkit show",
        )
    return plan


def by_file(plan: BakePlan, weights: BaseWeights) -> dict[Path, list[str]]:
    """Which file of the base each tensor's result goes to, under the same name."""
    assert weights.layout.tensors is not None
    files: dict[Path, list[str]] = {file: [] for file in weights.layout.files}
    for name, tensor in plan.tensors.items():
        files[weights.layout.tensors[tensor.source].file].append(name)
    return files


@dataclass(slots=True)
class _Finder:
    """From the names that adapters use to the tensors of the result."""

    plan: BakePlan
    weights: BaseWeights
    layers: Layers

    def tensor(self, wanted: str, *, untie: bool = True) -> str | None:
        """The tensor that a name means."""
        old = self.layers.old_name(wanted)
        found = self.weights.name_of(old) or (wanted if wanted in self.plan.tensors else None)
        if untie:
            found = self._untied(wanted, found)
        return self.layers.new_name(found, wanted) if found is not None else None

    def changes(self, module: Module) -> list[tuple[str, Change]]:
        """Which rows of which tensors a module's update is added to."""
        from dataclasses import replace

        old = replace(
            module,
            name=self.layers.old_name(module.name),
            weight=self.layers.old_name(module.weight),
        )
        pieces = self.weights.pieces(old)
        if not pieces or (len(pieces) == 1 and pieces[0].expert is None):
            found = self._untied(module.tensor, pieces[0].tensor if pieces else None)
            if found is not None and (not pieces or self._shape(found) == module.stored):
                return [
                    (
                        self.layers.new_name(found, module.tensor),
                        Change(module, 0, 0, module.shape[0], whole=True),
                    )
                ]
        return [
            (
                self.layers.new_name(p.tensor, module.tensor),
                Change(module, p.at, p.row, p.count, whole=False),
            )
            for p in pieces
        ]

    def _shape(self, name: str) -> tuple[int, ...]:
        return (
            self.plan.tensors[name].shape
            if name in self.plan.tensors
            else self.weights.shapes[name]
        )

    def _untied(self, wanted: str, found: str | None) -> str | None:
        """A change to one of two tied tensors makes two of them."""
        plan, config = self.plan, self.weights.layout.config
        if config.get("tie_word_embeddings") is not True:
            return found
        embedding = next(
            (n for n in plan.tensors if f".{n}".endswith((".embed_tokens.weight", ".wte.weight"))),
            None,
        )
        head = "lm_head.weight"
        if (
            embedding is None
            or found not in {None, embedding, head}
            or wanted.rpartition(".")[0].rpartition(".")[2]
            not in {"embed_tokens", "wte", "lm_head"}
        ):
            return found
        if head not in plan.tensors:
            tied = plan.tensors[embedding]
            plan.tensors[head] = Tensor(embedding, tied.shape, tied.dtype)
        if "tie_word_embeddings" not in plan.config:
            plan.config["tie_word_embeddings"] = False
            plan.remarks.append(
                f"'{embedding}' and '{head}' were tied; the adapter changes one of them, so they are two tensors now"
            )
        return found or head


def _cast_to(dtype: str, wanted: str | None) -> str:
    return (
        STORED_DTYPES[wanted]
        if wanted is not None and dtype in set(STORED_DTYPES.values())
        else dtype
    )


def _replace(plan: BakePlan, name: str, key: str, shape: tuple[int, ...], label: str) -> None:
    tensor = plan.tensors[name]
    if shape != tensor.shape:
        if shape[1:] != tensor.shape[1:] or len(shape) != 2:
            raise BakeError(
                f"cannot bake {label}",
                why=f"it brings '{name}' as {list(shape)}, the base has {list(tensor.shape)}",
                fix="give the base it was trained on",
            )
        plan.config["vocab_size"] = shape[0]
        plan.remarks.append(f"'{name}' has {shape[0]} rows instead of {tensor.shape[0]}")
    tensor.shape, tensor.replaced_by = shape, key


def _replace_rows(
    tensor: Tensor, name: str, rows: tuple[str, tuple[int, ...]], shape: tuple[int, ...], label: str
) -> None:
    worst = max(rows[1], default=0)
    if len(tensor.shape) != 2 or shape[1:] != tensor.shape[1:] or worst >= tensor.shape[0]:
        raise BakeError(
            f"cannot bake {label}",
            why=f"it brings row {worst} of '{name}' as {list(shape[1:])}, the base has "
            f"{list(tensor.shape)}",
            fix="give the base it was trained on, its embeddings resized as then",
        )
    tensor.rows_from = rows


def _check_fit(
    plan: BakePlan, changes: list[tuple[str, Change]], *, by_rows: bool, label: str
) -> None:
    for name, change in changes:
        module, shape = change.module, plan.tensors[name].shape
        fits = (
            shape == module.stored
            if change.whole
            else len(shape) == 2 and shape[1] == module.shape[1]
        )
        if not fits:
            raise BakeError(
                f"cannot bake {label}",
                why=f"'{module.name}' is {list(module.stored)} in it and {list(shape)} in the base",
                fix="give the base it was trained on",
            )
        part_only = not change.whole and change.count < module.shape[0] and not by_rows
        if part_only or (not change.whole and module.transposed):
            raise BakeError(
                f"cannot bake {label}",
                why=f"its update of '{module.name}' needs the whole weight, which the base "
                "keeps in pieces",
                fix="save the base fused, or keep the adapter apart",
            )


def _refuse_missing(missing: list[str], label: str, where: Path) -> None:
    if missing:
        shown = ", ".join(missing[:4]) + (
            f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        )
        raise BakeError(
            f"{label} does not fit the base {where}",
            why=f"the base has no {shown}",
            fix="give the base it was trained on",
        )
