r"""Foreign text made harmless for a terminal: what would act, or mislead, is shown as an escape such as `\x1b`.

Names, messages, labels and file names come from places where others write. A control character moves the cursor
or writes the clipboard, a line feed forges a line of a log, a bidi mark turns text around.
"""

from __future__ import annotations

import json
import re
from typing import Any

LONGEST_CELL = 300  # characters of a table's cell
LONGEST_LINE = 4000  # characters of any other line

_HIDDEN = (
    "\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
"""Control, format and separator characters, but for the two joiners that Persian and emoji are written with."""
_UNSAFE = re.compile(f"[\x00-\x1f{_HIDDEN}]")
_UNSAFE_IN_JSON = re.compile(f"[{_HIDDEN}]")  # json.dumps escapes what is below the blank


def inert(text: str, longest: int = LONGEST_LINE) -> str:
    """One line for a terminal: every control, format and bidi character visible, cut with its length when long."""
    cut = len(text) > longest
    shown = _UNSAFE.sub(_visible, text[:longest])
    return f"{shown}… ({len(text):,} characters)" if cut else shown


def inert_lines(text: str) -> str:
    """Lines that adaptkit wrote, each made inert; only line feeds stay."""
    return "\n".join(map(inert, text.split("\n")))


def inert_json(value: Any, *, indent: int | None = 2) -> str:
    """A value as JSON that any parser reads back, with nothing in it that a terminal acts on; without indent one line."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _UNSAFE_IN_JSON.sub(_json_escape, text)


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if ord(found[0]) > 0x7F else f"\\u{ord(found[0]):04x}"
