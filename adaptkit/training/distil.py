"""Distil: train a merged adapter for a few steps so that on each parent's prompts it says what that parent says.

Notable choices:
- the loss is KL(parent ‖ student) on the answers' tokens, each teacher counting alike; AdamW, constant rate
- one base in memory: a teacher is an adapter switched on, or the bare base for what must stay as it is
- everything runs in evaluation mode (no dropout) and the order comes from the seed: same inputs, same steps
- prompts that were held out decide which step is kept, and when to stop
- teachers' probabilities are kept while they fit in a bounded memory, and computed again beyond that
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError
from adaptkit.io.progress.progress import no_progress
from adaptkit.training.data.prompts import endless

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.io.progress.progress import Progress
    from adaptkit.training.data.tokens import Tokens
    from adaptkit.training.live import LiveModel

KEPT = 256 << 20  # bytes of teachers' probabilities that are kept


@dataclass(frozen=True, slots=True)
class Teacher:
    """Who teaches (an adapter's name, None is the bare base), what it is called, its rows to learn from and held out."""

    label: str
    adapter: str | None
    rows: Sequence[Tokens]
    held_out: Sequence[Tokens]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How to train: `patience` is how many looks at the held-out rows without progress end it."""

    steps: int = 50
    rate: float = 1e-3
    batch: int = 16
    every: int = 10
    patience: int = 3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """The held-out rows of one teacher: mean divergence per token, and the share of rows whose every token is the teacher's."""

    divergence: float
    same: float

    def to_json(self) -> dict[str, float]:
        return {"divergence": self.divergence, "same": self.same}


@dataclass(frozen=True, slots=True)
class Distilled:
    """What training did: the steps it ran, the step it kept, and the held-out rows before and after, by teacher."""

    steps: int
    kept: int
    before: Mapping[str, Look]
    after: Mapping[str, Look]

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "kept": self.kept,
            "held_out": {
                label: {"before": self.before[label].to_json(), "after": look.to_json()}
                for label, look in self.after.items()
            },
        }


def distil(
    live: LiveModel,
    student: str,
    teachers: Sequence[Teacher],
    how: Schedule,
    progress: Progress = no_progress,
) -> Distilled:
    """Train the student in place; at the end it is as it was at the step that did best on the held-out rows."""
    import torch

    lessons = _Lessons(live)
    weights = live.trainable(student)
    optimizer = torch.optim.AdamW(list(weights.values()), lr=how.rate, weight_decay=0.0)
    orders = [endless(teacher.rows, f"{how.seed}-{teacher.label}") for teacher in teachers]
    before = best = _look(live, student, teachers, lessons, how.batch)
    kept, saved, since, step = 0, _copy(weights), 0, 0
    while step < how.steps and since < how.patience:
        groups = [
            list(islice(order, min(how.batch, len(teacher.rows))))
            for teacher, order in zip(teachers, orders, strict=True)
        ]
        targets = [
            lessons.of(teacher.adapter, rows)
            for teacher, rows in zip(teachers, groups, strict=True)
        ]
        with live.switched(student) as model:
            own = _log_probabilities(live, model, [row for rows in groups for row in rows])
        loss = _mean_divergence(own, groups, targets)
        if not torch.isfinite(loss):
            raise AdaptkitError(
                f"distilling went wrong at step {step + 1}",
                why="the loss is NaN or Inf",
                fix=f"a smaller --rate than {how.rate:g}",
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        progress(1)
        if step % how.every == 0 or step == how.steps:
            now = _look(live, student, teachers, lessons, how.batch)
            if _total(now) < _total(best):
                best, kept, saved, since = now, step, _copy(weights), 0
            else:
                since += 1
    with torch.no_grad():
        for name, value in saved.items():
            weights[name].copy_(value)
    return Distilled(step, kept, before, best)


@dataclass(slots=True)
class _Lessons:
    """Log-probabilities of teachers at every counted token, a row at a time kept while there is room."""

    live: LiveModel
    kept: dict[tuple[str | None, tuple[int, ...]], Any] = field(default_factory=dict)
    room: int = KEPT

    def of(self, adapter: str | None, rows: Sequence[Tokens]) -> Any:
        """One line of the vocabulary's size for each counted token of the rows, in order."""
        import torch

        new = list(dict.fromkeys(row for row in rows if (adapter, row.ids) not in self.kept))
        found = {row.ids: self.kept.get((adapter, row.ids)) for row in rows}
        if new:
            with self.live.switched(adapter) as model, torch.no_grad():
                parts = _log_probabilities(self.live, model, new)
            for row, part in zip(new, parts, strict=True):
                found[row.ids] = part
                size = part.element_size() * part.nelement()
                if size <= self.room:
                    self.kept[adapter, row.ids] = part.clone()
                    self.room -= size
        return torch.cat([found[row.ids] for row in rows])


def _log_probabilities(live: LiveModel, model: Any, rows: Sequence[Tokens]) -> list[Any]:
    """For each row, the log-probabilities at the positions that say its answer's tokens."""
    ids, mask = live.batch(rows)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return [
        logits[i, len(row.prompt) - 1 : len(row.ids) - 1].float().log_softmax(-1)
        for i, row in enumerate(rows)
    ]


def _mean_divergence(
    own: Sequence[Any], groups: Sequence[Sequence[Tokens]], targets: Sequence[Any]
) -> Any:
    """KL(teacher ‖ student): the mean over each teacher's counted tokens, then over the teachers."""
    import torch

    left, losses = list(own), []
    for rows, target in zip(groups, targets, strict=True):
        part, left = torch.cat(left[: len(rows)]), left[len(rows) :]
        kl = torch.nn.functional.kl_div(part, target, reduction="sum", log_target=True)
        losses.append(kl / target.shape[0])
    return torch.stack(losses).mean()


def _look(
    live: LiveModel,
    student: str,
    teachers: Sequence[Teacher],
    lessons: _Lessons,
    batch: int,
) -> dict[str, Look]:
    """The held-out rows, as the student says them now."""
    import torch

    found = {}
    for teacher in teachers:
        total, same, tokens = 0.0, 0, 0
        for at in range(0, len(teacher.held_out), batch):
            rows = teacher.held_out[at : at + batch]
            target = lessons.of(teacher.adapter, rows)
            with live.switched(student) as model, torch.no_grad():
                parts = _log_probabilities(live, model, rows)
            own = torch.cat(parts)
            total += float(
                torch.nn.functional.kl_div(own, target, reduction="sum", log_target=True)
            )
            tokens += target.shape[0]
            agrees = (own.argmax(-1) == target.argmax(-1)).split([p.shape[0] for p in parts])
            same += sum(bool(part.all()) for part in agrees)
        found[teacher.label] = Look(total / max(1, tokens), same / len(teacher.held_out))
    return found


def _total(looks: Mapping[str, Look]) -> float:
    found = math.fsum(look.divergence for look in looks.values())
    return found if math.isfinite(found) else math.inf


def _copy(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in weights.items()}
