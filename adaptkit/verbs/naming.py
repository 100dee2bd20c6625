"""Aliases, notes, the trash."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.actions import Delete
from adaptkit.errors import BadReference, NotFound, Refused
from adaptkit.verbs.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.types import AliasMove, Version


class Naming(Shelf):
    """Says what versions are called, and which of them there are."""

    def note(self, ref: str, *, message: str | None = None, tags: Sequence[str] = (),
             metrics: Mapping[str, float] | None = None, description: str | None = None) -> Version:  # fmt: skip
        """Write down what was learned later: a message, tags and metrics of a version, the description of its adapter."""
        version = self.version(ref)
        for key, value in (metrics or {}).items():
            if not math.isfinite(value):
                raise BadReference(f"the metric '{key}' is {value}", why="a metric is a finite number",
                                   fix=f"for example --metric {key}=0.93")  # fmt: skip
        for text in (*tags, message or "", description or "", *(metrics or {})):
            _check_text(text)
        noted = self.registry.annotate(version.name, version.number, message=message, tags=tuple(tags),
                                       metrics=metrics or {}, description=description, author=self.config.author)  # fmt: skip
        self._emit("noted", noted.ref, noted.digest)
        return noted

    def alias(self, name: str, alias: str, number: int | None, *, expect: int | None = -1,
              confirmed: bool = False) -> AliasMove:  # fmt: skip
        """Point an alias at a version (None drops it); `expect` (a number, or None for "not there") makes it a swap.

        `confirmed` moves an alias that the configuration protects.
        """
        refs.check_name(name)
        refs.check_alias(alias)
        aliases = self.registry.aliases(name)
        if number is None and alias not in aliases:
            raise NotFound(f"alias of {name}", alias, aliases)
        self._review_move(name, alias, number, confirmed=confirmed)
        compare = {} if expect == -1 else {"expect": expect}
        move = self.registry.move_alias(name, alias, number, author=self.config.author, **compare)
        self._emit("alias-moved", f"{name}@{alias}", detail={"old": move.old, "new": move.new})
        return move

    def rollback(self, name: str, alias: str, *, confirmed: bool = False) -> AliasMove:
        """Point an alias at where it pointed before its last move."""
        refs.check_alias(alias)
        moves = [m for m in self.registry.alias_history(refs.check_name(name), alias) if m.alias == alias]
        if not moves:
            raise NotFound(f"alias of {name}", alias, self.registry.aliases(name))
        if moves[-1].old is None:
            raise Refused(f"cannot roll back {name}@{alias}", why="it has pointed nowhere before",
                          fix=f"adaptkit alias {name} {alias} VERSION")  # fmt: skip
        return self.alias(name, alias, moves[-1].old, expect=moves[-1].new, confirmed=confirmed)

    def rename(self, old: str, new: str) -> str:
        """Another name for an adapter, with all its versions; the old one leads to it from now on."""
        refs.check_name(old)
        refs.check_name(new)
        was = self.registry.rename(old, new, author=self.config.author)
        if was != new:
            self._emit("renamed", new, detail={"old": was, "new": new})
        return new

    def remove(self, ref: str) -> Version:
        """Move a version to the trash; refused while an alias or a descendant points at it."""
        version = self.version(ref)
        self._review(Delete((version,)))
        self.registry.delete(version.name, version.number, author=self.config.author)
        self._emit("deleted", version.ref, version.digest)
        return version

    def restore(self, ref: str) -> Version:
        """Take a version out of the trash, under the number it had."""
        parsed = refs.parse(ref)
        if not isinstance(parsed, refs.NameRef) or not parsed.selector or parsed.selector.kind != "number":
            raise BadReference(f"cannot restore '{ref}'", why="a version in the trash is named by its number",
                               fix="for example: adaptkit restore naval@3")  # fmt: skip
        version = self.registry.restore(parsed.name, parsed.selector.number, author=self.config.author)
        self._emit("restored", version.ref, version.digest)
        return version

    def trash(self) -> tuple[Version, ...]:
        """The versions that `restore` can bring back."""
        return tuple(self.registry.trash())


_UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")


def _check_text(text: str) -> None:
    if _UNWRITABLE.search(text):
        raise BadReference(f"cannot write down {text!r}", why="it holds a NUL or half a character",
                           fix="type it again without")  # fmt: skip
