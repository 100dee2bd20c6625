"""What may stand under one name, and what may be merged together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.bases.compare import admits, compare
from adaptkit.errors import BaseMismatch, Refused
from adaptkit.types import Sameness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.types import BaseIdentity, Facts, Manifest, Verdict, Version


_ANOTHER = "choose another name, or --new-version to change what this one is"


def check_next(name: str, latest: Version, manifest: Manifest, pairs: Mapping[str, str]) -> None:
    """A name stays what it is: one method, one base. `Refused` says which of them would change."""
    if latest.method != manifest.method:
        raise Refused(
            f"'{name}' holds {latest.method} adapters",
            why=f"this one is {manifest.method}",
            fix=_ANOTHER,
        )
    check_next_base(name, latest, manifest.base, pairs)


def check_next_base(
    name: str, latest: Version, base: BaseIdentity, pairs: Mapping[str, str]
) -> None:
    """Refuse a version of another base than the latest has."""
    verdict = compare(latest.base, base, pairs)
    if not admits(verdict, latest.base, base, "merge").allowed:
        unsure = how_to_know(verdict, [(latest.ref, latest.base)])
        if not_settled(verdict) and not base.hashed:
            unsure = [*unsure, "--base DIR measures the base of this one"]
        raise Refused(
            f"'{name}' holds adapters of another base",
            why=verdict.reason,
            fix="; ".join([*unsure, _ANOTHER]),
        )


def check_together(
    bases: Sequence[tuple[str, BaseIdentity]], pairs: Mapping[str, str], *, force: bool
) -> Facts:
    """Refuse labelled adapters of different bases, unless forced; returns what was forced or is unknown, to record.

    `pairs` maps the files (`fs1`) to the tensors (`tm1`) that were measured in them.
    """
    facts: Facts = {}
    (first_label, first), *others = bases
    for label, base in others:
        verdict = compare(first, base, pairs)
        ruling = admits(verdict, first, base, "merge")
        pair = f"{first_label} and {label}"
        if not ruling.allowed and not force:
            raise BaseMismatch(
                f"{pair} are for different bases",
                why=ruling.reason,
                fix="; ".join(
                    [
                        *how_to_know(verdict, [(first_label, first), (label, base)]),
                        "--force goes on all the same, and records it",
                    ]
                ),
            )
        if not ruling.allowed:
            facts.setdefault("forced", []).append(f"{pair}: {ruling.reason}")
        elif ruling.warning:
            facts.setdefault("warnings", []).append(f"{pair}: {ruling.warning}")
    return facts


def not_settled(verdict: Verdict) -> bool:
    """Whether hashing the bases would tell more than the verdict does."""
    return verdict.sameness in {Sameness.UNKNOWN, Sameness.SAME_ARCHITECTURE}


def how_to_know(
    verdict: Verdict, bases: Sequence[tuple[str, BaseIdentity]], folder: str = "DIR"
) -> list[str]:
    """What to type to know whether labelled adapters have one base, where that is not settled."""
    if not not_settled(verdict):
        return []
    unsure = [label for label, base in bases if not base.hashed and "://" not in label]
    return [
        f"adaptkit add {label} --base {folder} --name NAME"
        if label.startswith((".", "/", "~"))
        else f"adaptkit base verify {label} --base {folder}"
        for label in unsure
    ]


def best_known(bases: Sequence[BaseIdentity]) -> BaseIdentity:
    """The identity that says most: measured levels first, then their number."""
    return max(
        bases, key=lambda base: (sum(level.measured for level in base.levels), len(base.levels))
    )
