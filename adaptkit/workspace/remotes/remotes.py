"""Named remotes: set one, check what it promises, mirror one to another."""

from __future__ import annotations

from threading import Event, Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from adaptkit.errors import AdaptkitError, Conflict, StorageError, Unresponsive
from adaptkit.extend import PushOptions
from adaptkit.extend.review import Publish
from adaptkit.io.staging import staging
from adaptkit.types import Version
from adaptkit.workspace.context.reviews import check_reviews, review
from adaptkit.workspace.lookup.places import list_remote
from adaptkit.workspace.results import Probed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from adaptkit.extend import Bundle
    from adaptkit.remotes.mirrored import Mirrored, Plan
    from adaptkit.types import PlacedVersion
    from adaptkit.workspace.context.context import Context

T = TypeVar("T")
R = TypeVar("R")


def list_remotes(context: Context) -> Mapping[str, str]:
    """The URLs of the named remotes, by name."""
    context.check_home()
    return dict(sorted(context.config.remotes.items()))


def add_remote(context: Context, name: str, url: str) -> None:
    """Name the root of places at `url`; `Conflict` where the name is taken."""
    if (known := context.config.remotes.get(name)) is not None:
        raise Conflict(
            f"there is a remote called {name} already",
            why=f"it is {known}",
            fix=f"adaptkit remote set-url {name} {url}, or choose another name",
        )
    set_remote(context, name, url)


def set_remote_url(context: Context, name: str, url: str) -> str:
    """Give a remote another URL; returns the one it had."""
    old = context.places.url_of(name)
    set_remote(context, name, url)
    return old


def rename_remote(context: Context, old: str, new: str) -> str:
    """Call a remote something else; returns its URL."""
    url = context.places.url_of(old)
    add_remote(context, new, url)
    set_remote(context, old, None)
    return url


def set_remote(context: Context, name: str, url: str | None) -> None:
    """Name the root of places at `url`, or (None) forget the name; what is stored there stays."""
    if url is None:
        context.places.url_of(name)
    else:
        context.places.open(url)
    context.home.set_remote(name, url and url.rstrip("/"))
    del context.config


def show_remote(context: Context, remote: str) -> tuple[Version, ...]:
    """The latest version of each adapter in a remote."""
    return list_remote(context, remote)


def check_remote(context: Context, remote: str) -> Probed:
    """Write, read, compare and delete a probe in a remote, a place in it or a URL."""
    if "://" in remote or ":" in remote:
        place, _ = context.places.to_pull(remote)
    else:
        place = context.places.root(remote)
    with context.watch(f"trying {place.url}", None):
        return Probed(place.url, place.probe())


def mirror_remote(
    context: Context,
    source: str,
    target: str,
    *,
    dry_run: bool = False,
    jobs: int = 4,
    options: PushOptions | None = None,
) -> Mirrored:
    """Copy every version of a remote, or of one adapter, to another, `jobs` at a time.

    Digests are verified on the way, numbers stay where they are free, aliases come along. Run
    again, it sends what is missing. `StorageError` at the end when something could not be copied.
    """
    from concurrent.futures import ThreadPoolExecutor

    from adaptkit.remotes import mirror
    from adaptkit.remotes.mirrored import Mirrored

    check_reviews(context)
    pairs = [
        (one, other.asked(options or PushOptions()), selector)
        for one, other, selector in mirror.pairs(context.places, source, target, context.notify)
    ]
    with ThreadPoolExecutor(jobs) as pool, staging(context.tmp) as work:
        steps = _Steps(pool, alone=len(pairs) == 1)
        plans = steps.each(lambda pair: mirror.plan(*pair), pairs)
        if dry_run:
            versions = tuple(one for plan in plans for one in (*plan.unchanged, *plan.wished))
            broken = (text for plan in plans for text in plan.broken)
            return Mirrored(versions, failures=(*steps.failures, *broken))
        reviewed = _one_at_a_time(context)
        with context.watch("mirroring", sum(len(plan.todo) for plan in plans), "versions") as step:
            done = steps.each(lambda plan: mirror.copy(plan, work, reviewed, step), plans)
    report = Mirrored(
        tuple(one for part in done for one in part.versions),
        tuple(text for part in done for text in part.aliases),
        (*steps.failures, *(text for part in done for text in part.failures)),
    )
    for text in (text for part in done for text in part.remarks):
        context.notify(text)
    if report.failures:
        raise StorageError(
            f"{len(report.failures)} of {len(report.failures) + len(report.versions)} could not be mirrored",
            why="; ".join(report.failures),
            fix="the rest is there; the same command goes on",
        )
    return report


class _Steps:
    """Steps of a mirroring, each done for all adapters at once.

    An adapter that fails is noted and left out, unless it is the only one. A place that is too slow, or sends without
    an end, is not asked for the rest.
    """

    def __init__(self, pool: ThreadPoolExecutor, *, alone: bool) -> None:
        self.failures: list[str] = []
        self._pool, self._alone, self._over = pool, alone, Event()

    def each(self, work: Callable[[T], R], of: Iterable[T]) -> list[R]:
        """The results of those that did not fail."""

        def one(item: T) -> list[R]:
            if self._over.is_set():
                return []
            try:
                return [work(item)]
            except AdaptkitError as error:
                if self._alone:
                    raise
                if isinstance(error, Unresponsive):
                    self._over.set()
                self.failures.append(error.summary)
                return []

        return [result for found in self._pool.map(one, of) for result in found]


def _one_at_a_time(context: Context) -> Callable[[Plan, Bundle, Mapping[str, Path]], None]:
    """The review of a bundle, for threads: plugins need not know of them."""
    lock = Lock()

    def reviewed(plan: Plan, bundle: Bundle, attachments: Mapping[str, Path]) -> None:
        with lock:
            review(
                context,
                Publish(
                    _version(bundle.placed, plan),
                    bundle.manifest,
                    plan.target.url,
                    MappingProxyType(dict(bundle.paths)),
                    context.config.reviews,
                    attachments,
                ),
            )

    return reviewed


def _version(placed: PlacedVersion, plan: Plan) -> Version:
    """What a place holds, in the form in which reviews see what is about to be published."""
    manifest = placed.manifest
    name = placed.name or plan.source.url.rpartition("/")[2]
    return Version(
        name,
        placed.number,
        manifest.digest,
        manifest.method,
        manifest.rank,
        manifest.base,
        manifest.created,
        placed.author,
        placed.message,
    )
