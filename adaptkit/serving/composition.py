"""What a request names as its model: the base, an adapter, or a live composition of several.

The words are AdapterHub's (https://docs.adapterhub.ml/adapter_composition.html): for low-rank updates of
one layer `stack` is their sum, `average` divides it by the number of parts, and `parallel` is one
result for each part. `arrow` lets each token choose among the parts (arXiv 2405.11157), and `auto` is the
one part whose training data is most like the prompt, of all that are registered when it names none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from adaptkit import refs
from adaptkit.errors import BadReference

if TYPE_CHECKING:
    from collections.abc import Mapping

BASE = "base"
AUTO = "auto"
TAKEN = {BASE: "the base alone", AUTO: "the adapter that suits the prompt"}
"""Names that mean something else in a request than an adapter of that name."""
MOST_PARTS = 8
LARGEST_WEIGHT = 100.0
LONGEST = 1000  # characters
GRAMMAR = f"""a model is one of
    {BASE}   naval   naval@3   naval@prod   team/naval   REMOTE:naval@3
    naval+medical=0.4   stack(naval, medical)   average(naval, medical)   parallel(naval, medical)
    {AUTO}   auto(naval, medical)   arrow(naval, medical)"""

Kind = Literal["stack", "average", "parallel", "arrow", "auto"]
Reference = refs.NameRef | refs.DigestRef | refs.RemoteRef
_CALL = re.compile(r"(stack|average|parallel|arrow|auto)\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class Part:
    """One adapter, registered or in a named remote, with its weight."""

    ref: Reference
    weight: float = 1.0

    def __str__(self) -> str:
        return str(self.ref) if self.weight == 1 else f"{self.ref}={self.weight:g}"


@dataclass(frozen=True, slots=True)
class Composition:
    """Adapters and how they are composed; no part at all is the base."""

    kind: Kind
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        if self.kind == "stack":
            return "+".join(map(str, self.parts)) or BASE
        if not self.parts:
            return self.kind
        return f"{self.kind}({', '.join(map(str, self.parts))})"

    def pinned(self, versions: Mapping[Reference, str]) -> str:
        """The composition with exact versions in the place of its references."""
        exact = [
            versions[part.ref] + ("" if part.weight == 1 else f"={part.weight:g}")
            for part in self.parts
        ]
        if self.kind == "stack":
            return "+".join(exact) or BASE
        return f"{self.kind}({', '.join(exact)})"

    def rows(self) -> tuple[tuple[Part, ...], ...]:
        """The weighted sum that each result goes through: one, or one for each part of `parallel`."""
        if self.kind == "parallel":
            return tuple((part,) for part in self.parts)
        if self.kind == "average":
            share = 1 / len(self.parts)
            return (tuple(Part(part.ref, part.weight * share) for part in self.parts),)
        return (self.parts,)


def model_of(name: str, number: int) -> str:
    """The model that means an adapter's latest version, whose number this is; its bare name where that is free."""
    return f"{name}@{number}" if name in TAKEN else name


def parse(text: str) -> Composition:
    """Read what a request names; `BadReference` shows the grammar. Paths and URLs are never followed."""
    text = text.strip()
    if text == BASE:
        return Composition("stack", ())
    if text == AUTO:
        return Composition("auto", ())
    if len(text) > LONGEST:
        raise _bad(text[:40] + "…", f"it has more than {LONGEST} characters")
    call = _CALL.fullmatch(text)
    kind = cast("Kind", call[1]) if call else "stack"
    pieces = call[2].split(",") if call else text.split("+")
    if len(pieces) > MOST_PARTS:
        raise _bad(text, f"it has {len(pieces)} parts, at most {MOST_PARTS} are composed")
    parts = tuple(_part(piece.strip(), text) for piece in pieces)
    if len({part.ref for part in parts}) < len(parts):
        raise _bad(text, "it names one adapter twice; give it one weight instead")
    if kind in {"arrow", "auto"} and any(part.weight != 1 for part in parts):
        raise _bad(text, "its weights are chosen for it; leave them out")
    return Composition(kind, parts)


def _part(piece: str, whole: str) -> Part:
    name, weight = refs.split_weight(piece)
    try:
        ref = refs.parse(name) if name and "://" not in name else None
    except BadReference as error:  # its own fix shows paths and URLs, which no request may name
        raise _bad(whole, error.summary) from error
    if not isinstance(ref, (refs.NameRef, refs.DigestRef, refs.RemoteRef)):
        raise _bad(whole, f"'{piece}' is not the name of a registered adapter")
    if str(ref) in TAKEN:
        raise _bad(whole, f"'{ref}' stands alone, without a weight and beside no other")
    if abs(weight) > LARGEST_WEIGHT:
        raise _bad(
            whole, f"the weight of '{name}' is {weight:g}, at most {LARGEST_WEIGHT:g} is used"
        )
    return Part(ref, weight)


def _bad(text: str, why: str) -> BadReference:
    return BadReference(f"cannot serve the model '{text}'", why=why, fix=GRAMMAR)
