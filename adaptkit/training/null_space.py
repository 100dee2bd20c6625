"""Weights of a merge by null-space compression (NSC, arXiv 2603.26317).

Training an adapter turns the rows of its A towards what its modules read. So the weights are chosen by descent such
that, on each parent's own prompts, what goes into every module *of the merged model* lies as far as it can in the rows
of that parent's A. The loss is the mean, over parents, modules and tokens, of ‖x − Px‖/‖x‖ with P = Aᵀ(AAᵀ)⁻¹A.

Notable choices:
- a weight for each adapter and module; the merged model is the base with the updates added as it runs, W + Σ wᵢDᵢ
- no label is read, and no output: only what goes into the modules counts
- evaluation mode, an order from the seed, held-out prompts that decide which step is kept: as when distilling
- small steps, and no credit for a share below what a parent has alone: driven further down, the measure falls on while
  both skills are lost (seen with the demo's adapters at ten times the rate)
- weights are rounded before the held-out prompts are looked at, so what was measured is what the recipe holds
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError
from adaptkit.io.progress.progress import no_progress
from adaptkit.training.data.prompts import endless
from adaptkit.training.live import module_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from adaptkit.extend import LowRank
    from adaptkit.io.progress.progress import Progress
    from adaptkit.training.data.tokens import Tokens
    from adaptkit.training.distil import Schedule, Teacher
    from adaptkit.training.live import LiveModel

DECIMALS = 4
"""What a weight is rounded to: a recipe that a person can read."""
NOTHING = 1e-8
"""Below this share an input counts as inside A's rows; the root of the share has no gradient at 0."""


@dataclass(frozen=True, slots=True)
class Look:
    """The held-out prompts of one parent: the mean share of its inputs outside the rows of its A.

    With the starting weights, with those that were kept, and with this parent alone.
    """

    before: float
    after: float
    alone: float

    def to_json(self) -> dict[str, float]:
        return {"before": self.before, "after": self.after, "alone": self.alone}


@dataclass(frozen=True, slots=True)
class Weighed:
    """Weights by adapter and module, the steps it took, the step that was kept, and the held-out prompts."""

    weights: Mapping[str, Mapping[str, float]]
    steps: int
    kept: int
    held_out: Mapping[str, Look]

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "kept": self.kept,
            "held_out": {label: look.to_json() for label, look in self.held_out.items()},
        }


class WeightedSum:
    """A base in memory with a weighted sum of low-rank updates on its modules, differentiable in the weights.

    `updates` maps adapters to modules to factors; `start` has each adapter's first weight.
    """

    def __init__(
        self,
        live: LiveModel,
        updates: Mapping[str, Mapping[str, LowRank]],
        start: Mapping[str, float],
    ) -> None:
        import torch

        self._live = live
        self.terms = [(label, name) for label, found in updates.items() for name in found]
        first = [start[label] for label, _ in self.terms]
        self.weights = torch.tensor(first, requires_grad=True, device=live.device)
        self._parts: dict[str, list[tuple[int, _Part]]] = {}
        for at, (label, name) in enumerate(self.terms):
            module_in(live.model, name, label)
            part = _Part(updates[label][name], live.device)
            self._parts.setdefault(name, []).append((at, part))

    def shares(self, parent: str, rows: Sequence[Tokens], weights: Any = None) -> Any:
        """By each module of a parent: the mean over all tokens of the share of its input outside the rows of its A."""
        import torch

        given = self.weights if weights is None else weights
        ids, mask = self._live.batch(rows)
        found: list[Any] = []
        with self._live.switched(None) as model, self._added(model, given, parent, mask, found):
            model(input_ids=ids, attention_mask=mask, use_cache=False)
        if not found:
            raise AdaptkitError(
                f"cannot weigh {parent}",
                why="none of its modules is fed one vector a token",
                fix="leave out --weigh, and give it a weight by hand: REF=W",
            )
        return torch.stack(found)

    def alone(self, parent: str) -> Any:
        """The weights that leave one adapter as it is and the others out."""
        import torch

        only = [float(label == parent) for label, _ in self.terms]
        return torch.tensor(only, device=self.weights.device)

    @contextmanager
    def _added(
        self, model: Any, weights: Any, parent: str, mask: Any, found: list[Any]
    ) -> Iterator[None]:
        """The updates added while the model runs; the shares of one parent's modules go into `found`."""

        def hook(name: str) -> Any:
            def add(_: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> Any:
                x = (args[0] if args else next(iter(kwargs.values()))).float()
                for at, part in self._parts[name]:
                    if self.terms[at][0] == parent and x.shape[:2] == mask.shape:
                        found.append(part.outside(x[mask.bool()]).mean())
                    out = out + (weights[at] * part.update(x)).to(out.dtype)
                return out

            return add

        hooks = [
            module_in(model, name, parent).register_forward_hook(hook(name), with_kwargs=True)
            for name in self._parts
        ]
        try:
            yield
        finally:
            for one in hooks:
                one.remove()


class _Part:
    """One adapter's update of one module, and an orthonormal basis of the rows of its A."""

    def __init__(self, update: LowRank, device: Any) -> None:
        import numpy as np
        import torch

        a = update.A.astype(np.float64)
        _, values, rows = np.linalg.svd(a, full_matrices=False)
        rows = rows[values > values[:1] * 1e-7]

        def held(values: Any) -> Any:
            return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)

        self._a, self._b = held(update.A), held(update.B * update.scale)
        self._bias = None if update.bias is None else held(update.bias)
        self._rows = held(rows)

    def update(self, x: Any) -> Any:
        out = (x @ self._a.T) @ self._b.T
        return out if self._bias is None else out + self._bias

    def outside(self, x: Any) -> Any:
        """‖x − Px‖/‖x‖ of each vector, P the projector on the rows of A."""
        left = x - (x @ self._rows.T) @ self._rows
        share = left.square().sum(-1) / x.square().sum(-1).clamp_min(NOTHING)
        return share.clamp_min(NOTHING).sqrt()


def weigh(
    live: LiveModel,
    parents: Sequence[Teacher],
    updates: Mapping[str, Mapping[str, LowRank]],
    start: Mapping[str, float],
    how: Schedule,
    progress: Progress = no_progress,
) -> Weighed:
    """Choose the weights; those of the step that did best on the held-out prompts are returned."""
    import torch

    merged = WeightedSum(live, updates, start)
    weights = merged.weights
    optimizer = torch.optim.Adam([weights], lr=how.rate)
    orders = [endless(one.rows, f"{how.seed}-{one.label}") for one in parents]
    alone = {
        one.label: _held_out(merged, one, how.batch, merged.alone(one.label)) for one in parents
    }
    before = best = _look(merged, parents, how.batch)
    kept, saved, since, step = 0, weights.detach().clone(), 0, 0
    while step < how.steps and since < how.patience:
        for parent, order in zip(parents, orders, strict=True):
            rows = list(islice(order, min(how.batch, len(parent.rows))))
            loss = merged.shares(parent.label, rows).mean() / len(parents)
            if loss.requires_grad:  # not where only the first modules of the model change
                loss.backward()
        if weights.grad is None:
            raise AdaptkitError(
                f"cannot weigh {' and '.join(start)}",
                why="what goes into the modules that they change does not depend on their weights",
                fix="leave out --weigh, and give the weights by hand: REF=W",
            )
        if not torch.isfinite(weights.grad).all():
            raise AdaptkitError(
                f"weighing went wrong at step {step + 1}",
                why="a gradient is NaN or Inf",
                fix="look whether the adapters and the base hold such values: adaptkit verify",
            )
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        progress(1)
        if step % how.every == 0 or step == how.steps:
            with torch.no_grad():
                weights.copy_((weights * 10**DECIMALS).round() / 10**DECIMALS)
            now = _look(merged, parents, how.batch)
            if _total(now, alone) < _total(best, alone):
                best, kept, saved, since = now, step, weights.detach().clone(), 0
            else:
                since += 1
    chosen: dict[str, dict[str, float]] = {label: {} for label in updates}
    for (label, name), value in zip(merged.terms, saved.tolist(), strict=True):
        chosen[label][name] = round(value, DECIMALS)
    looks = {label: Look(before[label], best[label], alone[label]) for label in before}
    return Weighed(chosen, step, kept, looks)


def _look(merged: WeightedSum, parents: Sequence[Teacher], batch: int) -> dict[str, float]:
    return {one.label: _held_out(merged, one, batch) for one in parents}


def _total(looks: Mapping[str, float], alone: Mapping[str, float]) -> float:
    return math.fsum(max(look, alone[label]) for label, look in looks.items())


def _held_out(merged: WeightedSum, parent: Teacher, batch: int, weights: Any = None) -> float:
    """The mean share over the held-out rows of one parent, a batch at a time."""
    import torch

    total = 0.0
    for at in range(0, len(parent.held_out), batch):
        rows = parent.held_out[at : at + batch]
        with torch.no_grad():
            total += float(merged.shares(parent.label, rows, weights).mean()) * len(rows)
    return total / len(parent.held_out)
