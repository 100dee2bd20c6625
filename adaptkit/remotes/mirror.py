"""Copying versions from one place to another, without a registry between them.

Every file is hashed on its way, a digest that is there sends nothing, numbers stay where they are
free, and what was interrupted goes on by running again: each version arrives whole or not at all.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import AdaptkitError, Corrupt, NotFound, Refused, StorageError, Unresponsive
from adaptkit.extend import Bundle, StorageBackend
from adaptkit.io.files import sha256_file
from adaptkit.io.progress.progress import no_progress
from adaptkit.remotes import transfer
from adaptkit.remotes.foreign import aliases_of, dangling, examined, names_in
from adaptkit.remotes.mirror_attachments import carry_attachments
from adaptkit.remotes.mirrored import Copied, Mirrored, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.io.progress.progress import Progress
    from adaptkit.remotes.mirrored import Review
    from adaptkit.remotes.places import Places
    from adaptkit.types import FileEntry, PlacedVersion


def pairs(
    places: Places, source: str, target: str, notify: Callable[[str], None]
) -> list[tuple[StorageBackend, StorageBackend, refs.Selector | None]]:
    """Which place goes where.

    One adapter's (`team:naval`, a URL), or every adapter's below a remote or a root's URL.
    """
    if "://" not in source and ":" not in source:
        return _below(places, places.root(source), target, notify)
    place, selector = places.to_pull(source)
    name = refs.check_name(place.url.rstrip("/").rpartition("/")[2]) if "://" not in target else ""
    if "://" in source and selector is None and not _holds_versions(place):
        return _below(places, place, target, notify)
    if "://" not in source:
        parsed = refs.parse(source)
        assert isinstance(parsed, refs.RemoteRef)
        name = parsed.name
    return [_apart(place, places.to_push(target, name), selector)]


def plan(source: StorageBackend, target: StorageBackend, selector: refs.Selector | None) -> Plan:
    """Look at both sides; nothing is written."""
    listed, complaints = (
        examined(source) if selector is None else ((transfer.choose(source, selector),), ())
    )
    there = transfer.placed_versions(target)
    numbers = {p.manifest.digest: p.number for p in reversed(there) if p.number}
    broken = [*complaints]
    broken += [
        f"{source.url} has a version without a number, which adaptkit did not make: pull it, and push that"
        for placed in listed
        if not _numbered(placed)
    ]
    listed = tuple(placed for placed in listed if _numbered(placed))
    if not listed and not broken:
        raise NotFound(f"version in {source.url}", "latest")
    damaged = {
        placed.manifest.digest
        for placed in there
        if placed.manifest.digest in {one.manifest.digest for one in listed}
        and target.damage(placed)
    }
    numbers = {digest: number for digest, number in numbers.items() if digest not in damaged}
    once = {
        placed.manifest.digest: placed
        for placed in reversed(listed)
        if placed.manifest.digest not in numbers
    }
    todo = tuple(sorted(once.values(), key=lambda placed: placed.number))
    whole = selector is None
    return Plan(source, target, tuple(listed), todo, numbers, tuple(broken), whole)


def copy(
    planned: Plan,
    folder: Path,
    review: Review,
    progress: Progress = no_progress,
) -> Mirrored:
    """Send what is to be sent, oldest first, then the aliases.

    What fails, or `review` refuses, is reported; the rest goes on.
    """
    numbers, sent, failures = dict(planned.numbers), list[Copied](), list(planned.broken)
    held: dict[str, Path] = {}
    for placed in planned.todo:
        try:
            held = _bring(planned.source, placed, Path(mkdtemp(dir=folder)), held)
            paths = {
                entry.path: held[entry.sha256]
                for entry in placed.manifest.files + placed.manifest.extras
            }
            bundle = Bundle(placed, paths)
            review(planned, bundle, {})
            receipt = transfer.push(planned.target, bundle)
        except Unresponsive as error:
            failures.append(error.summary)
            return Mirrored((*planned.unchanged, *sent), failures=tuple(failures))
        except AdaptkitError as error:
            failures.append(error.summary)
        else:
            numbers[placed.manifest.digest] = receipt.number
            sent.append(
                Copied(
                    planned.source.url,
                    placed.number,
                    planned.target.url,
                    receipt.number,
                    receipt.digest,
                    receipt.sent,
                    receipt.unchanged,
                )
            )
        progress(1)
    carry_attachments(planned, numbers, folder, review, failures)
    aliases, remarks = _carry_aliases(planned, numbers, failures)
    return Mirrored((*planned.unchanged, *sent), aliases, tuple(failures), remarks)


def _carry_aliases(
    planned: Plan, numbers: Mapping[str, int], failures: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    digests = {placed.number: placed.manifest.digest for placed in planned.listed}
    try:
        found, left_out = aliases_of(planned.source)
    except AdaptkitError as error:
        failures.append(error.summary)
        return (), ()
    failures += left_out
    if planned.whole:
        failures += dangling(planned.source, found, digests)
    wanted = {
        alias: numbers[digests[number]]
        for alias, number in sorted(found.items())
        if digests.get(number) in numbers
    }
    if wanted and type(planned.target).set_alias is StorageBackend.set_alias:
        return (), (
            f"{planned.target.url} does not keep aliases: {', '.join(wanted)} were not copied",
        )
    now, carried = planned.target.aliases() if wanted else {}, []
    for alias, number in wanted.items():
        if now.get(alias) == number:
            continue
        try:
            planned.target.set_alias(alias, number)
        except AdaptkitError as error:
            failures.append(error.summary)
        else:
            carried.append(f"{planned.target.url}@{alias} → {number}")
    return tuple(carried), ()


def _bring(
    source: StorageBackend, placed: PlacedVersion, into: Path, held: Mapping[str, Path]
) -> dict[str, Path]:
    """The files of a version by sha256, verified.

    Those of the version before are used again, or dropped.
    """
    entries = placed.manifest.files + placed.manifest.extras
    missing = list({entry.sha256: entry for entry in entries if entry.sha256 not in held}.values())
    source.pull(placed, missing, into)
    _check(source, placed, missing, into)
    needed = {entry.sha256 for entry in entries}
    for sha256, path in held.items():
        if sha256 not in needed:
            path.unlink(missing_ok=True)
    return {sha256: path for sha256, path in held.items() if sha256 in needed} | {
        entry.sha256: into / entry.path for entry in missing
    }


def _check(
    source: StorageBackend, placed: PlacedVersion, entries: Sequence[FileEntry], into: Path
) -> None:
    for entry in entries:
        path = into / entry.path
        found = sha256_file(path) if path.is_file() else "no file"
        if found != entry.sha256:
            shutil.rmtree(into, ignore_errors=True)
            raise Corrupt(
                f"'{entry.path}' of {source.url}@{placed.number} is corrupt",
                why=f"expected sha256 {entry.sha256[:12]}…, found {found[:12]}…",
                fix="this version was not copied; ask for a new push of it",
            )


def _below(
    places: Places, root: StorageBackend, target: str, notify: Callable[[str], None]
) -> list[tuple[StorageBackend, StorageBackend, refs.Selector | None]]:
    names, left_out = names_in(root)
    for text in left_out:
        notify(text)
    if not names:
        raise StorageError(
            f"there is nothing to mirror in {root.url}",
            why="no adapter is stored there, or it cannot be listed",
            fix="name one adapter's place: adaptkit mirror REMOTE:NAME TO",
        )
    if "://" not in target and ":" in target:
        raise Refused(
            f"cannot mirror all of {root.url} to '{target}'",
            why="that is one adapter's place",
            fix=f"adaptkit mirror {root.url} {target.partition(':')[0]}",
        )
    to = places.root(target).url
    return [
        _apart(places.open(f"{root.url}/{name}"), places.open(f"{to}/{name}"), None)
        for name in names
    ]


def _apart(
    source: StorageBackend, target: StorageBackend, selector: refs.Selector | None
) -> tuple[StorageBackend, StorageBackend, refs.Selector | None]:
    if source.url == target.url:
        raise Refused(
            f"cannot mirror {source.url} to itself",
            why="both are one place",
            fix="name another place",
        )
    return source, target, selector


def _numbered(placed: PlacedVersion) -> bool:
    return placed.described and placed.number > 0


def _holds_versions(place: StorageBackend) -> bool:
    try:
        return bool(transfer.placed_versions(place))
    except Unresponsive:
        raise
    except StorageError:  # an OCI registry's root is no repository
        return False
