"""Which base model an adapter is for: names, levels of identity, and the verdict on two of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a base's identity (`tm1:…`): read here (measured) or only declared (claimed)."""

    value: str
    measured: bool

    @property
    def kind(self) -> str:
        return self.value.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How a base was quantised when it was loaded; its identity stays that of its source files."""

    method: str
    bits: int
    dtype: str = ""


STATUSES = ("verified", "measured", "claimed", "unverified")  # of a base, the surest first


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """What is known of a base model. A name proves nothing, the levels do.

    `checked` belongs to an adapter's base: its modules and shapes were compared with those that the base's class has.
    """

    name: str | None = None
    levels: tuple[Level, ...] = ()
    quantised: Quantisation | None = None
    derived_from: str | None = None
    checked: bool = False

    def level(self, kind: str) -> Level | None:
        """The level of that kind (`as1`, `fs1`, `tm1`), if known."""
        return next((level for level in self.levels if level.kind == kind), None)

    @property
    def status(self) -> str:
        """`measured` if the weights were hashed, `verified` if the adapter was also checked, `claimed`, or `unverified`."""
        if self.hashed:
            return "verified" if self.checked else "measured"
        naming = [level for level in self.levels if level.kind != "as1"]
        return "claimed" if naming else "unverified"

    @property
    def hashed(self) -> bool:
        """Whether a level of its weights was measured."""
        return any(level.measured for level in self.levels if level.kind != "as1")

    def to_json(self) -> dict[str, Any]:
        """The form every `--json` shows and every manifest carries."""
        return {
            "name": self.name,
            "status": self.status,
            "levels": {
                level.kind: {"value": level.value, "measured": level.measured}
                for level in self.levels
            },
            "quantised": asdict(self.quantised) if self.quantised else None,
            "derived_from": self.derived_from,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BaseIdentity:
        """The way back from `to_json`; of `status` only whether the adapter was checked."""
        quantised = data.get("quantised")
        return cls(
            name=data.get("name"),
            levels=tuple(
                Level(v["value"], bool(v["measured"])) for v in (data.get("levels") or {}).values()
            ),
            quantised=Quantisation(**quantised) if quantised else None,
            derived_from=data.get("derived_from"),
            checked=data.get("status") == "verified",
        )


class Sameness(StrEnum):
    """The verdicts of comparing two bases, from certain yes to certain no (DESIGN section 5)."""

    SAME = "same"
    PROBABLY_SAME = "probably-same"
    SAME_ARCHITECTURE = "same-architecture"
    UNKNOWN = "unknown"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two bases are one, the reason in words, and the tensors that differ if known."""

    sameness: Sameness
    reason: str
    tensors: tuple[str, ...] = ()
