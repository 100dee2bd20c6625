"""What a Hub keeps of one repository: commits of whole trees, and the names that point at them."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1, sha256
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of a file, and whether the Hub keeps them beside git (LFS)."""

    data: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def oid(self) -> str:
        """The name git knows it by: of the pointer, when the bytes lie beside git."""
        stored = self.pointer if self.lfs else self.data
        return sha1(b"blob %d\0" % len(stored) + stored, usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def described(self, path: str) -> dict[str, Any]:
        """As a tree listing shows it."""
        listed: dict[str, Any] = {
            "type": "file",
            "path": path,
            "size": len(self.data),
            "oid": self.oid,
        }
        if self.lfs:
            listed["lfs"] = {
                "oid": self.sha256,
                "size": len(self.data),
                "pointerSize": len(self.pointer),
            }
        return listed


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of all files, and what was there before."""

    oid: str
    parent: str | None
    files: Mapping[str, Blob]
    title: str
    message: str
    number: int


@dataclass
class Repository:
    """A repository of the loopback Hub, which tests may change behind everybody's back."""

    id: str
    private: bool = False
    gated: bool = False
    xet: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    proposals: dict[int, str] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock)

    def __post_init__(self) -> None:
        first = self._commit(
            None, {".gitattributes": Blob(b"*.safetensors filter=lfs\n")}, "initial commit", ""
        )
        self.branches["main"] = first.oid

    @property
    def head(self) -> str:
        """The commit that `main` points at."""
        return self.branches["main"]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """The files of a revision, without the one that every repository begins with."""
        found = self.commits[self.find(revision) or ""].files
        return {path: blob.data for path, blob in found.items() if path != ".gitattributes"}

    def find(self, revision: str) -> str | None:
        """The commit that a branch, a tag, a proposal or (the beginning of) its own name means."""
        if revision.startswith("refs/pr/") and revision[8:].isdigit():
            return self.proposals.get(int(revision[8:]))
        named = self.branches.get(revision) or self.tags.get(revision)
        if named or revision in self.commits:
            return named or revision
        begun = [oid for oid in self.commits if len(revision) >= 7 and oid.startswith(revision)]
        return begun[0] if len(begun) == 1 else None

    def commit(
        self,
        changes: Mapping[str, bytes | Blob | None],
        title: str = "a change",
        message: str = "",
        branch: str = "main",
        parent: str | None = None,
    ) -> str:
        """Commit on a branch (None deletes a file), as a person on the website would; returns its name."""
        with self.lock:
            files = self.changed(parent or self.branches[branch], changes)
            made = self._commit(parent or self.branches[branch], files, title, message)
            self.branches[branch] = made.oid
            return made.oid

    def propose(
        self, changes: Mapping[str, bytes | Blob | None], title: str, message: str
    ) -> tuple[int, str]:
        """Commit as a pull request: its number, and the commit's name."""
        with self.lock:
            made = self._commit(self.head, self.changed(self.head, changes), title, message)
            number = max(self.proposals, default=0) + 1
            self.proposals[number] = made.oid
            return number, made.oid

    def rot(self, revision: str, path: str, data: bytes) -> None:
        """Other bytes for one file of a commit that keeps its name: what a broken disk does."""
        old = self.commits[self.find(revision) or ""]
        files = dict(old.files) | {path: Blob(data, lfs=path in old.files and old.files[path].lfs)}
        self.commits[old.oid] = Commit(
            old.oid, old.parent, files, old.title, old.message, old.number
        )

    def history(self, revision: str) -> Iterable[Commit]:
        """A commit and all before it, the newest first."""
        oid: str | None = self.find(revision)
        while oid is not None:
            commit = self.commits[oid]
            yield commit
            oid = commit.parent

    def refs(self) -> dict[str, Any]:
        """Every name, as the Hub lists them."""

        def one(kind: str, name: str, oid: str) -> dict[str, str]:
            return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid}

        with self.lock:
            return {
                "branches": [one("heads", *item) for item in self.branches.items()],
                "converts": [],
                "tags": [one("tags", *item) for item in self.tags.items()],
                "pullRequests": [one("pr", str(n), oid) for n, oid in self.proposals.items()],
            }

    def changed(self, parent: str, changes: Mapping[str, bytes | Blob | None]) -> dict[str, Blob]:
        """The files of a commit with changes made; weights go beside git."""
        files = dict(self.commits[parent].files)
        for path, data in changes.items():
            if data is None:
                files.pop(path, None)
            else:
                files[path] = data if isinstance(data, Blob) else Blob(data, path.endswith(WEIGHTS))
        return files

    def _commit(
        self, parent: str | None, files: Mapping[str, Blob], title: str, message: str
    ) -> Commit:
        with self.lock:
            number = len(self.commits)
            tree = "".join(f"{path} {blob.oid}\n" for path, blob in sorted(files.items()))
            named = f"{self.id}\n{number}\n{parent}\n{title}\n{message}\n{tree}".encode()
            commit = Commit(
                sha1(named, usedforsecurity=False).hexdigest(),
                parent,
                dict(files),
                title,
                message,
                number,
            )
            self.commits[commit.oid] = commit
            return commit
