"""The files that a stored manifest lists, where it plainly is a sound one: a tenth of the time of `Manifest.from_json`.

fsck reads every manifest of a registry to see that it would be accepted and that its rows say the same. What is
recognised here would be accepted; anything out of the ordinary returns None, and `Manifest.from_json` decides.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

from msgspec import DecodeError, Meta, Struct

from adaptkit.types.checks.convert import decoder
from adaptkit.types.checks.schema import Digest, Name, Text  # noqa: TC001  (msgspec reads annotations)
from adaptkit.types.manifest import MANIFEST_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

Rows = list[tuple[str, int, str]]  # path, size, sha256

# What `check_manifest` asks of types, ranges and lengths, and no field that is unknown, so that all values are typed.
# Half a surrogate pair and a NUL can only be written by an escape, and texts with escapes are not read.
_LONGEST = 100_000  # of the whole text, so that no text in it is longer
_LARGEST = 2**63
_Size = Annotated[int, Meta(ge=0, le=_LARGEST - 1)]
_Float = Annotated[float, Meta(gt=-_LARGEST, lt=_LARGEST)]
_Scalar = Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST - 1)] | _Float | str | bool | None
_Two = _Scalar | list[_Scalar] | dict[str, _Scalar]
_Three = _Scalar | list[_Two] | dict[str, _Two]
_Four = _Scalar | list[_Three] | dict[str, _Three]


class _File(Struct, forbid_unknown_fields=True):
    path: Text
    size: _Size
    sha256: Annotated[str, Meta(max_length=64)]


class _Parent(Struct, forbid_unknown_fields=True):
    digest: Digest
    weight: _Float
    role: Annotated[str, Meta(max_length=32)]
    label: Text


class _Level(Struct, forbid_unknown_fields=True):
    value: Annotated[str, Meta(max_length=80)]
    measured: bool


class _Quantised(Struct, forbid_unknown_fields=True):
    method: Name
    bits: Annotated[int, Meta(ge=0, le=1024)]
    dtype: Name


class _Base(Struct, forbid_unknown_fields=True):
    name: Text | None
    levels: dict[Annotated[str, Meta(max_length=8)], _Level]
    quantised: _Quantised | None
    derived_from: Text | None
    status: str


class _Manifest(Struct, forbid_unknown_fields=True):
    schema: int
    digest: Digest
    files: list[_File]
    method: Annotated[str, Meta(max_length=64)]
    rank: Annotated[int, Meta(ge=0, le=1_000_000)] | None
    base: _Base
    extras: list[_File]
    parents: list[_Parent]
    recipe: dict[str, _Four] | None
    facts: dict[str, _Four]
    created: Annotated[str, Meta(max_length=64)]


def reader() -> Callable[[str], tuple[str, Rows] | None]:
    """A function from a manifest's text to its digest and the rows of its files, or None where it is not plain."""
    decode = decoder(_Manifest).decode

    def read(text: str) -> tuple[str, Rows] | None:
        if type(text) is not str or len(text) > _LONGEST or not text.isascii() or "\\" in text:
            return None
        try:
            found = decode(text)
        except DecodeError:  # of which `ValidationError` is a kind
            return None
        if found.schema != MANIFEST_SCHEMA:
            return None
        files = [(f.path, f.size, f.sha256) for f in found.files]
        listed = ",".join([f'["{path}",{size},"{sha}"]' for path, size, sha in sorted(files)])
        if found.digest != "sha256:" + sha256(f"[{listed}]".encode()).hexdigest():
            return None
        for f in found.extras:
            files.append((f.path, f.size, f.sha256))  # noqa: PERF401  (mostly there are none)
        return found.digest, files

    return read
