"""Looking at base models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import BaseMismatch
from adaptkit.files import user_path
from adaptkit.folders import staging
from adaptkit.types import BaseIdentity, Sameness
from adaptkit.verbs.shelf import Shelf

if TYPE_CHECKING:
    from adaptkit.intake import Base
    from adaptkit.types import Verdict
    from adaptkit_registry import Pair


class Basing(Shelf):
    """Knows the bases."""

    def base(self, ref: str, *, claim: bool = False) -> Base:
        """A base by path, URL, name or level (`tm1:…`); a folder is measured, with its tensors' shapes.

        With `claim` a snapshot in the Hub cache is believed by its blobs' names, and nothing is read but headers.
        """
        return self._bases.find(ref, claim=claim)

    def bases(self) -> tuple[tuple[BaseIdentity, int], ...]:
        """Every base known, with the number of versions made for it."""
        return tuple(self.registry.bases())

    def base_names(self) -> dict[str, BaseIdentity]:
        """What people call bases here."""
        return self.registry.base_names()

    def add_base(self, ref: str, *, name: str | None = None, derived_from: str | None = None, claim: bool = False,
                 move: bool = False) -> tuple[str, BaseIdentity]:  # fmt: skip
        """Know a base by a name (its own if none is given), whether or not an adapter is made for it."""
        found = self._bases.find(ref, claim=claim).identity
        if derived_from is not None:
            origin = self._bases.find(derived_from).identity
            best = origin.level("tm1") or origin.level("fs1")
            found = replace(found, derived_from=best.value if best else origin.name)
        called = refs.check_name(name or (found.name or "").rpartition("/")[2].casefold())
        self._learn(found)
        self.registry.name_base(called, found, author=self.config.author, move=move)
        return called, found

    def alias_base(self, name: str, ref: str | None, *, move: bool = False) -> None:
        """Call a base by a further name, or (None) by this one no more."""
        if ref is None:
            self.registry.forget_base_name(name, author=self.config.author)
        else:
            self.registry.name_base(
                refs.check_name(name), self._bases.find(ref).identity, author=self.config.author, move=move
            )

    def measured_by(self, base: BaseIdentity) -> Pair | None:
        """Who measured the tensors in this base's files, and when."""
        files = base.level("fs1")
        return self.registry.pairs().get(files.value) if files else None

    def compare_bases(self, one: str, other: str) -> Verdict:
        """Whether two bases are one, and why; with both folders at hand, which tensors differ."""
        return self._bases.compare(one, other)

    def verify_base(self, ref: str, base: str, *, force: bool = False) -> BaseIdentity:
        """Measure what was only claimed: the base of a version (and that the version fits it), or a base by its name."""
        found = self._bases.measured(user_path(base))
        known = self.registry.base_names().get(ref)
        version = None if known is not None else self.version(ref)
        told = known if version is None else version.base
        assert told is not None
        verdict = self._bases.same(told, found.identity)
        if verdict.sameness is Sameness.DIFFERENT and not force:
            raise BaseMismatch(f"{ref} is another base than {base}" if version is None else
                               f"{version.ref} is for another base than {base}", why=verdict.reason)  # fmt: skip
        measured = replace(found.identity, name=told.name or found.identity.name,
                           quantised=told.quantised or found.identity.quantised,
                           derived_from=told.derived_from or found.identity.derived_from)  # fmt: skip
        self._learn(found.identity)
        if version is None:
            self.registry.name_base(ref, measured, author=self.config.author, move=True)
            return measured
        with staging(self._tmp) as work:
            self._sources.made(self.path(ref), found, work, force=force)
        self.registry.attach_base(version.digest, measured, author=self.config.author)
        self._emit("base-added", version.ref, version.digest)
        return measured
