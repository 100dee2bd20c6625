"""The YAML between the two `---` at the top of a README.md.

Read without believing it, changed without retyping it.

Notable choices:
- tags (`!!python/…`), anchors and aliases are refused before anything is built: they are how YAML
  runs code and how a few lines become gigabytes; a card has no use for them
- every value is read as text, so `language: no` is Norwegian and a date is what was written
- a key is replaced where it is in the text, so comments, order and spelling of all others stay
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from adaptkit.errors import Refused
from adaptkit.io import yaml_text

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 64 << 10  # characters; the Hub's own cards have a few thousand
_FENCE = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_KEY = re.compile(
    r"^(?:([A-Za-z_][\w-]*)|\"([^\"\n]+)\"|'([^'\n]+)')[ \t]*:(?=[ \t\r\n]|$)", re.MULTILINE
)


def split(text: str) -> tuple[str, str]:
    """A card's front matter (without its fences) and its body.

    The first is empty when there is none.
    """
    match = _FENCE.match(text)
    return (match[1], text[match.end() :]) if match else ("", text)


def read(front: str, label: str) -> dict[str, Any]:
    """The values of a front matter; `Refused` when it is not valid, or not safe to load."""
    import yaml

    def bad(why: str) -> Refused:
        return Refused(
            f"the front matter of {label} cannot be read",
            why=why,
            fix="fix what is between the two ---",
        )

    if len(front) > LARGEST:
        raise bad(f"it has {len(front):,} characters, more than {LARGEST:,}")
    try:
        yaml_text.check(front)
        values = yaml.load(front, Loader=yaml.BaseLoader)  # noqa: S506  (it builds text, lists and tables only)
    except yaml_text.BadYaml as error:
        raise bad(error.why) from error
    except yaml.YAMLError as error:  # such as a list as a key
        raise bad(f"a value cannot be read: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise bad(f"it is a {type(values).__name__}, not keys with values")
    return {str(key): value for key, value in values.items()}


def update(front: str, values: Mapping[str, Any]) -> str:
    """A front matter with some keys set (None: left out), every other line as it was."""
    chunks = _chunks(front)
    for key, value in values.items():
        text = "" if value is None else _dumped(key, value)
        places = [at for at, (name, _) in enumerate(chunks) if name == key]
        if not places:
            chunks.append((key, text))
            continue
        chunks[places[0]] = (key, text)
        for at in places[1:]:
            chunks[at] = ("", "")
    return "".join(text for _, text in chunks)


def join(front: str, body: str) -> str:
    """A card of the two."""
    return f"---\n{front}---\n{body}" if front.strip() else body


def _chunks(front: str) -> list[tuple[str, str]]:
    """The text cut at its top-level keys: (key, all its lines)."""
    if front and not front.endswith("\n"):
        front += "\n"
    starts = list(_KEY.finditer(front))
    if not starts:
        return [("", front)]
    head = front[: starts[0].start()]
    ends = [match.start() for match in starts[1:]] + [len(front)]
    found = [
        (m[1] or m[2] or m[3], front[m.start() : end]) for m, end in zip(starts, ends, strict=True)
    ]
    return [("", head), *found]


def _dumped(key: str, value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(
        {key: value}, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False
    )
    return text
