"""What an artifact comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.types.manifest import Manifest, Parent
    from adaptkit.types.version import Version


@dataclass(frozen=True, slots=True)
class Lineage:
    """What an artifact comes from: each ancestor's parents, and what the ancestors are called."""

    digest: str
    parents: Mapping[str, tuple[Parent, ...]]
    versions: Mapping[str, tuple[Version, ...]]
    manifests: Mapping[str, Manifest]

    def __repr__(self) -> str:
        ancestors = len({p.digest for parents in self.parents.values() for p in parents})
        return f"<Lineage of {self._label(self.digest)}: {ancestors} ancestors>"

    def _repr_html_(self) -> str:
        """A tree as nested lists, for notebooks."""
        return f"<ul>{self._item(self.digest, '', frozenset())}</ul>"

    def _label(self, digest: str, label: str = "") -> str:
        known = self.versions.get(digest, ())
        return known[0].ref if known else label or digest[:19]

    def _item(self, digest: str, weight: str, above: frozenset[str]) -> str:
        inner = "".join(
            self._item(parent.digest, f"{parent.weight:g} × ", above | {digest})
            for parent in (() if digest in above else self.parents.get(digest, ()))
        )
        from html import escape

        text = f"{weight}{escape(self._label(digest))}"
        return f"<li>{text}{f'<ul>{inner}</ul>' if inner else ''}</li>"
