"""Write down what was learned of a version later."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from adaptkit.errors import BadReference
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
    for key, value in (metrics or {}).items():
        if not math.isfinite(value):
            raise BadReference(
                f"the metric '{key}' is {value}",
                why="a metric is a finite number",
                fix=f"for example --metric {key}=0.93",
            )
    for text in (*tags, message or "", description or "", *(metrics or {})):
        _check_text(text)
    noted = context.registry.annotate(
        version.name,
        version.number,
        message=message,
        tags=tuple(tags),
        metrics=metrics or {},
        description=description,
        without_tags=tuple(without_tags),
        without_metrics=tuple(without_metrics),
        author=context.config.author,
    )
    emit(context, "noted", noted.ref, noted.digest)
    return noted


_UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")


def _check_text(text: str) -> None:
    if _UNWRITABLE.search(text):
        raise BadReference(
            f"cannot write down {text!r}",
            why="it holds a NUL or half a character",
            fix="type it again without",
        )
