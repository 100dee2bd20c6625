"""Which texts can be written: JSON and YAML have escapes for some that cannot."""

from __future__ import annotations


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8, which half a surrogate pair cannot."""
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)
