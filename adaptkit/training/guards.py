"""The field's silent failures, looked for before and after training.

Each guard returns nothing when all is well, raises `TrainingError` where the result would be worthless, and
returns a warning where a person must judge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from adaptkit.extend.training import TrainResult

_NAMED = 3  # examples in a warning
_FEW = 8  # losses that say something about a trend
_APART = 1e-3  # relative; a reload in the same dtype is exact, one in bfloat16 is off by 0.01


@dataclass(slots=True)
class Looked:
    """What was noticed while rows became tokens."""

    rows: int = 0
    tokens: int = 0
    counted: int = 0
    masked: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    masked_rows: int = 0
    cut_rows: int = 0

    def note_masked(self, where: str) -> None:
        self.masked_rows += 1
        if len(self.masked) < _NAMED:
            self.masked.append(where)

    def note_cut(self, where: str) -> None:
        self.cut_rows += 1
        if len(self.cut) < _NAMED:
            self.cut.append(where)


def check_rows(looked: Looked, length: int) -> list[str]:
    """All labels masked; answers cut off by length."""
    if not looked.rows:
        raise TrainingError(
            f"none of the {looked.masked_rows} rows has a token to learn",
            why=f"every answer is beyond the first {length} tokens"
            if looked.cut_rows
            else "every label is masked",
            fix="a longer --length, or --no-completion-only",
        )
    warnings = []
    if looked.masked_rows:
        warnings.append(
            f"{_rows(looked.masked_rows)} left out, because no token of the answer is within the first {length}: "
            f"{_named(looked.masked, looked.masked_rows)}"
        )
    if looked.cut_rows > looked.masked_rows:
        count = looked.cut_rows - looked.masked_rows
        left = [where for where in looked.cut if where not in looked.masked]
        warnings.append(
            f"{_rows(count)} cut off at {length} tokens, so that the end of the answer is not learned: "
            f"{_named(left, count)}"
        )
    return warnings


def check_end(end: int | None, forms: Iterable[str]) -> list[str]:
    """A tokenizer without an end token: what is learned of rows that no chat template writes has no end."""
    if end is not None or set(forms) <= {"messages", "sharegpt"}:
        return []
    return [
        "the base's tokenizer has no end token, so the adapter does not learn where an answer ends"
    ]


def check_rank(peft: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """LoRA of a rank above that of every matrix: it costs memory and holds no more."""
    rank = int(peft["r"]) if peft["peft_type"] == "LORA" else 0
    most = max((min(shape) for shape in shapes.values() if len(shape) == 2), default=rank)
    if rank <= most:
        return []
    return [
        f"rank {rank:,} is above that of every matrix of the base ({most:,}), and holds no more"
    ]


def check_overlap(shared: int, total: int) -> list[str]:
    """Prompts that are both learned and measured."""
    if not shared:
        return []
    return [
        f"{shared} of the {total} evaluation prompts are among the training prompts, so their loss proves little"
    ]


def check_replay(again: int, total: int) -> list[str]:
    """Replayed rows that are trained on anyway."""
    if not again:
        return []
    return [
        f"{again} of the {total} replayed rows ask what is trained on anyway, so they keep nothing that was learned before"
    ]


def check_result(result: TrainResult, lr: float) -> list[str]:
    """An adapter that did not change, a loss that did not fall, a save that does not come back."""
    if result.steps <= result.first_step:
        raise TrainingError(
            "no step was trained",
            why=f"the run stands at step {result.steps}, where it began",
            fix="more --steps or --epochs",
        )
    if not result.moved:
        raise TrainingError(
            "the adapter did not change",
            why=f"none of its {result.tensors} trained tensors differs from what it started as",
            fix=f"a higher learning rate than {lr:g}, or more steps",
        )
    if result.apart is not None and result.apart > _APART:
        raise TrainingError(
            "the saved adapter does not return what the trained one did",
            why=f"their logits differ by {result.apart:.2g}, relative to the largest",
            fix="report it with the versions that `pip list` shows for peft, transformers and trl",
        )
    losses = [loss for _, loss in result.losses]
    if len(losses) >= _FEW:
        third = len(losses) // 3
        first, last = sum(losses[:third]) / third, sum(losses[-third:]) / third
        if last >= first:
            return [
                f"the loss did not fall: {first:.3g} at first, {last:.3g} at the end; another --lr, or other data?"
            ]
    return []


def check_resumed(result: TrainResult, step: int, before: float | None) -> list[str]:
    """A resumed run goes on at its checkpoint's step, with a loss like the one before."""
    if result.first_step != step:
        raise TrainingError(
            f"the run did not go on at step {step}",
            why=f"it began at step {result.first_step}",
            fix="start anew with --fresh",
        )
    after = next((loss for at, loss in result.losses if at > step), None)
    if before is not None and after is not None and after > 2 * before + 0.5:
        return [
            f"the loss rose from {before:.3g} to {after:.3g} when the run went on: look whether the data is the same"
        ]
    return []


def _rows(count: int) -> str:
    return f"{count:,} row is" if count == 1 else f"{count:,} rows are"


def _named(examples: list[str], count: int) -> str:
    more = count - len(examples)
    return ", ".join(examples) + (f" and {more:,} more" if more > 0 else "")
