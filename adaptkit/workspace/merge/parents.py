"""What merges that read the parents' prompts share: the files, their rows, and how long to learn from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, BadRecipe
from adaptkit.io.safe_paths import user_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.training.data.prompts import Asked, Prompts
    from adaptkit.training.data.tokens import Tokens
    from adaptkit.training.distil import Schedule, Teacher
    from adaptkit.training.live import LiveModel


def schedule(steps: int, rate: float, batch: int, held_out: float, seed: int) -> Schedule:
    """How to learn; `BadRecipe` names the choice that is out of its range."""
    from adaptkit.training.distil import Schedule

    for option, value, low, high in (
        ("--steps", steps, 1, 100_000),
        ("--rate", rate, 1e-9, 1.0),
        ("--batch", batch, 1, 4096),
        ("--held-out", held_out, 0.01, 0.9),
    ):
        if not low <= value <= high:
            raise BadRecipe(f"{option} is {value}", why=f"it is from {low} to {high}")
    return Schedule(steps, rate, batch, seed=seed)


def read_parents(paths: Mapping[str, Any]) -> dict[str, Prompts]:
    """The prompts of each parent by its name; one prompt under two of them is refused."""
    from adaptkit.training.data.prompts import read_prompts

    files = {label: read_prompts(user_path(path)) for label, path in paths.items()}
    owner: dict[Any, str] = {}
    for label, prompts in files.items():
        if len(prompts.rows) < 2:
            raise AdaptkitError(
                f"{paths[label]} has one prompt",
                why="one is learned from and another is held out",
                fix=f"give at least two prompts of {label}; 32 are a good number",
            )
        for row in prompts.rows:
            if (first := owner.setdefault(row.prompt, label)) != label:
                raise AdaptkitError(
                    f"line {row.line} of {paths[label]} is a prompt of {first} too",
                    why=f"the result cannot say what {first} says and what {label} says",
                    fix="leave it in the file of the one that is to be followed",
                )
    return files


def left_out(label: str, lines: Sequence[int], longest: int) -> str:
    """What is said of prompts that nothing can be answered to."""
    named = ", ".join(map(str, lines[:3])) + (f" and {len(lines) - 3} more" if lines[3:] else "")
    return (
        f"{len(lines)} prompts of {label} are left out (line {named}): they hold no token, or leave no room for an "
        f"answer in {longest}"
    )


def teacher_of(
    live: LiveModel,
    label: str,
    adapter: str | None,
    prompts: Prompts,
    how: Any,
    held_out: float,
    notify: Callable[[str], None],
) -> Teacher:
    """The rows of one teacher, every prompt answered, apart from those that are held out."""
    from adaptkit.training.data.prompts import split
    from adaptkit.training.distil import Teacher

    without: list[int] = []

    def ready(rows: Sequence[Asked]) -> list[Tokens]:
        tokens, lines = live.ready(adapter, rows, how.batch, prompted=True)
        without.extend(lines)
        return [row for row in tokens if row.answered]

    learn, held = map(ready, split(prompts.rows, held_out, how.seed))
    if without:
        notify(left_out(label, sorted(without), live.longest))
    if not learn or not held:
        raise AdaptkitError(
            f"the prompts of {label} leave no room for an answer",
            why=f"a row has at most {live.longest} tokens",
            fix="shorten the prompts",
        )
    return Teacher(label, adapter, learn, held)
