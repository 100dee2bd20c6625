"""fsck: compare database, store and placements, with a finding for each problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptkit.errors import AdaptkitError, Corrupt, NotFound, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from adaptkit.io.progress import Progress
    from adaptkit.remotes.places import Places
    from adaptkit.store.content_store import Store
    from adaptkit.types import Manifest, Placement

Kind = Literal[
    "missing", "corrupt", "elsewhere", "orphaned", "dangling", "unreachable", "contradiction"
]
HARMLESS = frozenset({"elsewhere", "orphaned", "unreachable"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: what, why, and what was done about it.

    `elsewhere`, `orphaned` and `unreachable` are no damage: a placement has it, gc will remove it,
    the place did not respond.
    """

    kind: Kind
    what: str
    why: str = ""
    repaired: str = ""

    @property
    def harmful(self) -> bool:
        return self.kind not in HARMLESS and not self.repaired


@dataclass(frozen=True, slots=True)
class Checked:
    """What `fsck` saw: how many artifacts and placements, and its findings."""

    artifacts: int
    placements: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not any(finding.harmful for finding in self.findings)


def check_artifacts(
    manifests: Sequence[tuple[Manifest, bool]],
    store: Store,
    labels: Callable[[str], str],
    placed: Collection[str],
    repair: Callable[[Manifest], str] | None,
    step: Progress,
) -> Iterator[Finding]:
    """Hash every artifact that the registry knows.

    `repair` brings one back and says from where, or raises.
    """
    for manifest, alive in manifests:
        finding = _check(manifest, store, labels, placed)
        if finding is not None and repair is not None and (alive or finding.kind == "corrupt"):
            try:
                finding = Finding(finding.kind, finding.what, finding.why, repair(manifest))
            except AdaptkitError as error:
                finding = Finding(
                    finding.kind,
                    finding.what,
                    f"{finding.why}; not repaired: {error.why or error.what}",
                )
        if finding is not None:
            yield finding
        step(1)


def _check(
    manifest: Manifest, store: Store, labels: Callable[[str], str], placed: Collection[str]
) -> Finding | None:
    label = f"{labels(manifest.digest)} ({manifest.digest[:19]}…)"
    try:
        store.verify(manifest.digest)
    except Corrupt as error:
        return Finding("corrupt", label, error.what)
    except StoreError:
        blobs = [entry for entry in manifest.files + manifest.extras if store.has(entry.sha256)]
        if manifest.digest in placed and not blobs:
            return Finding("elsewhere", label, "this store does not have it; a placement does")
        return Finding("missing", label, "its manifest is not in the store")
    return None


def check_orphans(
    store: Store, digests: AbstractSet[str], blobs: AbstractSet[str]
) -> Iterator[Finding]:
    """What is in the store and belongs to nothing that the registry knows."""
    held = store.leases.held()
    for digest in store.digests():
        if digest not in digests and digest.partition(":")[2] not in held:
            yield Finding(
                "orphaned",
                f"the manifest {digest[:19]}…",
                "no version has it: gc takes it",
            )
    for path in sorted((store.root / "objects").glob("??/*")):
        if path.name not in blobs | held and not path.name.startswith("."):
            yield Finding(
                "orphaned", f"the blob {path.name[:12]}…", "no version has it: gc takes it"
            )
    for path in sorted((store.root / "quarantine").glob("*")):
        yield Finding(
            "orphaned",
            f"{path.name[:16]}… in quarantine",
            "it was found to be corrupt; delete it when you have looked at it",
        )


def check_placements(
    placements: Sequence[Placement],
    places: Places,
    drop: Callable[[Placement], None] | None,
    step: Progress,
) -> Iterator[Finding]:
    """Check that every place holds what the registry recorded.

    A place that does not respond is left out.
    """
    for placement in placements:
        what = f"{placement.place}@{placement.number}"
        why = ""
        try:
            placed = places.open(placement.place).version(placement.number)
            if placed.manifest.digest != placement.digest:
                why = f"it holds {placed.manifest.digest[:19]}…, not {placement.digest[:19]}…"
        except NotFound as error:
            why = error.what
        except AdaptkitError as error:
            yield Finding("unreachable", what, f"{error.what}: {error.why}")
        if why and drop is not None:
            drop(placement)
            yield Finding("dangling", what, why, "forgotten")
        elif why:
            yield Finding("dangling", what, why)
        step(1)
