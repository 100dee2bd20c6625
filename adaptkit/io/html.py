"""Small tables in HTML, for what notebooks show."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table whose texts are escaped."""
    from html import escape  # with all named characters: 1.5 ms in every command

    parts = ["<table>"]
    if caption:
        parts.append(f"<caption>{escape(caption)}</caption>")
    if head:
        parts.append(f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>")
    parts += [
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    ]
    return "".join([*parts, "</table>"])


def picture(png: bytes) -> str:
    """A PNG, inside the page."""
    from base64 import b64encode

    return f'<img src="data:image/png;base64,{b64encode(png).decode()}">'
