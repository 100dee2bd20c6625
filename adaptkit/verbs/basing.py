"""Looking at base models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from adaptkit import identity
from adaptkit.errors import BaseMismatch
from adaptkit.files import user_path
from adaptkit.folders import staging
from adaptkit.types import BaseIdentity, Sameness
from adaptkit.verbs.shelf import Shelf

if TYPE_CHECKING:
    from adaptkit.intake import Base
    from adaptkit.types import Verdict, Version


class Basing(Shelf):
    """Knows the bases."""

    def base(self, ref: str) -> Base:
        """A base by path, name or level (`tm1:…`); measured when it is a folder, with its tensors' shapes."""
        return self._bases.find(ref)

    def bases(self) -> tuple[tuple[BaseIdentity, int], ...]:
        """Every base known, with the number of versions made for it."""
        return tuple(self.registry.bases())

    def compare_bases(self, one: str, other: str) -> Verdict:
        """Whether two bases are one, and why; with both folders at hand, which tensors differ."""
        return self._bases.compare(one, other)

    def verify_base(self, ref: str, base: str, *, force: bool = False) -> Version:
        """Measure the base of a version that was unverified, check that the modules fit it, and record it."""
        version = self.version(ref)
        found = self._bases.measured(user_path(base))
        verdict = identity.compare(version.base, found.identity)
        if verdict.sameness is Sameness.DIFFERENT and not force:
            raise BaseMismatch(f"{version.ref} is for another base than {base}", why=verdict.reason)
        with staging(self._tmp) as work:
            self._sources.made(self.path(ref), found, work, force=force)
        known = replace(found.identity, name=version.base.name or found.identity.name)
        self.registry.attach_base(version.digest, known, author=self.config.author)
        self._emit("base-added", version.ref, version.digest)
        return self.version(ref)
