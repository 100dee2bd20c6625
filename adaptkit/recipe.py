"""The recipe: what a merge is made of, written down so that it can be made again.

A recipe names its sources by digest, so the same recipe digest means the same merge anywhere; labels
are for people and are not part of it.
"""

from __future__ import annotations

import math
import re
from dataclasses import MISSING, Field, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from adaptkit.errors import BadRecipe, NotFound
from adaptkit.extend import Space
from adaptkit.types import Parent, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.extend import MergeStrategy

SCHEMA = 1
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}
"""What `--dtype` takes, with the name in a safetensors header."""
Missing = Literal["skip", "zero"]
Keep = Literal["fro", "cumulative", "ratio"]
"""How `--energy E` chooses each module's rank: √(Σσ²) or Σσ reaching the share E, or σ₁/σ staying within E."""


@dataclass(frozen=True, slots=True)
class ModuleWeight:
    """One adapter's weight in the modules that a glob names; several values are spread over the layers."""

    digest: str
    glob: str
    values: tuple[float, ...]

    def at(self, layer: float) -> float:
        """The weight at a place in the model, from 0 (first layer) to 1 (last), interpolated."""
        place = layer * (len(self.values) - 1)
        low = min(int(place), len(self.values) - 1)
        high = min(low + 1, len(self.values) - 1)
        return self.values[low] + (self.values[high] - self.values[low]) * (place - low)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A resolved merge. `weights` stand in the sources; `extras` is refuse, average, drop or from=DIGEST."""

    sources: tuple[Parent, ...]
    strategy: str
    space: Space
    params: Mapping[str, Any]
    rank: int | None = None
    seed: int = 0
    dtype: str | None = None
    extras: str = "refuse"
    missing: Missing = "skip"
    energy: float | None = None
    keep: Keep = "fro"
    modules: tuple[ModuleWeight, ...] = ()

    def canonical(self) -> dict[str, Any]:
        """The plain value that is digested, recorded and printed."""
        plain = {
            "schema": SCHEMA,
            "sources": [{"digest": s.digest, "weight": s.weight} for s in self.sources],
            "strategy": self.strategy,
            "space": self.space,
            "params": dict(self.params),
            "rank": self.rank,
            "seed": self.seed,
            "dtype": self.dtype,
            "extras": self.extras,
            "missing": self.missing,
        }
        # What was added later is left out where it is not used, so that older recipes keep their digest.
        if self.energy is not None:
            plain |= {"energy": self.energy, "keep": self.keep}
        if self.modules:
            plain["modules"] = [{"digest": m.digest, "glob": m.glob, "values": list(m.values)} for m in self.modules]
        return plain

    @property
    def digest(self) -> str:
        return digest_of(self.canonical())


def resolve(
    strategy: MergeStrategy[Any],
    sources: Sequence[Parent],
    *,
    space: str | None = None,
    params: Mapping[str, str] | None = None,
    rank: int | None = None,
    seed: int = 0,
    dtype: str | None = None,
    extras: str | None = None,
    missing: str = "skip",
    normalize: bool = False,
    energy: float | None = None,
    keep: str = "fro",
    weights: Sequence[str] = (),
) -> Recipe:
    """Check every part of a merge that can be checked before reading a tensor; `BadRecipe` names the part."""
    _check_sources(strategy, sources)
    modules = tuple(_module_weight(text, sources) for text in weights)
    if normalize:
        given = [source.weight for source in sources]
        total = math.fsum(given)
        if abs(total) < 1e-12 * math.fsum(map(abs, given)):
            raise BadRecipe("cannot normalise the weights", why=f"{given} add up to zero", fix="drop --normalize")
        sources = [Parent(s.digest, s.weight / total, s.role, s.label) for s in sources]
    if rank is not None and rank < 1:
        raise BadRecipe(f"--rank is {rank}", why="a rank is at least 1", fix="drop --rank to keep the whole sum")
    if rank is not None and strategy.rank_rule == "whole":
        raise BadRecipe(f"'{strategy.name}' takes no --rank", why="it always keeps the whole sum",
                        fix=f"--strategy svd --rank {rank}")  # fmt: skip
    if dtype is not None and dtype not in DTYPES:
        raise NotFound("dtype", dtype, DTYPES)
    _check_energy(energy, keep, rank)
    if missing not in get_args(Missing):
        raise NotFound("--missing", missing, get_args(Missing))
    return Recipe(tuple(sources), strategy.name, _space(strategy, space), read_params(strategy, params or {}),
                  rank, seed, dtype, _extras(extras, sources), cast("Missing", missing), energy, cast("Keep", keep),
                  modules)  # fmt: skip


def _check_energy(energy: float | None, keep: str, rank: int | None) -> None:
    if keep not in get_args(Keep):
        raise NotFound("--keep", keep, get_args(Keep))
    if energy is None:
        return
    if rank is not None:
        raise BadRecipe(
            "--rank and --energy exclude each other", why="both say what rank a module gets", fix="drop one"
        )
    low, high = (1.0, math.inf) if keep == "ratio" else (0.0, 1.0)
    if not low < energy <= high:
        raise BadRecipe(f"--energy is {energy:g}", why=f"with --keep {keep} it lies in ({low:g}, {high:g}]",
                        fix="for example --energy 0.95, or --keep ratio --energy 20")  # fmt: skip


def _module_weight(text: str, sources: Sequence[Parent]) -> ModuleWeight:
    """`REF[GLOB]=W`, or `REF[GLOB]=W1,W2,…` for a gradient over the layers."""
    match = re.fullmatch(r"(?P<ref>.+)\[(?P<glob>[^\[\]]+)\]=(?P<values>[^=]+)", text)
    try:
        values = tuple(float(value) for value in match["values"].split(",")) if match else ()
    except ValueError:
        values = ()
    if match is None or not values or not all(map(math.isfinite, values)):
        raise BadRecipe(f"--weight is '{text}'", why="it is REF[GLOB]=W, or REF[GLOB]=W1,W2,… over the layers",
                        fix="for example --weight 'naval[*.mlp.*]=0.5'")  # fmt: skip
    owner = next((source for source in sources if match["ref"] in {source.label, source.digest}), None)
    if owner is None:
        raise NotFound("source of this merge", match["ref"], [source.label for source in sources])
    return ModuleWeight(owner.digest, match["glob"], values)


def read_params(strategy: MergeStrategy[Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The strategy's parameters, complete and typed, from `K=V` texts; `BadRecipe` names the one that is wrong."""
    known = {field.name: field for field in fields(strategy.params)}
    for name in given:
        if name not in known:
            raise NotFound(f"parameter of '{strategy.name}'", name, known)
    values = {}
    for name, field in known.items():
        if name in given:
            values[name] = _read_param(strategy.name, field, given[name])
        elif field.default is not MISSING:
            values[name] = field.default
        else:
            raise BadRecipe(f"'{strategy.name}' needs the parameter {name}", why=_help(field),
                            fix=f"--param {name}=VALUE")  # fmt: skip
    return values


def _read_param(strategy: str, field: Field[Any], text: str) -> Any:
    kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)  # a text with future annotations
    low, high = field.metadata.get("range", (None, None))
    readers: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": _bool}
    try:
        value = readers.get(kind, str)(text)
    except ValueError as error:
        raise BadRecipe(f"the parameter {field.name} of '{strategy}' is '{text}'", why=f"it must be a {kind}",
                        fix=_help(field)) from error  # fmt: skip
    outside = isinstance(value, float) and not math.isfinite(value)
    if low is not None:
        outside = outside or not low <= value <= high
    if outside:
        span = f"it must lie in [{low}, {high}]" if low is not None else "it must be finite"
        raise BadRecipe(f"the parameter {field.name} of '{strategy}' is {text}", why=span, fix=_help(field))
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        raise BadRecipe(f"the parameter {field.name} of '{strategy}' is '{text}'",
                        why=f"it must be one of {', '.join(choices)}", fix=_help(field))  # fmt: skip
    return value


def _bool(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0", "yes", "no"}:
        raise ValueError(text)
    return text.lower() in {"true", "1", "yes"}


def _help(field: Field[Any]) -> str:
    return f"{field.name}: {field.metadata.get('help', 'see the strategy')}"


def _check_sources(strategy: MergeStrategy[Any], sources: Sequence[Parent]) -> None:
    low, high = strategy.arity
    if not low <= len(sources) <= (high or len(sources)):
        wanted = f"exactly {low}" if low == high else f"{low} to {high}" if high else f"at least {low}"
        raise BadRecipe(f"'{strategy.name}' takes {wanted} adapters", why=f"{len(sources)} given")
    for source in sources:
        if not math.isfinite(source.weight):
            raise BadRecipe(f"the weight of {source.label} is {source.weight}", why="a weight is a finite number",
                            fix=f"for example {source.label}=0.7")  # fmt: skip
    if all(source.weight == 0 for source in sources):
        raise BadRecipe("all weights are zero", why="the result would change nothing", fix="give one adapter a weight")
    seen: dict[str, Parent] = {}
    for source in sources:
        if (first := seen.setdefault(source.digest, source)) is not source:
            raise BadRecipe(f"'{first.label}' and '{source.label}' are the same adapter", why=source.digest[:19] + "…",
                            fix=f"give it once, with the weight {first.weight + source.weight:g}: "
                                f"{first.label}={first.weight + source.weight:g}")  # fmt: skip


def _space(strategy: MergeStrategy[Any], space: str | None) -> Space:
    if space is None:
        return strategy.spaces[0]
    if space not in get_args(Space):
        raise NotFound("space", space, get_args(Space))
    if space not in strategy.spaces:
        raise BadRecipe(f"'{strategy.name}' has no meaning in the space '{space}'",
                        why=f"it works in {', '.join(strategy.spaces)}", fix=f"--space {strategy.spaces[0]}")  # fmt: skip
    return space


def _extras(policy: str | None, sources: Sequence[Parent]) -> str:
    """The policy with the label in `from=LABEL` turned into a digest."""
    if policy is None:
        return "refuse"
    if policy in {"average", "drop"}:
        return policy
    label = policy.removeprefix("from=")
    owner = next((s for s in sources if label in {s.label, s.digest}), None)
    if policy == label or owner is None:
        raise BadRecipe(f"--extras is '{policy}'", why="it settles what cannot be summed, such as heads and tokenizers",
                        fix="--extras average | drop | from=REF, with REF one of "
                            + ", ".join(s.label for s in sources))  # fmt: skip
    return f"from={owner.digest}"
