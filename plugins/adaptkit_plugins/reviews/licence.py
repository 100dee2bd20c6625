"""What is published says under which licence.

Off until config.toml has `[review] enable = ["licence"]`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.extend.review import Objection, Publish
from adaptkit.hookspecs import hookimpl
from adaptkit.io.text import text_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from adaptkit.extend.review import Action

_FILE = re.compile(r"(?i)(?:licen[cs]e|copying)(?:\.(?:md|txt|rst))?")
_SAID = re.compile(r"(?:license|license_name)\s*:\s*[\"']?(?!null\b|unknown\b|~)[A-Za-z0-9]")

REVIEW = "licence"


@hookimpl
def review(action: Action) -> Iterable[Objection] | None:
    """Object to publishing what names no licence.

    In the front matter of its README.md, or in a LICENSE file.
    """
    if (
        not isinstance(action, Publish)
        or not action.reviews.on(REVIEW, default=False)
        or _licensed(action.paths)
    ):
        return None
    return [
        Objection(
            f"{action.version.ref} names no licence: write 'license: apache-2.0' (or another) between the '---' "
            "lines at the top of its README.md, or add a LICENSE file with --include"
        )
    ]


def _licensed(paths: Mapping[str, Path]) -> bool:
    if any(_FILE.fullmatch(path) and source.stat().st_size for path, source in paths.items()):
        return True
    card = paths.get("README.md")
    if card is None:
        return False
    inside = False
    for number, line in text_lines(card):
        if line.strip() == "---":
            if number > 1:
                return False
            inside = True
        elif not inside:
            return False
        elif _SAID.match(line):
            return True
    return False
