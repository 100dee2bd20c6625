"""Bases by what a person types: a folder is measured, a name or a level is looked up among those known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit import identity
from adaptkit.admission import best_known
from adaptkit.errors import NotFound
from adaptkit.files import user_path
from adaptkit.intake import Base, declared_base
from adaptkit.types import BaseIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from adaptkit.adapter import Adapter
    from adaptkit.types import Verdict
    from adaptkit.watching import Watch


@dataclass(frozen=True, slots=True)
class Bases:
    """Finds, measures and compares bases. `known` answers those that the registry holds, when one is asked for by name."""

    cache: Path
    watch: Watch
    known: Callable[[], Iterable[BaseIdentity]]

    def find(self, ref: str) -> Base:
        """A base by path, name or level (`tm1:…`); measured when it is a folder, with its tensors' shapes."""
        folder = user_path(ref)
        if folder.is_dir():
            return self.measured(folder)
        if "/" in ref and ref.startswith((".", "/", "~")):
            raise NotFound("base folder", ref, (), fix="check the path for a typo")
        known = list(self.known())
        found = [b for b in known if ref in {b.name, *(level.value for level in b.levels)}]
        if not found:
            raise NotFound("base", ref, [b.name for b in known if b.name], fix="give the model's folder: --base DIR")
        return Base(best_known(found))

    def measured(self, folder: Path) -> Base:
        """The base in a folder, every level of its identity hashed or remembered."""
        with self.watch(f"hashing {folder.name}", None) as progress:
            found = identity.measure(folder, cache=self.cache, progress=progress)
        return Base(found, identity.base_shapes(folder), folder)

    def of(self, adapter: Adapter, given: str | None) -> Base:
        """The base that is at hand for an adapter: the one given, else the local path it names, else its name alone."""
        said, local = declared_base(adapter.config, adapter.path)
        hub_name = said if local is None else None
        if given is None and local is not None and local.is_dir():
            given = str(local)
        if given is None:
            return Base(BaseIdentity(hub_name or (Path(said).name if said else None)))
        base = self.find(given)
        return replace(base, identity=replace(base.identity, name=hub_name or base.identity.name))

    def compare(self, one: str, other: str) -> Verdict:
        """Whether two bases are one, and why; with both folders at hand, which tensors differ."""
        first, second = self.find(one).identity, self.find(other).identity
        folders = [user_path(ref) for ref in (one, other)]
        if not all(folder.is_dir() for folder in folders):
            return identity.compare(first, second)
        hashes = [identity.tensor_hashes(folder, self.cache) for folder in folders]
        return identity.compare(first, second, tensors=(hashes[0], hashes[1]))
