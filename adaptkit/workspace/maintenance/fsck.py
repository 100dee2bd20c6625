"""fsck: compare database, store and placements, with a finding for each problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptkit.errors import AdaptkitError, Corrupt, NotFound, StoreError, Unresponsive

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from adaptkit.extend import StorageBackend
    from adaptkit.io.progress.progress import Progress
    from adaptkit.remotes.places import Places
    from adaptkit.store.content_store import Store
    from adaptkit.types import Manifest, PlacedVersion, Placement

Kind = Literal[
    "missing",
    "lost",
    "corrupt",
    "elsewhere",
    "orphaned",
    "dangling",
    "damaged",
    "unreachable",
    "contradiction",
]
HARMLESS = frozenset({"elsewhere", "orphaned", "unreachable"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: what, why, and what was done about it.

    `elsewhere`, `orphaned` and `unreachable` are no damage: a placement has it, gc will remove it,
    the place did not respond. `lost` is a version whose bytes exist nowhere any more, `dangling` a
    placement that holds no such version, `damaged` one whose files are not what they should be.
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
    look: Callable[[str], StoreError | None],
    repair: Callable[[Manifest], str] | None,
    step: Progress,
) -> Iterator[Finding]:
    """Look at every artifact that the registry knows.

    `look` hashes one, or says what a worker that hashed it found. `repair` brings one back and says from where, or
    raises.
    """
    for manifest, alive in manifests:
        finding = _check(manifest, store, labels, placed, look(manifest.digest))
        if finding is not None and repair is not None and (alive or finding.kind == "corrupt"):
            try:
                finding = Finding(finding.kind, finding.what, finding.why, repair(manifest))
            except AdaptkitError as error:
                finding = Finding(
                    "missing" if finding.kind == "elsewhere" else finding.kind,
                    finding.what,
                    f"{finding.why}; not repaired: {error.why or error.what}",
                )
        if finding is not None:
            yield finding
        step(1)


def _check(
    manifest: Manifest,
    store: Store,
    labels: Callable[[str], str],
    placed: Collection[str],
    error: StoreError | None,
) -> Finding | None:
    if error is None:
        return None
    label = _label(manifest.digest, labels)
    if isinstance(error, Corrupt):
        return Finding("corrupt", label, error.what)
    blobs = [entry for entry in manifest.files + manifest.extras if store.has(entry.sha256)]
    if manifest.digest in placed and not blobs:
        return Finding("elsewhere", label, "this store does not have it; a placement does")
    return Finding("missing", label, "its manifest is not in the store")


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
    look: Callable[[StorageBackend, PlacedVersion], Mapping[str, str]],
    repair: Callable[[Placement, StorageBackend | None, PlacedVersion | None], str] | None,
    step: Progress,
) -> Iterator[tuple[Placement, Finding | None]]:
    """Check that every place holds what the registry recorded: each placement, and what is wrong with it.

    `look` finds the damaged files of a version. `repair` sends a version again, or forgets a
    placement that holds none, and says what it did. A place that does not respond is left out; a server that is too
    slow, or sends without an end, is asked once.
    """
    slow: dict[str, str] = {}
    for placement in placements:
        server = "/".join(placement.place.split("/")[:3])
        try:
            if server in slow:
                what = f"{placement.place}@{placement.number}"
                yield placement, Finding("unreachable", what, slow[server])
            else:
                yield placement, _placement(placement, places, look, repair)
        except Unresponsive as error:
            slow[server] = f"not asked, because {error.what}: {error.why}"
            what = f"{placement.place}@{placement.number}"
            yield placement, Finding("unreachable", what, f"{error.what}: {error.why}")
        step(1)


def _placement(
    placement: Placement,
    places: Places,
    look: Callable[[StorageBackend, PlacedVersion], Mapping[str, str]],
    repair: Callable[[Placement, StorageBackend | None, PlacedVersion | None], str] | None,
) -> Finding | None:
    what = f"{placement.place}@{placement.number}"
    place: StorageBackend | None = None
    placed: PlacedVersion | None = None
    kind: Kind = "dangling"
    try:
        place = places.open(placement.place)
        placed = place.version(placement.number)
        if placed.manifest.digest != placement.digest:
            why = f"it holds {placed.manifest.digest[:19]}…, not {placement.digest[:19]}…"
            place = placed = None
        elif broken := look(place, placed):
            kind = "damaged"
            why = ", ".join(f"{path}: {text}" for path, text in sorted(broken.items()))
        else:
            return None
    except NotFound as error:
        why, place = error.what, None
    except Corrupt as error:  # its manifest cannot be believed
        return Finding("damaged", what, error.summary)
    except Unresponsive:
        raise
    except AdaptkitError as error:
        return Finding("unreachable", what, f"{error.what}: {error.why}")
    if repair is None:
        return Finding(kind, what, why)
    try:
        return Finding(kind, what, why, repair(placement, place, placed))
    except AdaptkitError as error:
        return Finding(kind, what, f"{why}; not repaired: {error.summary}")


def may_hold(finding: Finding | None) -> bool:
    """Whether the place of a placement, by what was found of it, may still hold the version."""
    if finding is None or finding.kind == "unreachable":
        return True
    return finding.kind == "damaged" and bool(finding.repaired)


def lost(
    findings: Sequence[Finding],
    manifests: Sequence[Manifest],
    store: Store,
    labels: Callable[[str], str],
    sound: Collection[str],
) -> Iterator[Finding]:
    """The findings again; what is missing here and in no sound placement is called lost, with what is known of it."""
    names = {_label(manifest.digest, labels): manifest for manifest in manifests}
    for finding in findings:
        manifest = names.get(finding.what)
        gone = (
            manifest is not None
            and finding.kind in {"missing", "elsewhere", "corrupt"}
            and not finding.repaired
            and manifest.digest not in sound
            and not _whole(store, manifest)
        )
        if not gone or manifest is None:
            yield finding
            continue
        size = sum(entry.size for entry in manifest.files)
        known = (
            f"{manifest.method or 'unknown method'}, {len(manifest.files)} files, {size:,} bytes"
        )
        base = f", base {manifest.base.name}" if manifest.base.name else ""
        made = f", made {manifest.created[:10]}" if manifest.created else ""
        yield Finding(
            "lost",
            finding.what,
            f"{finding.why}; its bytes are in no place that responded ({known}{base}{made})",
        )


def _whole(store: Store, manifest: Manifest) -> bool:
    return all(store.has(entry.sha256) for entry in manifest.files)


def _label(digest: str, labels: Callable[[str], str]) -> str:
    return f"{labels(digest)} ({digest[:19]}…)"
