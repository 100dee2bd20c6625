"""Digests of values, over one form of JSON."""

from __future__ import annotations

import json
from hashlib import sha256


def canonical_json(value: object) -> str:
    """A JSON value as digests are taken of it: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest_of(value: object) -> str:
    """`sha256:…` of a value's canonical JSON."""
    return "sha256:" + sha256(canonical_json(value).encode()).hexdigest()
