"""Bases by what a person types: a folder is measured, a name or a level is looked up among those known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit import identity
from adaptkit.admission import best_known
from adaptkit.errors import BadBase, BadReference, NotFound, StoreError
from adaptkit.files import user_path
from adaptkit.folders import staging
from adaptkit.intake import Base, declared_base
from adaptkit.types import BaseIdentity, Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from adaptkit.adapter import Adapter
    from adaptkit.places import Places
    from adaptkit.types import Verdict
    from adaptkit.watching import Watch


@dataclass(frozen=True, slots=True)
class Bases:
    """Finds, measures and compares bases. `known` answers those that the registry holds, when one is asked for by name."""

    cache: Path
    watch: Watch
    known: Callable[[], Iterable[BaseIdentity]]
    named: Callable[[], Mapping[str, BaseIdentity]]
    pairs: Mapping[str, str]
    places: Places

    def find(self, ref: str, *, claim: bool = False) -> Base:
        """A base by path, URL, name or level (`tm1:…`); with its tensors' shapes when it is a folder or at a URL.

        What lies in a folder is measured; what a place says of the files at a URL is only claimed. With `claim` a snapshot in the Hub cache is believed: its blobs are called by their sha256.
        """
        folder = user_path(ref)
        if folder.is_dir():
            told = identity.claimed_by_cache(folder) if claim else None
            return Base(told, _shapes(folder), folder) if told else self.measured(folder)
        if "://" in ref:
            return self._elsewhere(ref)
        if "/" in ref and ref.startswith((".", "/", "~")):
            raise NotFound("base folder", ref, (), fix="check the path for a typo")
        if (given := self.named().get(ref)) is not None:
            return Base(self._enriched(given))
        known = list(self.known())
        found = [b for b in known if ref in {b.name, *(level.value for level in b.levels)}]
        if not found:
            raise NotFound(
                "base",
                ref,
                {*self.named(), *(b.name for b in known if b.name)},
                fix="give the model's folder: --base DIR",
            )
        return Base(self._enriched(best_known(found)))

    def measured(self, folder: Path) -> Base:
        """The base in a folder, every level of its identity hashed or remembered."""
        with self.watch(f"hashing {folder.name}", None) as progress:
            found = identity.measure(folder, cache=self.cache, progress=progress)
        return Base(found, _shapes(folder), folder)

    def same(self, one: BaseIdentity, other: BaseIdentity) -> Verdict:
        """Whether two bases are one, by everything that was ever measured here."""
        return identity.compare(one, other, self.pairs)

    def _enriched(self, base: BaseIdentity) -> BaseIdentity:
        """With the `tm1` that somebody measured for these very files."""
        files = base.level("fs1")
        if files is None or base.level("tm1") is not None or files.value not in self.pairs:
            return base
        return replace(base, levels=(*base.levels, Level(self.pairs[files.value], files.measured)))

    def _elsewhere(self, ref: str) -> Base:
        place, selector = self.places.to_pull(ref)
        if selector is not None and selector.kind != "rev":
            raise BadReference(f"cannot look at the base '{ref}'", why="a base model has revisions, not versions",
                               fix=f"{place.url}@rev:main")  # fmt: skip
        revision = selector.value if selector else ""
        if (copy := place.copy_here(revision)) is not None and (told := identity.claimed_by_cache(copy)) is not None:
            return Base(self._enriched(told), _shapes(copy), copy)
        with staging(self.cache) as folder, self.watch(f"looking at {place.url}", None):
            shas = place.outline(revision, folder)
            pickled = any(not file.endswith(".safetensors") for file in shas)
            try:
                found = identity.claimed(folder, shas, place.url.partition("://")[2])
                return Base(self._enriched(found), None if pickled else identity.base_shapes(folder))
            except (BadBase, StoreError) as error:  # it names the folder, which nobody will find any more
                what, why, fix = (text.replace(str(folder), place.url) for text in (error.what, error.why, error.fix))
                raise BadBase(what, why=why, fix=fix) from error

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
            return self.same(first, second)
        hashes = [identity.tensor_hashes(folder, self.cache) for folder in folders]
        verdict = identity.compare(first, second, self.pairs, (hashes[0], hashes[1]))
        added = _added_rows(identity.base_shapes(folders[0]), identity.base_shapes(folders[1]), verdict.tensors)
        return replace(verdict, reason=f"{verdict.reason}; {added}") if added else verdict


def _shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Every tensor's shape; None for pickles, whose tensors nobody can tell without running them."""
    if any(file.suffix != ".safetensors" for file in identity.weight_files(folder)):
        return None
    return identity.base_shapes(folder)


def _added_rows(one: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]], differ: Sequence[str]) -> str:
    """When all that differs are the rows of embeddings: so many were added, as for new tokens."""
    pairs = [(one.get(name), other.get(name)) for name in differ]
    if not pairs or not all(a and b and len(a) == len(b) == 2 and a[1] == b[1] and a[0] != b[0] for a, b in pairs):
        return ""
    a, b = pairs[0]
    assert a is not None
    assert b is not None
    return f"all that differs are embeddings of {a[0]} and {b[0]} rows: tokens were added to one of them"
