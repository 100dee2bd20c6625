"""Remotes: what they promise, and copies of what lies in one."""

from __future__ import annotations

from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING

from adaptkit.actions import Publish
from adaptkit.errors import StorageError
from adaptkit.extend import PushOptions
from adaptkit.folders import staging
from adaptkit.holdings import Holdings
from adaptkit.results import Probed
from adaptkit.types import Version

if TYPE_CHECKING:
    from adaptkit.extend import Bundle
    from adaptkit.mirroring import Mirrored, Plan
    from adaptkit.types import PlacedVersion


class Placing(Holdings):
    """Looks after remotes. Opens no registry."""

    def check_remote(self, remote: str) -> Probed:
        """Write, read, compare and delete a probe in a remote (`team`), a place in it (`team:naval`) or a URL."""
        if "://" in remote or ":" in remote:
            place, _ = self.places.to_pull(remote)
        else:
            place = self.places.root(remote)
        with self._watch(f"trying {place.url}", None):
            return Probed(place.url, place.probe())

    def mirror(self, source: str, target: str, *, dry_run: bool = False, jobs: int = 4,
               options: PushOptions | None = None) -> Mirrored:  # fmt: skip
        """Copy every version of a remote, or of one adapter in it, to another, `jobs` adapters at a time.

        Digests are verified on the way, numbers stay where they are free, aliases come along. Run again, it sends what
        is missing. `StorageError` at the end when something could not be copied.
        """
        from concurrent.futures import ThreadPoolExecutor

        from adaptkit import mirroring

        self._check_reviews()
        pairs = [(one, other.asked(options or PushOptions()), selector)
                 for one, other, selector in mirroring.pairs(self.places, source, target)]  # fmt: skip
        with ThreadPoolExecutor(jobs) as pool, staging(self._tmp) as work:
            plans = list(pool.map(lambda pair: mirroring.plan(*pair), pairs))
            if dry_run:
                told = tuple(one for plan in plans for one in (*plan.unchanged, *plan.wished))
                return mirroring.Mirrored(told, failures=tuple(text for plan in plans for text in plan.broken))
            with self._watch("mirroring", sum(len(plan.todo) for plan in plans)) as step:
                one_by_one = Lock()

                def review(plan: Plan, bundle: Bundle) -> None:
                    with one_by_one:  # plugins need not know of threads
                        self._review(Publish(_version(bundle.placed, plan), bundle.manifest, plan.target.url,
                                             MappingProxyType(dict(bundle.paths)), self.config.reviews))  # fmt: skip

                done = list(pool.map(lambda plan: mirroring.copy(plan, work, review, step), plans))
        report = mirroring.Mirrored(
            tuple(one for part in done for one in part.versions),
            tuple(text for part in done for text in part.aliases),
            tuple(text for part in done for text in part.failures),
        )
        for text in (text for part in done for text in part.remarks):
            self.notify(text)
        if report.failures:
            raise StorageError(
                f"{len(report.failures)} of {len(report.failures) + len(report.versions)} could not be mirrored",
                why="; ".join(report.failures), fix="the rest is there; the same command goes on",
            )  # fmt: skip
        return report


def _version(placed: PlacedVersion, plan: Plan) -> Version:
    """What lies in a place, as reviews are shown what is about to be published."""
    manifest = placed.manifest
    name = placed.name or plan.source.url.rpartition("/")[2]
    return Version(name, placed.number, manifest.digest, manifest.method, manifest.rank, manifest.base, manifest.created,
                   placed.author, placed.message)  # fmt: skip
