"""Replay: older rows mixed into the new ones, so that what was learned before stays.

Notable choices:
- the mix depends on the seed and the files alone, and is recorded
- a reservoir is drawn in one pass, so a file larger than memory will do (Vitter, Algorithm R)
- without the old data, the base itself writes the buffer: it is asked for whole texts at temperature 1, and all of
  each text counts (arXiv 2605.26097)
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.training.base_model import load_model
from adaptkit.training.data.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from adaptkit.training.data.datasets import DataFacts, DataFile
    from adaptkit.training.data.rows import Row

_AT_ONCE = 16  # texts that the base writes side by side


@dataclass(frozen=True, slots=True)
class Replay:
    """What was mixed in: so many rows of these files, so many that the base wrote."""

    rows: int = 0
    from_base: int = 0
    ratio: float = 0.0
    files: tuple[DataFacts, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "from_base": self.from_base,
            "ratio": round(self.ratio, 6),
            "files": [one.to_json() for one in self.files],
        }


def wanted(own: int, ratio: float) -> int:
    """How many rows of replay make up `ratio` of all rows beside `own` new ones."""
    return round(own * ratio / (1 - ratio))


def draw(files: Sequence[DataFile], count: int, seed: int) -> list[tuple[str, Row]]:
    """`count` rows of the files with where each stands, evenly chosen; rows repeat when there are fewer."""
    chance = random.Random(f"replay-{seed}")  # noqa: S311  (a mix, not a secret)
    kept: list[tuple[str, Row]] = []
    for seen, one in enumerate(_all(files)):
        if len(kept) < count:
            kept.append(one)
        elif (place := chance.randrange(seen + 1)) < count:
            kept[place] = one
    while kept and len(kept) < count:
        kept += kept[: count - len(kept)]
    chance.shuffle(kept)
    return kept


def write_from_base(
    base: Path, tokenizer: Any, count: int, length: int, seed: int, done: Callable[[int], None]
) -> Iterator[Tokens]:
    """Texts that the base writes by itself, as tokens that all count."""
    import torch

    model = load_model(base)
    where = model.device
    end = tokenizer.eos_token_id
    starts = (tokenizer.bos_token_id, end, model.config.bos_token_id)
    start = next((one for one in starts if one is not None), 0)
    torch.manual_seed(seed)
    for begin in range(0, count, _AT_ONCE):
        size = min(_AT_ONCE, count - begin)
        with torch.no_grad():
            out = model.generate(
                input_ids=torch.full((size, 1), start, device=where),
                attention_mask=torch.ones((size, 1), dtype=torch.long, device=where),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=length - 1,
                pad_token_id=start if end is None else end,
            )
        for ids in out.tolist():
            yield _whole(ids, end)
        done(size)


def _whole(ids: list[int], end: int | None) -> Tokens:
    """Up to the first end token; the start is given, all else counts."""
    if end is not None and end in ids[1:]:
        ids = ids[: ids.index(end, 1) + 1]
    return Tokens(tuple(ids), (False,) + (True,) * (len(ids) - 1))


def _all(files: Sequence[DataFile]) -> Iterator[tuple[str, Row]]:
    for file in files:
        for number, row in enumerate(file.rows(), 1):
            yield f"row {number} of {file.path.name}", row
