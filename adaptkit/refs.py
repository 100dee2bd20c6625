"""The reference grammar: one parser, one error that shows the grammar.

A path starts with `./`, `../`, `/`, `~` or a drive letter; a URL has `://`; `REMOTE:NAME` has a
colon; anything else is a name, with `@` and a selector behind it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adaptkit.errors import BadRecipe, BadReference
from adaptkit.io.safe_paths import DEVICE, user_path

if TYPE_CHECKING:
    from pathlib import Path

GRAMMAR = """a reference is one of
    naval   naval@3   naval@prod   naval@sha256:0123abcd   team/naval@3   sha256:0123abcd
    ./out/naval   ../naval   /models/naval   ~/naval
    hf://fleet/naval@3   s3://bucket/naval   file:///mnt/team/naval   oci://host/repo
    REMOTE:naval@3"""

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_NAME = re.compile(rf"(?:{_PART}/)?{_PART}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{8,64}")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_RESERVED = frozenset({"latest", "sha256", "rev", "head", "as1", "fs1", "tm1"})
_TOKEN = re.compile(r"(?<![A-Za-z0-9])(?:hf_|gh[opusr]_|glpat-|AKIA|ASIA)[A-Za-z0-9_-]{16,}")


@dataclass(frozen=True, slots=True)
class Selector:
    """What follows the `@`: a number, an alias, a digest prefix or a revision."""

    kind: Literal["number", "alias", "digest", "rev"]
    value: str

    @property
    def number(self) -> int:
        return int(self.value)

    def __str__(self) -> str:
        return f"rev:{self.value}" if self.kind == "rev" else self.value


@dataclass(frozen=True, slots=True)
class NameRef:
    """`naval`, `naval@3`, `naval@prod`, `team/naval@sha256:…`."""

    name: str
    selector: Selector | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.selector}" if self.selector else self.name


@dataclass(frozen=True, slots=True)
class DigestRef:
    """`sha256:` and at least eight digits."""

    prefix: str

    def __str__(self) -> str:
        return self.prefix


@dataclass(frozen=True, slots=True)
class PathRef:
    """A folder on this machine."""

    path: Path
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class UrlRef:
    """One adapter's place behind a URL."""

    url: str
    selector: Selector | None = None

    def __str__(self) -> str:
        return f"{self.url}@{self.selector}" if self.selector else self.url


@dataclass(frozen=True, slots=True)
class RemoteRef:
    """An adapter in a named remote."""

    remote: str
    name: str
    selector: Selector | None = None

    def __str__(self) -> str:
        tail = f"@{self.selector}" if self.selector else ""
        return f"{self.remote}:{self.name}{tail}"


Ref = NameRef | DigestRef | PathRef | UrlRef | RemoteRef


@dataclass(frozen=True, slots=True)
class WeightedRef:
    """One adapter of a merge.

    Its reference, its weight, and other weights in the modules that globs name.

    Several values for a glob are spread over the layers, from the first to the last.
    """

    ref: Ref
    weight: float = 1.0
    modules: Mapping[str, Sequence[float]] = field(default_factory=dict)


Source = str | os.PathLike[str] | Ref | WeightedRef
Sources = Sequence[Source | tuple[Source, float]] | Mapping[Any, float]
"""What a merge takes: references, pairs of reference and weight, or a mapping of them."""


def weighted(sources: Sources) -> tuple[WeightedRef, ...]:
    """The adapters of a merge, each parsed once; `BadRecipe` shows the forms that are accepted."""
    if isinstance(sources, Mapping):
        return tuple(_weighted(ref, weight) for ref, weight in sources.items())
    if isinstance(sources, (str, os.PathLike)) or not isinstance(sources, Sequence):
        raise _not_sources(sources)
    return tuple(
        _weighted(*one) if isinstance(one, tuple) and len(one) == 2 else _weighted(one)
        for one in sources
    )


def _weighted(source: object, weight: object = None) -> WeightedRef:
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float))):
        raise BadRecipe(
            f"the weight of '{source}' is {weight!r}",
            why="a weight is a finite number",
            fix=f'for example ("{source}", 0.7)',
        )
    if isinstance(source, str):
        if weight is None:
            text, weight = split_weight(source)
        else:
            text = source
        return WeightedRef(parse(text), float(weight))
    if isinstance(source, WeightedRef) and weight is None:
        return source
    factor = 1.0 if weight is None else float(weight)
    if isinstance(source, os.PathLike):
        path = user_path(source)
        return WeightedRef(PathRef(path, str(path)), factor)
    if isinstance(source, (NameRef, DigestRef, PathRef, UrlRef, RemoteRef)):
        return WeightedRef(source, factor)
    if (ref := reference_of(source)) is not None:
        return WeightedRef(parse(ref), factor)
    raise _not_sources(source)


def reference_of(found: object) -> str | None:
    """The reference that means a version, or the result of an operation that made one; None of anything else."""
    ref = getattr(getattr(found, "version", found), "ref", None)
    return ref if isinstance(ref, str) else None


def _not_sources(given: object) -> BadRecipe:
    return BadRecipe(
        f"{given!r} is no list of adapters",
        why="it is a list of references or versions, of pairs of one and its weight, or a mapping of them",
        fix='for example ["naval=0.7", "medic"] or {"naval": 0.7, "medic": 0.3}',
    )


def parse(text: str) -> Ref:
    """Read one reference; `BadReference` shows the grammar."""
    if is_path(text):
        return PathRef(user_path(text), text)
    if "://" in text:
        return _parse_url(text)
    if _DIGEST.fullmatch(text.removesuffix("…")):  # as tables show it
        return DigestRef(text.removesuffix("…"))
    if re.match(r"sha256:", text):
        raise BadReference(
            f"cannot read the digest '{text}'",
            why="it needs 8 to 64 lower-case hex digits",
            fix=GRAMMAR,
        )
    _check_single(text)
    head, at, tail = text.partition("@")
    if at and not head:
        raise BadReference(
            f"cannot read '{text}'",
            why="the name before the @ is missing",
            fix=f"for example naval{text if tail else ''}",
        )
    selector = parse_selector(tail, text) if at else None
    remote, colon, name = head.rpartition(":")
    for part in (remote, name) if colon else (head,):
        if not _is_name(part):
            raise BadReference(f"'{part}' is not a name", why=_why_no_name(part), fix=GRAMMAR)
    return RemoteRef(remote, name, selector) if colon else NameRef(head, selector)


def parse_selector(text: str, whole: str) -> Selector:
    """Parse what follows the `@` of `whole`."""
    if _NUMBER.fullmatch(text):
        return Selector("number", text)
    if _DIGEST.fullmatch(text.removesuffix("…")):
        return Selector("digest", text.removesuffix("…"))
    if text.startswith("rev:") and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", text[4:]):
        return Selector("rev", text[4:])
    if text.lower() == "latest" or re.fullmatch(r"v[1-9][0-9]*", text):
        head = whole.rpartition("@")[0]
        raise BadReference(
            f"cannot read '@{text}' in '{whole}'",
            why="a name alone is its latest version, and a version is a number",
            fix=f"{head}@{text[1:]}" if text.startswith("v") else head,
        )
    if _ALIAS.fullmatch(text) and not _is_reserved(text):
        return Selector("alias", text)
    raise BadReference(
        f"cannot read '@{text}' in '{whole}'",
        why="after the @ comes a version number, an alias, sha256:… or rev:…",
        fix=GRAMMAR,
    )


def split_weight(text: str) -> tuple[str, float]:
    """`naval@prod=0.7` → (`naval@prod`, 0.7).

    What follows the last `=` of a path or URL is a weight if it reads as a number; no other reference has a `=`.
    """
    head, equals, tail = text.rpartition("=")
    if not equals:
        return text, 1.0
    elsewhere = is_path(text) or "://" in text
    if not elsewhere:
        _check_single(text)
    try:
        # float() would read 1_0 and the digits of every script
        weight = float(tail if tail.isascii() and "_" not in tail else "?")
    except ValueError:
        if elsewhere:
            return text, 1.0
        weight = math.nan
    if not math.isfinite(weight):
        what, why = f"the weight of '{head}' is {tail or 'empty'}", "a weight is a finite number"
        if not head:
            what, why = f"'{text}' names no adapter", "no blank is beside a ="
        raise BadRecipe(what, why=why, fix=f"for example {head or 'naval'}=0.7")
    return head, weight


def _check_single(text: str) -> None:
    if decimal := re.fullmatch(r"([^,=]+=-?\d*),(\d+)", text):
        raise BadRecipe(
            f"cannot read the weight in '{text}'",
            why="a weight has a point, not a comma",
            fix=f"for example {decimal[1]}.{decimal[2]}",
        )
    if "," in text:
        raise BadReference(
            f"'{text}' is more than one reference",
            why="a comma separates nothing here",
            fix=f"put blanks between them: {' '.join(filter(None, re.split('[, ]+', text)))}",
        )


def check_name(name: str) -> str:
    """The name of an adapter or a remote, checked: it becomes part of paths and URLs. An error suggests one."""
    if not _is_name(name):
        like = _like(name)
        raise BadReference(
            f"'{name}' is not a name",
            why=_why_no_name(name),
            fix=f"for example {like}" if like else "",
        )
    return name


def _is_name(name: str) -> bool:
    return bool(
        _NAME.fullmatch(name) and ".." not in name and not any(map(_is_reserved, name.split("/")))
    )


def as_name(text: str) -> str:
    """The text where it is a name, else one that is like it: a file may be called `my style v2`."""
    return text if _is_name(text) else _like(text) or text


def _why_no_name(name: str) -> str:
    if is_path(name):
        return "it is a path"
    if "://" in name or _DIGEST.fullmatch(name):
        return "it is a URL" if "://" in name else "it is a digest"
    if "@" in name and _is_name(name.partition("@")[0]):
        return "it names a version, and the whole adapter is meant here"
    if reserved := next(filter(_is_reserved, name.split("/")), None):
        return f"'{reserved}' means something else, here or to Windows"
    return (
        "a name is letters, digits, '.', '_' and '-' (at most 96), starts with a letter or digit, "
        "may have one 'team/' before it, and is not a reserved word such as 'latest'"
    )


def _like(name: str) -> str:
    """A name that is like a text which is none; empty where nothing is left of it."""
    if _DIGEST.fullmatch(name):
        return ""
    parts = re.split(r"[/\\]", name.partition("@")[0].rpartition("://")[2])
    found = re.sub(r"[^A-Za-z0-9._-]+|\.\.+", "-", next(filter(None, reversed(parts)), ""))
    found = found.strip("-._")[:96]
    return f"{found}-1" if found and _is_reserved(found) else found


def check_alias(alias: str) -> str:
    """The name of an alias, checked: it must not read as a number, a tag `v3` or a digest."""
    if not _ALIAS.fullmatch(alias) or _is_reserved(alias) or re.fullmatch(r"v[0-9]+", alias):
        raise BadReference(
            f"'{alias}' cannot be an alias",
            why="an alias starts with a letter, holds letters, digits, '.', '_' and '-' (at most 64), "
            "and is neither a version such as 'v3' nor a reserved word such as 'latest'",
            fix="for example: adaptkit alias naval prod 3",
        )
    return alias


def _is_reserved(part: str) -> bool:
    """Whether a part of a name means something else, here or to Windows, where a name becomes a folder."""
    return part.lower() in _RESERVED or bool(DEVICE.match(part))


def check_url(url: str) -> str:
    """The URL of a place, checked before it is used, kept or shown.

    Nothing in it may be a password or a token, and it can be taken apart.
    """
    from urllib.parse import urlsplit

    scheme, _, rest = url.partition("://")
    if _TOKEN.search(url):
        why = "a part of it reads like a token"
    elif "@" in rest.partition("/")[0] or (scheme != "file" and ("?" in rest or "#" in rest)):
        why = "it holds a user, a '?' or a '#', which may be a secret"
    else:
        try:
            urlsplit(url)
        except ValueError as error:  # such as file://[x]/naval
            raise BadReference(
                f"cannot read the URL '{url}'", why=f"its host is none: {error}", fix=GRAMMAR
            ) from error
        return url
    raise BadReference(
        f"cannot read a place in {scheme}://…",
        why=why,
        fix="take it out, and revoke what was secret; docs/sharing.md says where tokens go",
    )


def is_path(text: str) -> bool:
    """Whether a reference is written as a path."""
    return (
        text in {".", "..", "~"}
        or text.startswith(("./", "../", "/", "~"))
        or bool(_DRIVE.match(text))
    )


def path_text(path: os.PathLike[str]) -> str:
    """A path as a reference that is one: `fleet/naval` alone would be a name."""
    text = os.fspath(path)
    return text if is_path(text) else f"./{text}"


def _parse_url(text: str) -> UrlRef:
    check_url(text)
    if not _URL.fullmatch(text) or any(ord(c) < 32 or "\ud800" <= c <= "\udfff" for c in text):
        raise BadReference(
            f"cannot read the URL '{text}'",
            why="it has a blank, no scheme, or bytes that are not UTF-8",
            fix=GRAMMAR,
        )
    head, at, tail = text.rpartition("@")
    # A selector follows the last path segment; an @ before that is part of the path.
    if at and "/" in head.partition("://")[2] and ("/" not in tail or tail.startswith("rev:")):
        return UrlRef(head.rstrip("/"), parse_selector(tail, text))
    return UrlRef(text.rstrip("/"))
