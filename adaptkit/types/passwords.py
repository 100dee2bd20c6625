"""Passwords in URLs, hidden wherever a URL is shown."""

from __future__ import annotations

import re

# A password may hold what a URL should have escaped: it ends at the last @ before the parameters. Digits are a port.
_BEFORE_HOST = re.compile(r"(://[^\s/@:?#]*:)(?!\d*(?:[/?#\s]|$))(?:[^\s?]*@|\S*@)")
_PARAMETER = re.compile(r"(?<=[?&])([^=&\s]*(?:passw|secret|token)[^=&\s]*=)[^\s&]+", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """The text with three stars for each password in a URL: before its host, or as a parameter."""
    return _PARAMETER.sub(r"\1***", _BEFORE_HOST.sub(r"\1***@", text))
