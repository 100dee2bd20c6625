"""What is in a place or a remote, looked at without fetching it; and a folder that is not registered."""

from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import NotFound
from adaptkit.extend.artifact_files import CONFIG, WEIGHTS
from adaptkit.io.machine.parallel import run_transfers
from adaptkit.io.staging import staging
from adaptkit.remotes import foreign, transfer
from adaptkit.types import Placement, Version, latest_of
from adaptkit.workspace.lookup.adapters import ingest_folder
from adaptkit.workspace.results import Logged, Shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import StorageBackend
    from adaptkit.types import Manifest, PlacedVersion
    from adaptkit.workspace.context.context import Context

_READERS = 8  # adapters of a remote that are looked at together


def choose_placed(
    context: Context, source: str | refs.UrlRef | refs.RemoteRef
) -> tuple[StorageBackend, PlacedVersion]:
    """The place and the version in it that a URL or `REMOTE:NAME` means; what is missing lists what is there."""
    place, selector = context.places.to_pull(source)
    try:
        return place, transfer.choose(place, selector)
    except NotFound as error:
        parsed = refs.parse(source) if isinstance(source, str) else source
        if isinstance(parsed, refs.RemoteRef) and not transfer.placed_versions(place):
            names, _ = foreign.names_in(context.places.root(parsed.remote))
            fix = f"adaptkit list {parsed.remote}: shows what is there" if names else ""
            raise NotFound(f"adapter in {parsed.remote}", parsed.name, names, fix=fix) from error
        raise


def show_elsewhere(context: Context, ref: refs.UrlRef | refs.RemoteRef | refs.PathRef) -> Shown:
    """Everything that can be known of a version in a place, or of a folder, without registering it."""
    if isinstance(ref, refs.PathRef):
        return _show_folder(context, ref)
    place, placed = choose_placed(context, ref)
    aliases, _ = foreign.aliases_of(place)
    version = _version(ref, place, placed, aliases)
    here = Placement(place.url, placed.number, placed.manifest.digest)
    return Shown(version, placed.manifest, placed.manifest.parents, (here,))


def log_elsewhere(context: Context, ref: refs.UrlRef | refs.RemoteRef) -> Logged:
    """The versions of a place, newest first."""
    place, _ = choose_placed(context, ref)
    there, (aliases, _) = transfer.placed_versions(place), foreign.aliases_of(place)
    return Logged(tuple(_version(ref, place, one, aliases) for one in reversed(there)), ())


def list_remote(context: Context, remote: str, *, every: bool = False) -> tuple[Version, ...]:
    """The latest version of each adapter in a remote, or `every` version."""
    root = context.places.root(remote)
    names, remarks = foreign.names_in(root)
    for text in remarks:
        context.notify(text)

    def versions(name: str) -> list[Version]:
        ref = refs.RemoteRef(remote, name)
        place = context.places.open(f"{root.url}/{name}")
        placed = transfer.placed_versions(place)
        latest = latest_of(placed)
        shown = placed if every else (latest,) if latest else ()
        aliases, _ = foreign.aliases_of(place)
        return [_version(ref, place, one, aliases) for one in shown]

    found = run_transfers(versions, sorted(names), workers=_READERS)
    return tuple(version for part in found for version in part)


def narrowed(
    versions: tuple[Version, ...], words: tuple[str, ...], method: str | None
) -> tuple[Version, ...]:
    """Those of a method whose name or message has every word."""
    return tuple(
        v
        for v in versions
        if method in {None, v.method}
        and all(word.lower() in f"{v.name} {v.message}".lower() for word in words)
    )


def _version(
    ref: refs.UrlRef | refs.RemoteRef,
    place: StorageBackend,
    placed: PlacedVersion,
    aliases: Mapping[str, int],
) -> Version:
    label = f"{ref.remote}:{ref.name}" if isinstance(ref, refs.RemoteRef) else place.url
    return _described(
        label,
        placed.number,
        placed.manifest,
        author=placed.author,
        message=placed.message,
        origin="placed",
        aliases=tuple(
            sorted(a for a, number in aliases.items() if placed.number and number == placed.number)
        ),
    )


def _show_folder(context: Context, ref: refs.PathRef) -> Shown:
    path = ref.path
    if path.name == WEIGHTS and (path.parent / CONFIG).is_file():
        path = path.parent
    with staging(Path(gettempdir())) as work:  # looking makes nothing in the home
        prepared = ingest_folder(context, path, None, work, label=ref.text)
    version = _described(
        ref.text, 0, prepared.manifest, origin="a file" if path.is_file() else "a folder"
    )
    return Shown(version, prepared.manifest, (), ())


def _described(name: str, number: int, manifest: Manifest, **more: object) -> Version:
    return Version(
        name,
        number,
        manifest.digest,
        manifest.method,
        manifest.rank,
        manifest.base,
        manifest.created,
        **more,  # type: ignore[arg-type]
    )
