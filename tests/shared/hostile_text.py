"""Text that would act on a terminal."""

from __future__ import annotations

import unicodedata

ALLOWED = {"\u200c", "\u200d"}  # Persian and emoji are written with these two


def acts(text: str) -> bool:
    """Whether a terminal would do anything else with it than show it."""
    return any(
        unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and one not in ALLOWED
        for one in text
        if one != "\n"
    )
