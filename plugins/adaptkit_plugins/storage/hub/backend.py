"""One repository of the Hub as a place.

Notable choices:
- a version is one commit on top of the head that was looked at (`parent_commit`), so two writers never both win;
  its number stands in the commit, and the tag that is set afterwards is an index which is never moved
- each push writes a word of its own into the commit's message: when a response is lost, that word shows whether
  the commit landed, and whose it was
- what is stored there already, at the head or in an earlier version, is not sent again
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, Self

from adaptkit.errors import Corrupt, NotFound, StorageError
from adaptkit.extend import Promise, PushOptions, StorageBackend, attachments, no_progress
from adaptkit.extend.artifact_files import README
from adaptkit.extend.versioned_storage import (
    ALIASES,
    LARGEST_MANIFEST,
    alias_table,
    alias_table_bytes,
)
from adaptkit.io.safe_paths import check_relative
from adaptkit.types import latest_of
from adaptkit_plugins.storage.hub.address import repository
from adaptkit_plugins.storage.hub.base_outline import outline
from adaptkit_plugins.storage.hub.client import Client
from adaptkit_plugins.storage.hub.commits import Writer
from adaptkit_plugins.storage.hub.errors import NoRepository, status_of
from adaptkit_plugins.storage.hub.history import History

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from adaptkit.extend import Bundle, Progress
    from adaptkit.types import FileEntry, PlacedVersion, Receipt
    from adaptkit_plugins.storage.hub.history import Look

_LARGEST_CARD = 1 << 20  # bytes


class HubBackend(StorageBackend):
    """`hf://org/repo`; `hf://org` is the root of a remote."""

    schemes: ClassVar[tuple[str, ...]] = ("hf",)
    shows_card: ClassVar[bool] = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.repo = repository(url)
        self._options, self._endpoint = PushOptions(), ""
        self._opened: tuple[Client, History] | None = None

    def asked(self, options: PushOptions) -> Self:
        if options.create_pr and options.branch:
            raise StorageError(
                f"cannot push to {self.url}",
                why="a pull request goes to main, a --branch is a line of its own",
                fix="leave one of --create-pr and --branch out",
            )
        if options.private and not options.create:
            raise StorageError(
                f"cannot push to {self.url}",
                why="--private is for a repository that is being created",
                fix="add --create; make an existing one private in its settings on the Hub",
            )
        return self._with(options=options)

    def at(self, endpoint: str) -> Self:
        return self._with(endpoint=endpoint)

    # ------------------------------------------------------------ reading

    def list(self) -> tuple[PlacedVersion, ...]:
        try:
            look = self._history.look()
        except NoRepository:
            return ()
        return tuple(look.versions.values()) or self._unnumbered(look)

    def version(self, number: int | None = None) -> PlacedVersion:
        look = self._history.look()
        if number is None and not look.versions and (found := self._unnumbered(look)):
            return found[0]
        if (
            number is not None
            and number not in look.versions
            and (commit := look.tags.get(f"v{number}"))
        ):
            self._explain(number, commit)
        if not look.versions or (number is not None and number not in look.versions):
            raise NotFound(
                f"version in {self.url}", str(number or "latest"), map(str, look.versions)
            )
        chosen = latest_of(look.versions.values()) if number is None else look.versions[number]
        assert chosen is not None
        return chosen

    def at_revision(self, revision: str) -> PlacedVersion:
        return self._history.standing(self._history.resolve(revision))

    def pull(
        self,
        version: PlacedVersion,
        files: Sequence[FileEntry],
        into: Path,
        progress: Progress = no_progress,
    ) -> None:
        commit = version.revision or self.version(version.number or None).revision
        for entry in files:
            target = into / check_relative(entry.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._client.fetch(commit, entry.path, entry.size, target, progress)

    def damage(self, version: PlacedVersion) -> Mapping[str, str]:
        """By the sizes and digests that the Hub lists for the version's commit."""
        commit = version.revision or self.version(version.number or None).revision
        return self._history.damage(commit, version.manifest.files + version.manifest.extras)

    def copy_here(self, revision: str) -> Path | None:
        from pathlib import Path

        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repo, "config.json", revision=revision or None)
        return Path(found).parent if isinstance(found, str) else None

    def outline(self, revision: str, into: Path) -> Mapping[str, str]:
        return outline(self._client, self._history, self._history.resolve(revision or "main"), into)

    def card(self) -> str:
        try:
            head = self._history.look().heads.get(self._branch)
        except NoRepository:
            return ""
        if head is None or README not in self._history.tree(head):
            return ""
        return self._client.read(head, README, _LARGEST_CARD).decode("utf-8", errors="replace")

    def names(self) -> tuple[str, ...]:
        if "/" in self.repo:
            return ()
        client = Client(self.url, self.repo, self._endpoint)
        found = client.ask(
            "list",
            lambda: [m.id for m in client.api.list_models(author=self.repo, filter="adaptkit")],
        )
        return tuple(sorted(name.partition("/")[2] for name in found))

    # ------------------------------------------------------------ writing

    def write_card(self, text: str, number: int) -> None:
        Writer(self._client, self._history, self._history.look(), self._branch).rewrite(
            lambda _: {README: text.encode()}, f"model card of v{number}"
        )

    def push(
        self, bundle: Bundle, expected: tuple[PlacedVersion, ...], progress: Progress = no_progress
    ) -> Receipt:
        look = self._ready()
        writer = Writer(self._client, self._history, look, self._branch)
        same = next(
            (p for p in look.versions.values() if p.manifest.digest == bundle.manifest.digest), None
        )
        if same is not None:
            if broken := self.damage(same):
                shown = ", ".join(f"{path} ({why})" for path, why in sorted(broken.items()))
                raise StorageError(
                    f"{self.url}@{same.number} is damaged: {shown}",
                    why="a commit of the Hub cannot be changed",
                    fix="delete the tag there, then push again: it gets the next number",
                )
            writer.complete_index()
            return writer.receipt(same.number, bundle, 0, unchanged=True)
        if self._options.create_pr:
            return writer.propose(bundle, progress)
        writer.complete_index()
        return writer.publish(bundle, max(bundle.placed.number, look.highest + 1), progress)

    def aliases(self) -> Mapping[str, int]:
        try:
            head = self._history.look().heads.get(self._branch)
        except NoRepository:
            return {}
        return self._aliases(head)

    def set_alias(self, alias: str, number: int) -> None:
        def table(head: str) -> dict[str, bytes]:
            return {ALIASES: alias_table_bytes(dict(self._aliases(head)) | {alias: number})}

        Writer(self._client, self._history, self._history.look(), self._branch).rewrite(
            table, f"{alias} is version {number}"
        )

    def attach(self, number: int, kind: str, files: Mapping[str, bytes]) -> str:
        attachments.check(self.url, files)
        try:
            look = self._history.look()
        except NoRepository:
            raise attachments.absent(self.url, number) from None
        if number not in look.versions:
            raise attachments.absent(self.url, number)
        name = attachments.identity(files)
        placed = {
            f"{attachments.folder(number, kind)}/{name}/{path}": data
            for path, data in files.items()
        }
        if not placed.keys() <= self._history.tree(look.head(self._branch)).keys():
            Writer(self._client, self._history, look, self._branch).rewrite(
                lambda _: placed, f"attached to v{number}"
            )
        return name

    def attached(self, number: int, kind: str) -> tuple[Mapping[str, bytes], ...]:
        try:
            head = self._history.look().heads.get(self._branch)
        except NoRepository:
            return ()
        if head is None:
            return ()
        commit = head
        return attachments.read(
            self._history.tree(commit),
            number,
            kind,
            lambda path: self._client.read(commit, path, attachments.LARGEST),
        )

    def probe(self) -> Promise:
        client, nonce = self._client, f"adaptkit-probe-{os.urandom(8).hex()}"
        look = self._history.look()
        head = (
            next(iter(look.heads.values()))
            if look.heads and self._branch not in look.heads
            else look.head(self._branch)
        )
        with client.os_errors("write"):
            client.api.create_tag(client.repo, tag=nonce, revision=head)
            try:
                client.api.create_tag(client.repo, tag=nonce, revision=head)
                create_only = False
            except Exception as error:
                if status_of(error) != 409:
                    raise
                create_only = True
            finally:
                client.api.delete_tag(client.repo, tag=nonce)
        swaps = not Writer(client, self._history, look, self._branch).would_overwrite(nonce)
        return Promise(
            create_only, swaps, note="a version is one commit on the head that was looked at"
        )

    # ------------------------------------------------------------ how

    @property
    def _client(self) -> Client:
        return self._open()[0]

    @property
    def _history(self) -> History:
        return self._open()[1]

    @property
    def _branch(self) -> str:
        return self._options.branch or "main"

    def _with(self, *, options: PushOptions | None = None, endpoint: str = "") -> Self:
        place = type(self)(self.url)
        place._options = options or self._options  # noqa: SLF001  (its own kind)
        place._endpoint = endpoint or self._endpoint  # noqa: SLF001
        return place

    def _open(self) -> tuple[Client, History]:
        if self._opened is None:
            if "/" not in self.repo:
                raise StorageError(
                    f"{self.url} is not the place of an adapter",
                    why="it names an organisation or a person",
                    fix=f"add the repository: {self.url}/naval",
                )
            client = Client(self.url, self.repo, self._endpoint)
            self._opened = client, History(client)
        return self._opened

    def _ready(self) -> Look:
        """The repository and its branch, created when that was asked for."""
        api, repo = self._client.api, self.repo
        try:
            look = self._history.look()
        except NoRepository:
            if not self._options.create:
                raise
            with self._client.os_errors("make"):
                api.create_repo(repo, private=self._options.private, exist_ok=True)
            look = self._history.look()
        if self._branch not in look.heads and self._options.branch:
            with self._client.os_errors("make a branch in"):
                api.create_branch(repo, branch=self._branch, exist_ok=True)
            look = self._history.look()
        return look

    def _unnumbered(self, look: Look) -> tuple[PlacedVersion, ...]:
        """What stands at the head of a repository that holds no version: an adapter that adaptkit never touched."""
        head = look.heads.get(self._branch)
        if head is None:
            return ()
        try:
            return (self._history.standing(head),)
        except NotFound:
            return ()

    def _explain(self, number: int, commit: str) -> None:
        """Why a tag is not a version."""
        found = self._history.at(commit)
        if isinstance(found, Corrupt):
            raise found
        if found is not None and not isinstance(found, Exception) and found.number != number:
            raise Corrupt(
                f"the tag v{number} of {self.url} cannot be trusted",
                why=f"somebody moved it: it points at version {found.number or 'that has no number'}, commit {commit[:12]}",
                fix="pull the digest you know, with @sha256:…, or ask who moved it",
            )

    def _aliases(self, head: str | None) -> Mapping[str, int]:
        if head is None or ALIASES not in self._history.tree(head):
            return {}
        return alias_table(self.url, self._client.read(head, ALIASES, LARGEST_MANIFEST))
