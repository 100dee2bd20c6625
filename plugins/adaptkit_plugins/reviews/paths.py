"""No local path, and no user name in one, is published with an adapter.

`[review] disable = ["paths"]` switches it off. `adaptkit.json` is fixed when an artifact is made,
so a path there (a merge of folders given by absolute paths) is a warning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.extend.review import Objection, Publish, Severity
from adaptkit.hookspecs import hookimpl
from adaptkit.io.text import text_lines
from adaptkit.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from adaptkit.extend.review import Action

_EXAMPLE_USER = r"(?!(?i:users?|username|you|your[-_]?(?:user)?name|me|name|someone)\b)"  # as examples are written
_PART = r"[\w.@+-]+"
_LONG = r"[\w.@+-]{3,}"  # shorter parts are found in any tokenizer's vocabulary
_HOME = re.compile(
    rf"(?<![\w/.:-])(?:file://)?/(?:home|Users|export/home|mnt/c/Users|cygdrive/c/Users)/{_EXAMPLE_USER}({_PART})(?:/{_PART}){{0,8}}"
)
_WINDOWS_HOME = re.compile(
    rf"(?<![A-Za-z0-9])[A-Za-z]:(?:\\{{1,4}}|/)Users(?:\\{{1,4}}|/){_EXAMPLE_USER}([\w.@+ -]{{1,40}})(?=\\|/)"
)
_LOCAL = re.compile(
    r"(?<![\w/.:-])(?:file://)?/(?:root|mnt|media|tmp|private|Volumes|scratch|workspaces?|content|kaggle|data|srv|nfs|gpfs|"
    rf"lustre|efs|fsx|var/folders|var/tmp)(?:/{_PART}){{1,8}}"
)
_WINDOWS = re.compile(rf"(?<![A-Za-z0-9])[A-Za-z]:\\{{1,4}}{_LONG}(?:\\{{1,4}}{_LONG}){{1,8}}")
_SHOWN = 20
_LONGEST = 80

REVIEW = "paths"


@hookimpl
def review(action: Action) -> Iterable[Objection] | None:
    """Object to publishing local paths."""
    if not isinstance(action, Publish) or not action.reviews.on(REVIEW, default=True):
        return None
    facts = canonical_json(action.manifest.to_json() | {"message": action.version.message})
    warnings = [
        Objection(
            f"adaptkit.json names {what}; it stays so: next time merge names, or relative paths",
            Severity.WARN,
        )
        for what in dict.fromkeys(_found(facts))
    ]
    lines = (
        (f"line {number} of {path}", what)
        for path, source in sorted({**action.paths, **action.attachments}.items())
        for number, line in text_lines(source)
        for what in _found(line)
    )
    found = [
        Objection(
            f"{where} names {what}: write it otherwise and add the adapter again, or "
            '[review] disable = ["paths"] in config.toml'
        )
        for where, what in dict.fromkeys(lines)
    ]
    more = [Objection(f"and {len(found) - _SHOWN} more like these")] if len(found) > _SHOWN else []
    return [*warnings[:_SHOWN], *found[:_SHOWN], *more]


def _found(text: str) -> Iterator[str]:
    homes = [*_HOME.finditer(text), *_WINDOWS_HOME.finditer(text)]
    for match in homes:
        yield f"the home folder of '{match[1][:40]}'"
    for match in (*_LOCAL.finditer(text), *_WINDOWS.finditer(text)):
        if not any(home.start() <= match.start() < home.end() for home in homes):
            yield f"the local path {match[0][:_LONGEST]}"
