"""`StorageBackend`: one adapter's place behind a URL, and the values a push hands it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar, Self

from adaptkit.errors import BadReference, NotFound, StorageError
from adaptkit.io.progress.progress import no_progress
from adaptkit.types import latest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from adaptkit.io.progress.progress import Progress
    from adaptkit.types import FileEntry, Manifest, PlacedVersion, Receipt


def no_version(url: str, number: int | None, there: Iterable[int]) -> NotFound:
    """The error for a version that a place does not have: it lists those that are there."""
    numbers = list(map(str, there))
    fix = "" if numbers else "check the URL for a typo; a push makes the first version"
    error = NotFound(f"version in {url}", str(number), numbers, fix=fix)
    if number is None:
        error.what = f"no version in {url}"
    return error


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a push carries.

    The version as this registry knows it, and where each file's bytes are stored.

    `placed.number` is the number here; the place may have to give another (DESIGN section 2).
    """

    placed: PlacedVersion
    paths: Mapping[str, Path]
    former: Mapping[str, Path] = field(default_factory=dict)
    """By sha256, what a place has lost of the version and nobody sends anew: a README.md that was corrected since."""

    @property
    def manifest(self) -> Manifest:
        return self.placed.manifest

    @property
    def files(self) -> tuple[FileEntry, ...]:
        return self.manifest.files + self.manifest.extras


@dataclass(frozen=True, slots=True)
class Promise:
    """What a place guarantees, learned by trying.

    Shown by `remote check` and recorded with a push.
    """

    create_only: bool
    compare_and_swap: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class PushOptions:
    """What a person may ask of a push.

    Most places know none of it, and say so (`StorageBackend.asked`).
    """

    create: bool = False
    """Make the place if it is missing, where that is a decision (a repository on the Hub)."""
    private: bool = False
    """Create it so that only those may read it who were given the right."""
    create_pr: bool = False
    """Only propose: others review it, and it has no number before they agree."""
    branch: str = ""
    """Another line of versions than the main one."""


class StorageBackend(ABC):
    """One adapter's place behind a URL.

    Raises `StorageError`, with the place's URL in its message.
    """

    schemes: ClassVar[tuple[str, ...]]
    """URL schemes it serves, such as ("file",)."""
    shows_card: ClassVar[bool] = False
    """Whether a version's README.md is its page there: a push then makes a model card."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def open(cls, url: str) -> Self:
        """The place at `url`; touches nothing yet."""
        return cls(url)

    @abstractmethod
    def list(self) -> tuple[PlacedVersion, ...]:
        """Every committed version, by number; empty when the place does not exist yet."""

    @abstractmethod
    def push(
        self, bundle: Bundle, expected: tuple[PlacedVersion, ...], progress: Progress = no_progress
    ) -> Receipt:
        """Publish, expecting what `list` showed; `Conflict` when no free number could be had."""

    @abstractmethod
    def pull(
        self,
        version: PlacedVersion,
        files: Sequence[FileEntry],
        into: Path,
        progress: Progress = no_progress,
    ) -> None:
        """Write these files of a version below `into`, an empty folder.

        The caller verifies the bytes.
        """

    @abstractmethod
    def probe(self) -> Promise:
        """Test what the place really guarantees, and leave nothing behind."""

    def at(self, endpoint: str) -> Self:
        """The place on another server than the scheme's usual one, for backends that have one."""
        scheme = self.url.partition("://")[0]
        raise StorageError(
            f"{self.url} does not support another server",
            why=f"config.toml sets endpoints.{scheme} = '{endpoint}'",
            fix="remove that line",
        )

    def asked(self, options: PushOptions) -> Self:
        """The place to push to as a person asked.

        By default every option is refused, by its name.
        """
        for option in fields(options):
            if getattr(options, option.name) != option.default:
                raise StorageError(
                    f"{self.url} does not support --{option.name.replace('_', '-')}",
                    why="this kind of place has no such feature",
                    fix="push without it",
                )
        return self

    def card(self) -> str:
        """The place's current README.md, for places with `shows_card`; empty when there is none."""
        return ""

    def write_card(self, text: str, number: int) -> None:
        """Replace the place's README.md by the card of version `number`; nothing else changes."""
        raise StorageError(
            f"{self.url} does not show a card", why="this kind of place has no page of its own"
        )

    def at_revision(self, revision: str) -> PlacedVersion:
        """The version at a revision of the place's own (`@rev:…`), such as a commit or a branch."""
        raise BadReference(
            f"cannot pull '@rev:{revision}' from {self.url}",
            why="revisions are for hf:// places",
            fix=f"{self.url}@3 takes version 3",
        )

    def outline(self, revision: str, into: Path) -> Mapping[str, str]:
        """Write what identifies a base model there, without its weights.

        Returns each weight file's declared sha256.

        `into` gets config and index, and each weight file in its full size, sparse, with nothing
        but its header.
        """
        raise StorageError(
            f"cannot read the base {self.url}",
            why="bases are read from hf:// places",
            fix="download it, then pass the folder: --base DIR",
        )

    def version(self, number: int | None = None) -> PlacedVersion:
        """One committed version, by default the highest that was pushed as latest.

        `NotFound` lists the numbers there.
        """
        found = {version.number: version for version in self.list()}
        if not found or (number is not None and number not in found):
            raise no_version(self.url, number, found)
        chosen = latest_of(found.values()) if number is None else found[number]
        assert chosen is not None
        return chosen

    def find(self, digest: str) -> PlacedVersion | None:
        """The version that this kind of place itself calls by a digest (an image's).

        None when there is no such.
        """
        return None

    def aliases(self) -> Mapping[str, int]:
        """The aliases that were pushed here."""
        return {}

    def set_alias(self, alias: str, number: int) -> None:
        """Point an alias at a version, by compare-and-swap where the place can."""
        raise StorageError(
            f"{self.url} does not keep aliases", why="this kind of place cannot store them"
        )

    def damage(self, version: PlacedVersion) -> Mapping[str, str]:
        """The files of a version that are not stored as its manifest says, each with the reason.

        By sizes, and by digests where the place itself knows them: nothing is read. A place that
        can tell neither returns nothing.
        """
        return {}

    def repair(
        self,
        version: PlacedVersion,
        files: Sequence[FileEntry],
        paths: Mapping[str, Path],
        progress: Progress = no_progress,
    ) -> int:
        """Store these files of a version again, whatever is stored there; returns the bytes sent."""
        raise StorageError(
            f"cannot repair {self.url}@{version.number}",
            why="this kind of place does not replace files of a version",
            fix="push it again as a new version",
        )

    def copy_here(self, revision: str) -> Path | None:
        """The folder of this machine's copy of a base model from this place; None without one."""
        return None

    def attach(self, number: int, kind: str, files: Mapping[str, bytes]) -> str:
        """Put a few small files, such as a signature, beside a version that never changes.

        Returns their name.

        `kind` is a media type. The same files twice are there once; the last file makes the
        attachment appear.
        """
        raise StorageError(
            f"{self.url} does not keep signatures", why="this kind of place cannot store them"
        )

    def attached(self, number: int, kind: str) -> tuple[Mapping[str, bytes], ...]:
        """What was attached to a version, of one kind; the reader has to check it."""
        return ()

    def names(self) -> tuple[str, ...]:
        """The adapters below this place, when it is a remote's root.

        Empty when it cannot be listed.
        """
        return ()
