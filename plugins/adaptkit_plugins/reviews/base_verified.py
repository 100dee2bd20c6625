"""What is published was checked against a base whose weights were hashed.

Off until `[review] enable = ["base-verified"]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.extend.review import Objection, Publish
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adaptkit.extend.review import Action

REVIEW = "base-verified"


@hookimpl
def review(action: Action) -> Iterable[Objection] | None:
    """Object to publishing an adapter that was not checked against its base, or whose base is only claimed or unknown."""
    if not isinstance(action, Publish) or not action.reviews.on(REVIEW, default=False):
        return None
    base = action.manifest.base
    if base.status == "verified":
        return None
    return [
        Objection(
            f"the base of {action.version.ref} ('{base.name or 'unnamed'}') is {base.status}: "
            f"adaptkit base verify {action.version.ref} --base PATH"
        )
    ]
