"""Hash what is stored again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.types import STATUSES
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.lookup.artifacts import find_version
from adaptkit.workspace.results import Verified
from adaptkit.workspace.tasks.run import open_executor
from adaptkit.workspace.tasks.verify import damage_of, verify_some

if TYPE_CHECKING:
    from adaptkit.workspace.context.context import Context


def verify(context: Context, ref: str | None = None, *, on: str | None = None) -> Verified:
    """Hash one version's files again, or those of every artifact in the store and the registry.

    What this store never had, but a placement holds, is no damage. `on` names an executor whose workers hash what is
    here.
    """
    on = executor_url(context, on)
    context.check_home()
    digests = (
        [find_version(context, ref).digest]
        if ref
        else sorted({v.digest for v in context.registry.versions()} | set(context.store.digests()))
    )
    sound, damaged, elsewhere = [], [], []
    here = set(context.store.digests())
    executor = None if ref else open_executor(context, on)
    with context.watch("verifying", len(digests), "artifacts") as step:
        if executor is None:
            found = verify_some(str(context.store.root), digests, step)
        else:
            with executor:
                found = damage_of(executor, context.store.root, digests, step)
    for digest in digests:
        if digest not in found:
            sound.append(digest)
        elif digest not in here and context.registry.placements(digest):
            elsewhere.append(digest)
        else:
            damaged.append(str(found[digest]))
    looked_at = [v.base.status for v in context.registry.versions() if v.digest in set(digests)]
    bases = {status: looked_at.count(status) for status in STATUSES if status in looked_at}
    return Verified(tuple(sound), tuple(damaged), tuple(elsewhere), bases)
