"""Bytes and counts, as people read them."""

from __future__ import annotations


def size_text(count: float) -> str:
    """`37 bytes`, `4.1 MB`: in steps of 1000."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def count_text(count: int, noun: str) -> str:
    """`1 file`, `1,200 files`; for nouns whose plural ends in s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
