"""Names, numbers and aliases that come from a place: checked by the grammar of the keyboard, in one function each.

What a place holds is written by whoever may write there. Types and lengths of an `adaptkit.json` are checked where it
is read (`adaptkit.types.checks.schema`); here is what its texts may mean. Everything that takes versions, names or
aliases out of a place (pull, rebuild, mirror, lock, sync) goes through these functions.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import AdaptkitError, BadReference, Corrupt, NotFound
from adaptkit.extend.versioned_storage import VersionedStorage
from adaptkit.types.limits import LARGEST_NUMBER

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from adaptkit.extend import StorageBackend
    from adaptkit.types import PlacedVersion

_AGAIN = "ask who pushed it to push it again as a new version"


def check_placed(place: StorageBackend, placed: PlacedVersion) -> PlacedVersion:
    """A version of a place whose name and number are such as adaptkit gives; `Corrupt` says what is not."""
    label = f"{place.url}@{placed.number}"
    if not 0 <= placed.number <= LARGEST_NUMBER:
        raise Corrupt(
            f"{label} cannot be trusted",
            why=f"a version number is at most {LARGEST_NUMBER:,}",
            fix=_AGAIN,
        )
    if placed.name:
        try:
            refs.check_name(placed.name)
        except BadReference as error:
            raise Corrupt(f"{label} cannot be trusted", why=error.summary, fix=_AGAIN) from error
    return placed


MOST_ALIASES = 200
"""Each is a transaction in a registry, and a request to a place: what somebody writes there must not take hours."""
_MOST_REMARKS = 20


def examined(place: StorageBackend) -> tuple[tuple[PlacedVersion, ...], tuple[str, ...]]:
    """The versions of a place that can be trusted, by number, and why each other one cannot be."""
    listed, complaints = place.list(), list[str]()
    good = []
    for placed in listed:
        try:
            good.append(check_placed(place, placed))
        except Corrupt as error:
            complaints.append(error.summary)
    if isinstance(place, VersionedStorage):
        for number in sorted(set(place.numbers()) - {placed.number for placed in listed}):
            try:
                place.version(number)
            except AdaptkitError as error:
                complaints.append(error.summary)
    return tuple(good), tuple(complaints)


def versions_of(place: StorageBackend) -> tuple[PlacedVersion, ...]:
    """The versions of a place that can be trusted, by number; the others do not hide them."""
    found = []
    for placed in place.list():
        with suppress(Corrupt):
            found.append(check_placed(place, placed))
    return tuple(found)


def aliases_of(place: StorageBackend) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """The aliases of a place that could have been typed here, and a remark on each other one."""
    good, remarks = dict[str, int](), []
    found = sorted(place.aliases().items())
    for alias, number in found[:MOST_ALIASES]:
        try:
            refs.check_alias(alias)
        except BadReference as error:
            remarks.append(f"an alias of {place.url} was left out: {error.what}")
            continue
        if not 1 <= number <= LARGEST_NUMBER:
            remarks.append(f"the alias {alias} of {place.url} was left out: {number} is no number")
        else:
            good[alias] = number
    if more := len(found[MOST_ALIASES:]):
        remarks.append(
            f"{more:,} more aliases of {place.url} were left out: only {MOST_ALIASES} of a place are read"
        )
    return good, tuple(remarks)


def dangling(
    place: StorageBackend, aliases: Mapping[str, int], listed: Container[int]
) -> tuple[str, ...]:
    """A remark on each alias of a version that is missing: neither listed, nor come since."""
    remarks = []
    for alias, number in sorted(aliases.items()):
        if number in listed:
            continue
        try:
            check_placed(place, place.version(number))
        except (NotFound, Corrupt):
            remarks.append(
                f"the alias {alias} of {place.url} was left out: it points at version {number}, "
                "which is missing or cannot be trusted"
            )
    return tuple(remarks)


def names_in(root: StorageBackend) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the adapters below a root, and a remark on each that is no name."""
    good, remarks = list[str](), []
    for name in root.names():
        try:
            good.append(refs.check_name(name))
        except BadReference as error:
            remarks.append(f"a folder of {root.url} was left out: {error.what}")
    if more := len(remarks[_MOST_REMARKS:]):
        remarks[_MOST_REMARKS:] = [f"{more:,} more folders of {root.url} were left out"]
    return tuple(good), tuple(remarks)


def name_of(place: StorageBackend) -> str:
    """What the adapter of a place is called: the last part of its URL, never what is written inside."""
    last = place.url.rstrip("/").rpartition("/")[2]
    try:
        return refs.check_name(last)
    except BadReference as error:
        raise BadReference(
            f"{place.url} does not end with a name", why=error.what, fix="give one: --name NAME"
        ) from error


def alias_in(place: StorageBackend, alias: str) -> int:
    """The number that an alias of a place has; `NotFound` lists those there are."""
    number = place.aliases().get(alias, 0)
    if not 1 <= number <= LARGEST_NUMBER:
        raise NotFound(f"alias in {place.url}", alias, aliases_of(place)[0])
    return number
