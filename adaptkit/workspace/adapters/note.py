"""Write down what was learned of a version later."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError, BadReference
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.lookup.artifacts import (
    find_version,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context


def note(
    context: Context,
    ref: str,
    *,
    message: str | None = None,
    tags: Sequence[str] = (),
    metrics: Mapping[str, float] | None = None,
    description: str | None = None,
    without_tags: Sequence[str] = (),
    without_metrics: Sequence[str] = (),
) -> Version:
    """Write down what was learned later.

    A message, tags and metrics of a version, the description of its adapter. `without_tags` and
    `without_metrics` are taken away; `NotFound` lists those that are there.
    """
    version = find_version(context, ref)
    learned = (message, description, *tags, *without_tags, *without_metrics, *(metrics or {}))
    if all(one is None for one in learned):
        raise AdaptkitError(
            f"there is nothing to note on {version.ref}",
            why="no message, tag, metric or description is given, and none to take away",
            fix=f"for example: adaptkit note {version.ref} --tag approved",
        )
    numbers = {key: _number(key, value) for key, value in (metrics or {}).items()}
    for text in (*tags, message or "", description or "", *numbers):
        _check_text(text)
    noted = context.registry.annotate(
        version.name,
        version.number,
        message=message,
        tags=tuple(tags),
        metrics=numbers,
        description=description,
        without_tags=tuple(without_tags),
        without_metrics=tuple(without_metrics),
        author=context.config.author,
    )
    emit(context, "noted", noted.ref, noted.digest)
    return noted


_UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")


def _number(metric: str, value: float) -> float:
    """A metric's value, a number of numpy or torch too."""
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadReference(
            f"the metric '{metric}' is {value!r}",
            why="a metric is a finite number",
            fix=f"for example --metric {metric}=0.93",
        )
    return number


def _check_text(text: str) -> None:
    if _UNWRITABLE.search(text):
        raise BadReference(
            f"cannot write down {text!r}",
            why="it holds a NUL or half a character",
            fix="type it again without",
        )
