"""Which modules of the base an adapter changes: `auto`, `all-linear`, names or a regex, checked against the base."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.errors import TrainingError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z0-9_.]+")
ALL_LINEAR = "all-linear"


def targets(text: str, shapes: Mapping[str, tuple[int, ...]] | None) -> list[str] | str | None:
    """PEFT's `target_modules`; None leaves the choice to PEFT. A name or regex that matches nothing is an error."""
    if text == "auto":
        return None
    if text == ALL_LINEAR:
        return ALL_LINEAR
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise TrainingError(
            "cannot choose target modules",
            why="--target-modules is empty",
            fix="for example: --target-modules q_proj,v_proj; without it they are chosen",
        )
    modules = None if shapes is None else _modules(shapes)
    if names and all(_NAME.fullmatch(name) for name in names):
        for name in names:
            if modules is not None and not any(
                module == name or module.endswith(f".{name}") for module in modules
            ):
                _nothing(name, modules)
        return names
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise TrainingError(
            f"cannot read the target modules '{text}'",
            why=f"it is no regex: {error}",
            fix="for example: --target-modules q_proj,v_proj",
        ) from error
    if modules is not None and not any(_matches(pattern, module) for module in modules):
        _nothing(text, modules)
    return text


def _modules(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Every module with a matrix."""
    return [
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) >= 2
    ]


def _matches(pattern: re.Pattern[str], module: str) -> bool:
    """As PEFT does, whole; with and without the prefix that a checkpoint may leave out."""
    return any(
        pattern.fullmatch(name) for name in (module, f"model.{module}", module.partition(".")[2])
    )


def _nothing(asked: str, modules: list[str]) -> None:
    known = {module.rpartition(".")[2] for module in modules}
    raise TrainingError(
        f"the target modules '{asked}' match nothing in the base",
        why=f"nearest are {', '.join(nearest(asked.rpartition('.')[2], known, show=6))}",
        fix="--target-modules all-linear takes every one but the head",
    )
