"""gc and info: what no version needs, and how much there is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from adaptkit.types import Event
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.results import Info
from adaptkit.workspace.units import parse_size

if TYPE_CHECKING:
    from adaptkit.store.gc import Swept
    from adaptkit.workspace.context.context import Context


def collect_garbage(
    context: Context,
    *,
    grace: float | None = None,
    trash: float | None = None,
    dry_run: bool = False,
) -> Swept:
    """Remove what no version needs from the store, and empty its trash after `trash` seconds.

    What is younger than `grace` seconds stays. Versions in the trash count as needed.
    """
    from adaptkit.store import gc

    grace = gc.GRACE if grace is None else grace
    trash = gc.TRASH if trash is None else trash
    now = context.clock()
    before = (now - timedelta(seconds=trash)).isoformat(timespec="microseconds")
    context.check_home()
    gone = context.registry.purgeable(before)
    if gone and not dry_run:
        gone = context.registry.purge(before, author=context.config.author)
    done = gc.sweep(
        context.store,
        partial(_needed, context),
        grace=grace,
        trash=trash,
        dry_run=dry_run,
        now=now.timestamp,
        work=[context.tmp],
    )
    done = replace(done, purged=tuple(version.ref for version in gone))
    if not dry_run:
        for version in gone:
            emit(context, "purged", version.ref, version.digest)
        if done.swept or done.freed:
            detail = {
                "swept": len(done.swept),
                "bytes": done.swept_bytes,
                "freed": done.freed_bytes,
            }
            context.registry.record(
                Event("swept", "store", "", detail, actor=context.config.author)
            )
    return done


def info(context: Context) -> Info:
    """How much there is: counts, bytes, and quotas where the configuration sets them."""
    from adaptkit.store.gc import trash_size

    context.check_home()
    sizes = dict(context.registry.sizes())
    root = context.store.root
    here = {
        name: sum(path.lstat().st_size for path in (root / name).rglob("*") if path.is_file())
        for name in ("objects", "quarantine", "tmp")
    }
    here["trash"] = trash_size(context.store)
    used = {"store": sum(here.values())} | {team: size for team, size in sizes.items() if team}
    quotas = {
        name: (used.get(name, 0), parse_size(limit, name))
        for name, limit in context.config.quotas.items()
    }
    return Info(
        str(context.home.path),
        context.registry.shown,
        context.registry.counts(),
        here,
        sizes,
        quotas,
    )


def kept_by_registries(context: Context) -> tuple[set[str], set[str]]:
    """What this registry needs, and the workspace's own database if a team's is in force."""
    digests, blobs = context.registry.kept()
    if context.config.registry_url and context.home.database.exists():
        from adaptkit_registry import Registry

        with Registry.open(context.home.database) as own:
            more = own.kept()
        digests, blobs = digests | more[0], blobs | more[1]
    return digests, blobs


def _needed(context: Context) -> set[str]:
    digests, blobs = kept_by_registries(context)
    return {digest.partition(":")[2] for digest in digests} | blobs
