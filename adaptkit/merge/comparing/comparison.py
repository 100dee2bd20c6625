"""What `diff` finds of adapters, as data, as JSON and for notebooks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from adaptkit.errors import MissingExtra, in_python
from adaptkit.io.html import picture, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.merge.comparing.measures import Pair, Spectrum

NOT_AT_ALL = "do not merge them"
"""The advice where `merge` would refuse."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything `diff` shows.

    Each adapter, each pair, what a rank of their sum would lose, and what to try.
    """

    adapters: tuple[Spectrum, ...]
    pairs: tuple[Pair, ...]
    truncation: Mapping[int, float]
    whole_rank: int
    advice: str
    reason: str
    warnings: tuple[str, ...] = ()

    @property
    def suggestion(self) -> str:
        """The advice with its verb: options of `merge` to try, or not to merge at all."""
        return self.advice if self.advice == NOT_AT_ALL else f"try {self.advice}"

    def __repr__(self) -> str:
        labels = ", ".join(adapter.label for adapter in self.adapters)
        return f"<Comparison of {labels}: {in_python(self.suggestion)}>"

    def _repr_html_(self) -> str:
        """Tables, and the cosines as a picture where matplotlib is installed."""
        adapters = table(
            ("adapter", "norm", "rank", "90 % of its energy in rank"),
            [(a.label, f"{a.norm:.4g}", a.rank, a.rank_for_90) for a in self.adapters],
        )
        pairs = table(
            ("pair", "cosine", "same sign", "shared modules"),
            [
                (f"{p.one}, {p.other}", f"{p.cosine:.3f}", f"{p.same_sign:.0%}", p.shared_modules)
                for p in self.pairs
            ],
        )
        losses = table(
            ("rank of the sum", "loss"),
            [(rank, f"{loss:.2g}") for rank, loss in self.truncation.items()],
        )
        advice = f"<p>{escape(in_python(self.suggestion))}: {escape(self.reason)}</p>"
        warnings = "".join(f"<p>warning: {escape(in_python(text))}</p>" for text in self.warnings)
        found = pairs + _picture(self) if self.pairs else ""
        return adapters + found + losses + warnings + advice

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _picture(found: Comparison) -> str:
    from adaptkit.merge.comparing.plots import png

    try:
        return picture(png("similarity", found.adapters, found.pairs))
    except MissingExtra:
        return ""
