"""A corrected README.md of an artifact that is here: no digest covers it, so it can be replaced.

The store's manifest is replaced in one step and is what this machine reads; the registry's copy follows. Where a crash
came between, adding the folder again completes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.workspace.context.corrected import former_readmes
from adaptkit.workspace.context.events import emit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.types import Manifest, Version
    from adaptkit.workspace.context.context import Context


def changed_extras(given: Manifest, stored: Manifest) -> tuple[str, ...]:
    """The files beside the digest that are other ones than those kept; one that is absent now takes nothing away."""
    kept = {extra.path: extra for extra in stored.extras}
    return tuple(sorted(e.path for e in given.extras if kept.get(e.path) != e))


def take_corrected(
    context: Context, version: Version, given: Manifest, changed: Sequence[str]
) -> None:
    """Let a version have the files beside the digest that were given, and record what they were."""
    if not given.extras:
        return
    if changed:
        context.store.correct(given)
        context.notify(
            f"{', '.join(changed)}: taken for {version.ref}, whose weights stay as they are; "
            f"adaptkit push {version.name} sends it to places that can take it"
        )
    if context.registry.correct_extras(
        version.digest, given.extras, subject=version.ref, author=context.config.author
    ):
        emit(context, "corrected", version.ref, version.digest, {"files": list(changed)})


def name_what_stays(context: Context, digest: str, changed: Sequence[str]) -> None:
    """Warn that what was made or pulled comes with another README.md than the one that is here."""
    context.notify(
        f"{', '.join(changed)}: not taken, because {digest[:19]}… is here with another; "
        "adaptkit add FOLDER takes a corrected one"
    )


def former_texts(context: Context, version: Version) -> list[str]:
    """What the README.md of a version was before it was corrected, as far as the store still has it."""
    texts = []
    for sha256 in former_readmes(context, version):
        if sha256 is None:
            texts.append("")
        elif context.store.has(sha256):
            texts.append(context.store.blob(sha256).read_text("utf-8", errors="replace"))
    return texts
