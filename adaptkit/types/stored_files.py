"""The files that a stored manifest lists, where it plainly is a sound one: a tenth of the time of `Manifest.from_json`.

fsck reads every manifest of a registry to see that it would be accepted and that its rows say the same. What is
recognised here would be accepted; anything out of the ordinary returns None, and `Manifest.from_json` decides.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from msgspec import DecodeError

from adaptkit.types import MANIFEST_SCHEMA
from adaptkit.types.schema import manifest_decoder

if TYPE_CHECKING:
    from collections.abc import Callable

Rows = set[tuple[str, int, str]]  # path, size, sha256
_LONGEST = 100_000  # of the whole text, so that no text in it is longer
_DEEPEST = 64  # brackets in all, so that none is nested deeper
# Numbers that may be out of range: long ones, ones with an exponent, and any in a list. Three patterns with a literal
# start each are ten times as fast as one.
_LARGE = re.compile(r'":(?:\s|-?(?:\d{19}|[\d.]+[eE]))').search
_AFTER_COMMA = re.compile(r",(?:\s|-?\d)").search
_FIRST_IN_LIST = re.compile(r"\[(?:\s|-?\d)").search


def reader() -> Callable[[str], tuple[str, Rows] | None]:
    """A function from a manifest's text to its digest and the rows of its files, or None where it is not plain."""
    decode = manifest_decoder().decode

    def read(text: str) -> tuple[str, Rows] | None:
        if (
            len(text) > _LONGEST
            or not text.isascii()
            or "\\" in text
            or text.count("{") + text.count("[") > _DEEPEST
            or _LARGE(text)
            or _AFTER_COMMA(text)
            or _FIRST_IN_LIST(text)
        ):
            return None
        try:
            found = decode(text)
        except DecodeError:  # of which `ValidationError` is a kind
            return None
        if found.schema != MANIFEST_SCHEMA:
            return None
        files = sorted([(f.path, f.size, f.sha256) for f in found.files])
        listed = ",".join([f'["{path}",{size},"{sha}"]' for path, size, sha in files])
        if found.digest != "sha256:" + sha256(f"[{listed}]".encode()).hexdigest():
            return None
        return found.digest, {*files, *((f.path, f.size, f.sha256) for f in found.extras)}

    return read
