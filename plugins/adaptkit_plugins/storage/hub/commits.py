"""Commits to a repository, each made once: looked for before it is tried again, never on top of an unexpected head."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from hashlib import sha1
from typing import TYPE_CHECKING

from adaptkit.errors import Conflict, StorageError
from adaptkit.extend.artifact_files import MANIFEST
from adaptkit.extend.versioned_storage import manifest_bytes
from adaptkit.io.http import client as http
from adaptkit.io.http.client import RetryPolicy
from adaptkit.types import PlacedVersion, Receipt
from adaptkit_plugins.storage.hub.errors import status_of
from adaptkit_plugins.storage.hub.history import trailer, unchanged
from adaptkit_plugins.storage.hub.retries import transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete

    from adaptkit.extend import Bundle, Progress
    from adaptkit.types import FileEntry
    from adaptkit_plugins.storage.hub.client import Client
    from adaptkit_plugins.storage.hub.history import History, Look

_LOOKS = 6  # at a head that may lag behind what was written
_UPLOADS = RetryPolicy(tries=2)  # huggingface_hub itself tries each part several times
_RECENT = 60  # commits in which an own one is looked for


class Writer:
    """Writes on top of what one look at a repository saw."""

    def __init__(self, client: Client, history: History, look: Look, branch: str) -> None:
        self._client, self._history, self._look, self._branch = client, history, look, branch

    def receipt(self, number: int, bundle: Bundle, sent: int, **more: object) -> Receipt:
        """What the push did."""
        return Receipt(self._client.url, number, bundle.manifest.digest, sent, **more)  # type: ignore[arg-type]

    def complete_index(self) -> None:
        """Set the tags of versions whose writer died before it could."""
        for number in self._look.untagged:
            self._tag(number, self._look.versions[number].revision)

    def publish(self, bundle: Bundle, number: int, progress: Progress) -> Receipt:
        """One commit with the version under a number, then its tag."""
        mine = bundle.placed
        placed = replace(mine, number=number, revision="")
        title = f"v{number}: {mine.message}" if mine.message else f"v{number}"
        sent, commit = self._send(
            bundle, manifest_bytes(placed), title, trailer(number, bundle.manifest.digest), progress
        )
        if not self._tag(number, commit):
            raise Conflict(
                f"could not get a number in {self._client.url}",
                why=f"v{number} was given to another commit while this one was on its way",
                fix="push again: it gets the next number",
            )
        return self.receipt(
            number, bundle, sent, link=f"{self._client.host}/{self._client.repo}/tree/v{number}"
        )

    def propose(self, bundle: Bundle, progress: Progress) -> Receipt:
        """A pull request with the version, which has no number before it is merged."""
        data = _without_number(bundle.placed)
        title = bundle.placed.message or f"{bundle.placed.name} by adaptkit"
        mark = f"adaptkit-proposes: {bundle.manifest.digest}"
        sent, link = self._send(bundle, data, title, mark, progress, proposed=True)
        return self.receipt(0, bundle, sent, state="proposed", link=link)

    def rewrite(self, content: Callable[[str], Mapping[str, bytes]], title: str) -> None:
        """A few small files in one commit, made from the head it goes on top of; a head that moves is looked at again."""
        from huggingface_hub import CommitOperationAdd

        for _ in range(_LOOKS):
            head = self._look.head(self._branch)
            files = content(head)
            try:
                self._commit(
                    [CommitOperationAdd(path, data) for path, data in files.items()],
                    title,
                    "",
                    head,
                )
            except Conflict:
                self._look = self._history.look()
            else:
                return
        raise Conflict(
            f"could not write {', '.join(files)} of {self._client.url}",
            why="others were always first",
            fix="try again",
        )

    def would_overwrite(self, nonce: str) -> bool:
        """Whether the Hub accepts a commit on top of a head that never was; what it accepted is removed again."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        client = self._client
        with client.os_errors("write"):
            try:
                client.api.create_commit(
                    client.repo,
                    [CommitOperationAdd(nonce, nonce.encode())],
                    parent_commit="0" * 40,
                    commit_message="probe",
                    revision=self._branch,
                )
            except Exception as error:
                if status_of(error) in {400, 404, 409, 412, 422}:
                    return False
                raise
            client.api.create_commit(
                client.repo,
                [CommitOperationDelete(nonce)],
                commit_message="probe",
                revision=self._branch,
            )
        return True

    # ------------------------------------------------------------ how

    def _send(
        self,
        bundle: Bundle,
        manifest: bytes,
        title: str,
        mark: str,
        progress: Progress,
        *,
        proposed: bool = False,
    ) -> tuple[int, str]:
        """Upload what is missing, commit everything; returns the bytes that were sent and the commit (or the link)."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        client = self._client
        head = self._look.head(self._branch)
        tree = self._history.tree(head)
        held = {f.sha256 for p in self._look.versions.values() for f in p.manifest.files}
        xet = client.ask("write", lambda: client.xet(self._branch))
        sent, operations = 0, list[CommitOperationAdd | CommitOperationDelete]()
        with ExitStack() as stack:
            for entry in bundle.files:
                path = bundle.paths[entry.path]
                if unchanged(tree.get(entry.path), entry, _git_name(path, entry)):
                    progress(entry.size)
                    continue
                # a stream goes by plain HTTP, even where huggingface_hub would rather use Xet
                addition = CommitOperationAdd(
                    entry.path, str(path) if xet else stack.enter_context(path.open("rb"))
                )
                self._upload(addition, proposed=proposed)
                large = addition._upload_mode == "lfs"  # noqa: SLF001  (huggingface_hub shows it nowhere else)
                sent += 0 if large and entry.sha256 in held else entry.size
                operations.append(addition)
                progress(entry.size)
            operations += [CommitOperationDelete(path) for path in self._dropped(bundle, tree)]
            operations.append(CommitOperationAdd(MANIFEST, manifest))
            return sent, self._commit(operations, title, mark, head, proposed=proposed)

    def _upload(self, addition: CommitOperationAdd, *, proposed: bool) -> None:
        """The bytes of one file, when they are stored beside git; by content, so doing it twice does no harm."""
        client = self._client

        def upload() -> None:
            client.api.preupload_lfs_files(
                client.repo,
                additions=[addition],
                revision=self._branch,
                create_pr=proposed,
                free_memory=False,
            )

        with _no_xet_warning():
            client.ask("write", upload, policy=_UPLOADS)

    def _dropped(self, bundle: Bundle, tree: Mapping[str, object]) -> list[str]:
        """Files of the version at the head that are not in this one; what people put there themselves stays."""
        standing = self._history.at(self._look.head(self._branch))
        if not isinstance(standing, PlacedVersion):
            return []
        mine = {entry.path for entry in bundle.files}
        return [
            entry.path
            for entry in standing.manifest.files
            if entry.path in tree and entry.path not in mine
        ]

    def _commit(
        self,
        operations: list[CommitOperationAdd | CommitOperationDelete],
        title: str,
        mark: str,
        head: str,
        *,
        proposed: bool = False,
    ) -> str:
        """One commit on top of `head`, however often it takes to learn that it is there."""
        client, word = self._client, f"adaptkit-push: {os.urandom(16).hex()}"
        message = f"{mark}\n{word}".strip()

        def call() -> CommitInfo:
            for operation in operations:
                if hasattr(operation, "_is_committed"):
                    operation._is_committed = False  # noqa: SLF001  (it is set after a lost response as well)
            return client.api.create_commit(
                client.repo,
                operations,
                commit_message=title,
                commit_description=message,
                revision=self._branch,
                parent_commit=head,
                create_pr=proposed,
            )

        def commit() -> str:
            try:
                made = call()
            except Exception as error:
                stale = status_of(error) in {409, 412}
                if not stale and not transient(error):
                    raise
                if landed := self._landed(word, head, proposed=proposed, patient=stale):
                    return landed
                if stale:
                    raise self._overtaken(head) from error
                raise
            if not isinstance(made.oid, str):
                raise StorageError(
                    f"cannot write {client.url}",
                    why="the Hub does not say which commit it made",
                    fix="adaptkit push sends only what is not there; check HF_ENDPOINT",
                )
            return str(made.pr_url) if proposed else made.oid

        with _no_xet_warning():
            return client.ask("write", commit)

    def _landed(self, word: str, head: str, *, proposed: bool, patient: bool) -> str:
        """The own commit, found by its word, when a response was lost; empty when it is not there.

        After a refusal the head has moved, whether or not it shows yet: then it is looked at until it has.
        """
        client = self._client
        for attempt in range(_LOOKS if patient else 1):
            if attempt:
                http.pause(min(0.2 * 2**attempt, 5.0))
            refs = client.ask(
                "read",
                lambda: client.api.list_repo_refs(client.repo, include_pull_requests=proposed),
            )
            if proposed:
                numbers = [ref.ref.rpartition("/")[2] for ref in refs.pull_requests or ()][
                    -_RECENT:
                ]
                found = next(
                    (number for number in numbers if self._holds(f"refs/pr/{number}", word)), ""
                )
                return f"{client.host}/{client.repo}/discussions/{found}" if found else ""
            now = next(
                (ref.target_commit for ref in refs.branches if ref.name == self._branch), head
            )
            if now != head:
                return self._holds(now, word)
        return ""

    def _holds(self, revision: str, word: str) -> str:
        """The commit below a revision whose message has the word; empty when there is none."""
        client = self._client
        recent = client.ask(
            "read", lambda: client.api.list_repo_commits(client.repo, revision=revision)[:_RECENT]
        )
        return next((str(commit.commit_id) for commit in recent if word in str(commit.message)), "")

    def _overtaken(self, head: str) -> Conflict:
        look = self._history.look()
        now = look.heads.get(self._branch, "")
        seen = (
            f"it is {now[:12]} now"
            if now != head
            else "the Hub refuses the commit and does not show what came since"
        )
        return Conflict(
            f"somebody pushed to {self._client.url} first",
            why=f"the head of {self._branch} was {head[:12]}, {seen}",
            fix="push again to go on top of it",
        )

    def _tag(self, number: int, commit: str) -> bool:
        """Set a tag; False when it names another commit. A tag that cannot be set now is the next writer's work."""
        client = self._client
        try:
            client.api.create_tag(client.repo, tag=f"v{number}", revision=commit)
        except Exception as error:
            if status_of(error) == 409:
                refs = client.ask("read", lambda: client.api.list_repo_refs(client.repo))
                return any(
                    ref.name == f"v{number}" and ref.target_commit == commit for ref in refs.tags
                )
            if not transient(error):
                with client.os_errors("tag"):
                    raise
        return True


def _without_number(placed: PlacedVersion) -> bytes:
    content = placed.to_json()
    del content["number"]
    return (
        json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def _git_name(path: Path, entry: FileEntry) -> str:
    """What git calls these bytes; only computed for files small enough to be stored in git itself."""
    if entry.size > 16 << 20:
        return ""
    return sha1(b"blob %d\0" % entry.size + path.read_bytes(), usedforsecurity=False).hexdigest()


@contextmanager
def _no_xet_warning() -> Iterator[None]:
    """Silence its warning that a stream does not go by Xet, which is what we want."""
    import logging

    logger = logging.getLogger("huggingface_hub._commit_api")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
