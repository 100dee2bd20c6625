"""Whether two bases are one, and what follows from it for merging, baking and serving (DESIGN section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from adaptkit.types import Sameness, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.types import BaseIdentity

Purpose = Literal["merge", "bake", "serve"]
_NO_PAIRS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether two bases may be used together: the `reason` when refused, the `warning` to show and record when not."""

    allowed: bool
    reason: str = ""
    warning: str = ""


def compare(
    a: BaseIdentity,
    b: BaseIdentity,
    pairs: Mapping[str, str] = _NO_PAIRS,
    tensors: tuple[Mapping[str, str], Mapping[str, str]] | None = None,
) -> Verdict:
    """Whether `a` and `b` are one base, with the reason in words.

    `pairs` maps an `fs1` to the `tm1` that somebody measured for the same files. `tensors` are the
    `tensor_hashes` of both, when at hand: the verdict then lists the tensors that differ.
    """
    both = f"{_called(a)} and {_called(b)}"
    (tm_a, sure_a), (tm_b, sure_b) = _tensor_level(a, pairs), _tensor_level(b, pairs)
    fs_a, fs_b, as_a, as_b = a.level("fs1"), b.level("fs1"), a.level("as1"), b.level("as1")
    if tm_a and tm_a == tm_b:
        if sure_a and sure_b:
            return Verdict(Sameness.SAME, f"{both} hold the same tensors (tm1)")
        return Verdict(
            Sameness.PROBABLY_SAME,
            f"{both} hold the same tensors (tm1, through an fs1 that is only claimed)",
        )
    if fs_a and fs_b and fs_a.value == fs_b.value:
        if fs_a.measured and fs_b.measured:
            return Verdict(Sameness.SAME, f"{both} are made of the same files (fs1)")
        return Verdict(
            Sameness.PROBABLY_SAME,
            f"{both} are made of the same files (fs1), but that is only claimed",
        )
    for copy, source in ((a, b), (b, a)):
        if _derived(copy, source):
            return Verdict(
                Sameness.PROBABLY_SAME,
                f"{_called(copy)} is a quantised copy made from {_called(source)}",
            )
    if tm_a and tm_b:
        names = _differing(*tensors) if tensors else ()
        return Verdict(
            Sameness.DIFFERENT, f"{both} hold different tensors (tm1){_listed(names)}", names
        )
    if as_a and as_b and as_a.value != as_b.value:
        names = _differing(*tensors) if tensors else ()
        return Verdict(
            Sameness.DIFFERENT, f"{both} differ in architecture (as1){_listed(names)}", names
        )
    if as_a and as_b:
        return Verdict(
            Sameness.SAME_ARCHITECTURE,
            f"{both} have the same architecture (as1), and their weights were not compared; hash both to know",
        )
    return Verdict(Sameness.UNKNOWN, f"{both} cannot be compared: {_unknown(a, b)}")


def admits(
    verdict: Verdict, a: BaseIdentity, b: BaseIdentity, purpose: Purpose, *, fits: bool = False
) -> Ruling:
    """What a verdict means for merging, baking or serving; overriding a refusal (`--force`) is the caller's.

    `fits` says that `b`'s own class has every module of the adapter, in its shape: enough where `a` names no base.
    """
    if verdict.sameness in {Sameness.SAME, Sameness.PROBABLY_SAME}:
        return Ruling(allowed=True)
    if verdict.sameness is Sameness.DIFFERENT:
        return Ruling(allowed=False, reason=verdict.reason)
    if verdict.sameness is Sameness.SAME_ARCHITECTURE:
        if _same_repository(a, b):
            return Ruling(
                allowed=True, warning=f"{verdict.reason}; allowed because both name {a.name}"
            )
        return Ruling(
            allowed=False, reason=f"{verdict.reason} (the two do not name the same repository)"
        )
    if a.name and b.name and not _same_name(a.name, b.name):
        return Ruling(allowed=False, reason=f"{verdict.reason}, and the declared names differ")
    if purpose == "bake" and fits and names_no_base(a):
        return Ruling(
            allowed=True,
            warning="the adapter names no base; allowed because each of its modules fits this one, which other "
            "models of the same architecture would do as well",
        )
    if purpose == "bake":
        return Ruling(
            allowed=False, reason=f"{verdict.reason}, and baking changes weights for good"
        )
    return Ruling(allowed=True, warning=verdict.reason)


def names_no_base(base: BaseIdentity) -> bool:
    """Whether nothing at all is known of a base, as where a file of another tool names none."""
    return not base.name and not base.levels


def _tensor_level(base: BaseIdentity, pairs: Mapping[str, str]) -> tuple[str | None, bool]:
    """The `tm1`, its own or by way of the files, and whether that way is a measured one."""
    if level := base.level("tm1"):
        return level.value, True
    files = base.level("fs1")
    if files and files.value in pairs:
        return pairs[files.value], files.measured
    return None, False


def _derived(copy: BaseIdentity, source: BaseIdentity) -> bool:
    """Whether `copy` is quantised and says it was made from `source`: by one of its levels, or its repository."""
    if not copy.quantised or not copy.derived_from:
        return False
    origin = copy.derived_from
    if origin in {level.value for level in source.levels}:
        return True
    return source.name is not None and _repository(origin) == _repository(source.name) != ""


def _repository(name: str) -> str:
    """The comparable form of an `owner/name` (with or without `hf://`); empty for any other name."""
    name = (
        name.removeprefix("hf://")
        .removeprefix("https://huggingface.co/")
        .partition("@")[0]
        .casefold()
    )
    return (
        name
        if name.count("/") == 1 and not name.startswith((".", "~", "/")) and not name.endswith("/")
        else ""
    )


def _same_repository(a: BaseIdentity, b: BaseIdentity) -> bool:
    return bool(a.name and b.name and _repository(a.name) == _repository(b.name) != "")


def _same_name(one: str, other: str) -> bool:
    """Whether two declared names may mean one base: equal, or a bare folder name and the end of the other."""
    short, long = sorted(
        (_repository(one) or one.casefold(), _repository(other) or other.casefold()), key=len
    )
    return short == long or ("/" not in short and short == long.rpartition("/")[2])


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in {*a, *b} if a.get(name) != b.get(name)))


def _listed(names: tuple[str, ...], show: int = 3) -> str:
    more = f" and {len(names) - show} more" if len(names) > show else ""
    return f": {', '.join(names[:show])}{more}" if names else ""


def _called(base: BaseIdentity) -> str:
    return f"'{base.name}'" if base.name else "a base without a name"


def _unknown(a: BaseIdentity, b: BaseIdentity) -> str:
    if a.level("fs1") and b.level("fs1"):
        return "their files differ (fs1), which may be another way to shard the same tensors"
    if a.levels and b.levels:
        return f"of one {_kinds(a)} is known, of the other {_kinds(b)}"
    if a.name and b.name and _same_name(a.name, b.name):
        return "only the names are known, and equal names are no proof"
    return "only names are known" if a.name or b.name else "nothing is known of them"


def _kinds(base: BaseIdentity) -> str:
    return ", ".join(level.kind for level in base.levels)
