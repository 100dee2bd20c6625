"""What a repository holds: versions by number, found through tags and through the commits themselves.

A version's number stands in its commit's `adaptkit.json`. The tag `v3` is an index on top: when its writer died
before setting it, the version is found at the head of a branch, and whoever writes next sets the tag. A tag that
points at a commit of another number was moved by somebody; it is not believed, and the number stays taken.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, Corrupt, NotFound, StorageError, StoreError
from adaptkit.extend.artifact_files import CONFIG, MANIFEST, PICKLE, README, WEIGHTS, belongs
from adaptkit.extend.versioned_storage import LARGEST_MANIFEST, check_entries
from adaptkit.io.safe_paths import check_relative
from adaptkit.types import BaseIdentity, FileEntry, Manifest, PlacedVersion, artifact_digest
from adaptkit_plugins.storage.hub.errors import NoFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.types import Facts
    from adaptkit_plugins.storage.hub.client import Client

_LARGEST_PLAIN = 64 << 20  # bytes of a file kept in git itself, whose sha256 the Hub does not state
_MOST_FILES = 10_000
_TAG = re.compile(r"v([1-9][0-9]{0,8})")
_LOOK_BACK = 200  # commits
_READERS = 8


@dataclass(frozen=True)
class Look:
    """One look at a repository: its heads, and the versions in it."""

    heads: Mapping[str, str]
    tags: Mapping[str, str]
    versions: Mapping[int, PlacedVersion] = field(default_factory=dict)
    untagged: tuple[int, ...] = ()

    @property
    def highest(self) -> int:
        """The highest number that anything stands under, believed or not; 0 when nothing does."""
        tagged = [int(match[1]) for tag in self.tags if (match := _TAG.fullmatch(tag))]
        return max([*tagged, *self.versions], default=0)

    def head(self, branch: str) -> str:
        """The commit that a branch is at; a Hub may list versions and not the branch that they are on."""
        if branch not in self.heads:
            raise StorageError(
                f"there is no branch '{branch}'",
                why="the Hub does not list it",
                fix="try again; if it stays so, look at the repository's page",
            )
        return self.heads[branch]


class History:
    """Reads versions out of a repository. Commits never change, so what one holds is read once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._contents: dict[str, PlacedVersion | AdaptkitError | None] = {}
        self._trees: dict[str, dict[str, Any]] = {}

    def look(self) -> Look:
        """Everything there is; `RepositoryNotFoundError` is a `StorageError` like any other."""
        refs = self._client.ask("read", lambda: self._client.api.list_repo_refs(self._client.repo))
        heads, tags = _commits(refs.branches), _commits(refs.tags)
        numbered = [tag for tag in tags if _TAG.fullmatch(tag)]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_READERS) as pool:  # each is a request; what they return is kept
            list(pool.map(self.at, {tags[tag] for tag in numbered} | set(heads.values())))
        found: dict[int, PlacedVersion] = {}
        for tag in numbered:
            match, placed = _TAG.fullmatch(tag), self.at(tags[tag])
            if match and isinstance(placed, PlacedVersion) and placed.number == int(match[1]):
                found[placed.number] = placed
        untagged = []
        for commit in heads.values():
            placed = self.at(commit)
            if (
                isinstance(placed, PlacedVersion)
                and placed.number
                and f"v{placed.number}" not in tags
            ):
                found[placed.number] = self._first_commit(placed, commit)
                untagged.append(placed.number)
        return Look(heads, tags, dict(sorted(found.items())), tuple(sorted(set(untagged))))

    def at(self, commit: str) -> PlacedVersion | AdaptkitError | None:
        """The version in the `adaptkit.json` of a commit; an error when it cannot be trusted, None when there is none."""
        if commit not in self._contents:
            self._contents[commit] = self._read(commit)
        return self._contents[commit]

    def resolve(self, revision: str) -> str:
        """The commit that a branch, a tag or a part of a commit's name means."""
        info = self._client.ask(
            "read", lambda: self._client.api.model_info(self._client.repo, revision=revision)
        )
        if info.sha is None:
            raise StorageError(
                f"cannot read {self._client.url}",
                why="the Hub does not return which commit that is",
            )
        return info.sha

    def tree(self, commit: str) -> dict[str, Any]:
        """The files of a commit by path, as huggingface_hub describes them."""
        if commit not in self._trees:

            def call() -> dict[str, Any]:
                listed = self._client.api.list_repo_tree(
                    self._client.repo, recursive=True, revision=commit
                )
                files: dict[str, Any] = {}
                for entry in listed:
                    if hasattr(entry, "blob_id"):
                        files[entry.path] = entry
                    if len(files) > _MOST_FILES:
                        raise StorageError(
                            f"cannot read {self._client.url}",
                            why=f"it holds more than {_MOST_FILES:,} files",
                        )
                return files

            self._trees[commit] = self._client.ask("read", call)
        return self._trees[commit]

    def standing(self, commit: str) -> PlacedVersion:
        """What a commit holds: its version, or, where files were changed by hand, these files."""
        placed = self.at(commit)
        if not isinstance(placed, PlacedVersion):
            return self.plain(commit)
        files = self.tree(commit)
        if not all(_fits(files.get(entry.path), entry) for entry in placed.manifest.files):
            return self.plain(commit)
        extras = tuple(
            entry for entry in placed.manifest.extras if _fits(files.get(entry.path), entry)
        )
        return replace(placed, manifest=replace(placed.manifest, extras=extras), revision=commit)

    def damage(self, commit: str, entries: Sequence[FileEntry]) -> Mapping[str, str]:
        """Which files a commit does not hold as a manifest states them, by what the Hub lists, with the reason."""
        files, found = self.tree(commit), {}
        for entry in entries:
            listed = files.get(entry.path)
            if not _fits(listed, entry):
                found[entry.path] = (
                    "it is missing"
                    if listed is None
                    else f"it has {listed.size:,} bytes, not {entry.size:,}"
                    if listed.size != entry.size
                    else "it has another sha256"
                )
        return found

    def plain(self, commit: str) -> PlacedVersion:
        """The PEFT files of a commit that adaptkit did not make: what is known is what the Hub states of them."""
        files = self.tree(commit)
        wanted = sorted(path for path in files if belongs(path))
        if CONFIG not in wanted or not {WEIGHTS, PICKLE} & set(wanted):
            raise NotFound(
                f"adapter in {self._client.url} at",
                commit[:12],
                (),
                fix=f"a PEFT adapter has {CONFIG} and {WEIGHTS}; this is something else",
            )
        entries = tuple(self._entry(commit, path, files[path]) for path in wanted)
        extras = (self._entry(commit, README, files[README]),) if README in files else ()
        facts: Facts = {
            "found": {"place": self._client.url, "revision": commit, "made_by": "not adaptkit"}
        }
        config = self._config(commit)
        name = config.get("base_model_name_or_path")
        base = BaseIdentity(name if isinstance(name, str) else None)
        manifest = Manifest(
            artifact_digest(entries), entries, "", base=base, extras=extras, facts=facts
        )
        return PlacedVersion(0, manifest, revision=commit)

    def _read(self, commit: str) -> PlacedVersion | AdaptkitError | None:
        try:
            content = json.loads(self._client.read(commit, MANIFEST, LARGEST_MANIFEST))
            # somebody merged a proposal: a version without a number
            proposed = "number" not in content
            placed = PlacedVersion.from_json(content | {"number": 1} if proposed else content)
            check_entries(placed.manifest.files + placed.manifest.extras)
            return replace(placed, number=0 if proposed else placed.number, revision=commit)
        except NoFile:
            return None
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
            StoreError,
        ) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            return Corrupt(
                f"{MANIFEST} of {self._client.url}@rev:{commit[:12]} cannot be trusted",
                why=why,
                fix="ask who pushed it to push it again as a new version",
            )

    def _first_commit(self, placed: PlacedVersion, head: str) -> PlacedVersion:
        """The version whose manifest stands at a head, pinned to the commit that brought it."""
        api, repo = self._client.api, self._client.repo
        commits = self._client.ask(
            "read", lambda: api.list_repo_commits(repo, revision=head)[:_LOOK_BACK]
        )
        mark = trailer(placed.number, placed.manifest.digest)
        mine = [str(commit.commit_id) for commit in commits if mark in str(commit.message)]
        return replace(placed, revision=mine[-1]) if mine else self.standing(head)

    def _entry(self, commit: str, path: str, listed: Any) -> FileEntry:
        """A file's size and sha256: stated by the Hub when it is large, computed when it is small."""
        from hashlib import sha256

        check_relative(path)
        if listed.lfs is not None:
            return FileEntry(path, listed.lfs.size, listed.lfs.sha256)
        data = self._client.read(commit, path, _LARGEST_PLAIN)
        return FileEntry(path, len(data), sha256(data).hexdigest())

    def _config(self, commit: str) -> Mapping[str, Any]:
        try:
            config = json.loads(self._client.read(commit, CONFIG, LARGEST_MANIFEST))
        except (ValueError, RecursionError):
            return {}
        return config if isinstance(config, dict) else {}


def trailer(number: int, digest: str) -> str:
    """The line in a commit's message that names the version it brought."""
    return f"adaptkit-version: {number} {digest}"


def unchanged(listed: Any, entry: FileEntry, oid: str) -> bool:
    """Whether a file in a tree is this one: by its sha256 when it is stored beside git, else by git's own name (`oid`)."""
    if listed is None:
        return False
    if listed.lfs is not None:
        return bool(listed.lfs.sha256 == entry.sha256)
    return bool(listed.blob_id == oid)


def _fits(listed: Any, entry: FileEntry) -> bool:
    """Whether a file in a tree can be this one, by what the Hub lists without reading it."""
    if listed is None or listed.size != entry.size:
        return False
    return listed.lfs is None or listed.lfs.sha256 == entry.sha256


def _commits(refs: Sequence[Any]) -> dict[str, str]:
    """The commit of each branch or tag; one whose name or commit is no text is none."""
    return {
        ref.name: ref.target_commit
        for ref in refs
        if isinstance(ref.name, str) and isinstance(ref.target_commit, str)
    }
