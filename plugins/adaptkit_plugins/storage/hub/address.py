"""Which repository of the Hub: `hf://org/repo`; `hf://org` is the root of a remote."""

from __future__ import annotations

import re

from adaptkit.errors import StorageError

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_TOKEN = re.compile(r"(?:hf|api_org)_[A-Za-z0-9]{8,}")
_NAME = re.compile(rf"{_PART}(?:/{_PART})?")


def repository(url: str) -> str:
    """`org/repo`, or `org` alone; `StorageError` when a URL names neither."""
    name = url.partition("://")[2].strip("/")
    if not _NAME.fullmatch(name) or ".." in name or "--" in name:
        # what stands before an '@', or looks like a token, may be one: it is not repeated
        secret = "@" in name or _TOKEN.search(name)
        raise StorageError(
            "cannot read a place in hf://…" if secret else f"cannot read the place '{url}'",
            why="it holds what may be a token; tokens come from HF_TOKEN or `hf auth login`"
            if secret
            else "a repository of the Hub is an organisation or a person, and a name",
            fix="for example hf://fleet/naval",
        )
    return name
