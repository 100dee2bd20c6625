"""How long texts and how large numbers may be; what is registered here can be pushed and read everywhere."""

from __future__ import annotations

from adaptkit.errors import Refused
from adaptkit.types.limits import LARGEST_NUMBER, LONGEST_MESSAGE, LONGEST_NAME

_FARTHEST = 1_000_000  # a foreign number may not use up those that are left


def check_texts(what: str, *, message: str, author: str) -> None:
    """`Refused` when a message or an author's name is longer than a place may hold, or no Unicode."""
    for called, text, limit in (
        ("message", message, LONGEST_MESSAGE),
        ("author", author, LONGEST_NAME),
    ):
        size = len(text.encode(errors="replace"))
        if size > limit:
            raise Refused(
                f"{what} cannot have that {called}",
                why=f"it has {size:,} bytes, and at most {limit:,} are kept",
                fix="write less, and put the rest into a file of the adapter, such as its README.md",
            )
        if any("\ud800" <= one <= "\udfff" or one == "\0" for one in text):
            raise Refused(
                f"{what} cannot have that {called}",
                why="it has a character that is no Unicode text",
                fix="type it again",
            )


def granted(name: str, wish: int | None, following: int) -> int:
    """The number a new version gets: the one wished for where it is free and not far off, else the following one."""
    if following > LARGEST_NUMBER:
        raise Refused(
            f"{name} cannot have another version",
            why=f"its numbers are used up: the largest is {LARGEST_NUMBER:,}",
            fix=f"register it under another name: {name}-2",
        )
    if wish is None or not following <= wish <= min(LARGEST_NUMBER, following + _FARTHEST):
        return following
    return wish
