"""The recipe: what a merge is made of, written down so that it can be made again.

A recipe names its sources by digest, so the same recipe digest means the same merge anywhere;
labels are for people and are not part of it.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from adaptkit.errors import BadRecipe, NotFound
from adaptkit.extend import Space
from adaptkit.io.safetensors.reader import STORED_DTYPES
from adaptkit.io.yaml_text import CALLED
from adaptkit.types import Parent, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from adaptkit.extend import MergeStrategy

SCHEMA = 1
Missing = Literal["skip", "zero", "disjoint"]
Keep = Literal["fro", "cumulative", "ratio"]
"""How `--energy E` chooses ranks: √(Σσ²) or Σσ reaching the share E, or σ₁/σ within E."""


@dataclass(frozen=True, slots=True)
class ModuleWeight:
    """One adapter's weight in the modules that a glob names.

    Several values are spread over the layers.
    """

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
    """A resolved merge.

    `weights` are in the sources; `extras` is refuse, average, drop or from=DIGEST.
    """

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
    moments: tuple[str, ...] = ()
    """The ids of what was measured of each source's inputs, where the strategy needs it."""

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
            plain["modules"] = [
                {"digest": m.digest, "glob": m.glob, "values": list(m.values)} for m in self.modules
            ]
        if self.moments:
            plain["moments"] = list(self.moments)
        return plain

    @property
    def digest(self) -> str:
        return digest_of(self.canonical())


@dataclass(frozen=True, slots=True)
class Choices:
    """Every choice of a merge but its adapters and its strategy, as a person makes it."""

    space: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    rank: int | None = None
    seed: int = 0
    dtype: str | None = None
    extras: str | None = None
    missing: str = "skip"
    normalize: bool = False
    energy: float | None = None
    keep: str = "fro"


def resolve(
    strategy: MergeStrategy[Any],
    sources: Sequence[Parent],
    modules: Sequence[Mapping[str, Sequence[float]]],
    choices: Choices,
) -> Recipe:
    """Check every part of a merge that can be checked before reading a tensor.

    `BadRecipe` names the part. `modules[i]` maps module globs to weights of `sources[i]` there.
    """
    _check_sources(strategy, sources)
    module_weights = _module_weights(sources, modules)
    if choices.normalize:
        sources = _normalised(sources)
    space, params = check_choices(strategy, choices)
    return Recipe(
        tuple(sources),
        strategy.name,
        space,
        params,
        choices.rank,
        choices.seed,
        choices.dtype,
        _extras(choices.extras, sources),
        cast("Missing", choices.missing),
        choices.energy,
        cast("Keep", choices.keep),
        module_weights,
    )


def check_choices(strategy: MergeStrategy[Any], how: Choices) -> tuple[Space, Mapping[str, Any]]:
    """Check what is chosen before any adapter is known; the space and the parameters that follow from it."""
    rank, dtype = how.rank, how.dtype
    if rank is not None and rank < 1:
        raise BadRecipe(
            f"--rank is {rank}",
            why="a rank is at least 1",
            fix="drop --rank to keep the whole sum",
        )
    if rank is not None and strategy.rank_rule == "whole":
        raise BadRecipe(
            f"'{strategy.name}' takes no --rank",
            why="it always keeps the whole sum",
            fix=f"--strategy svd --rank {rank}",
        )
    if dtype is not None and dtype not in STORED_DTYPES:
        raise NotFound("dtype", dtype, STORED_DTYPES)
    _check_energy(how.energy, how.keep, rank)
    if how.missing not in get_args(Missing):
        raise NotFound("--missing", how.missing, get_args(Missing))
    if how.missing == "zero" and strategy.needs == "moments":
        raise BadRecipe(
            f"'{strategy.name}' takes no --missing zero",
            why="a module that an adapter lacks has no inputs that were measured",
            fix="drop --missing: such an adapter is left out of that module",
        )
    return _space(strategy, how.space), read_params(strategy, how.params)


def _normalised(sources: Sequence[Parent]) -> list[Parent]:
    given = [source.weight for source in sources]
    total = math.fsum(given)
    if abs(total) < 1e-12 * math.fsum(map(abs, given)):
        raise BadRecipe(
            "cannot normalise the weights",
            why=f"{given} add up to zero",
            fix="drop --normalize",
        )
    return [replace(source, weight=source.weight / total) for source in sources]


def _module_weights(
    sources: Sequence[Parent], modules: Sequence[Mapping[str, Sequence[float]]]
) -> tuple[ModuleWeight, ...]:
    found = []
    for source, table in zip(sources, modules, strict=True):
        for glob, values in table.items():
            if not values or not all(map(math.isfinite, values)):
                raise BadRecipe(
                    f"the weight of {source.label} in the modules '{glob}' is {list(values)}",
                    why="it is a finite number, or several of them over the layers",
                    fix=f'for example {{"{glob}": [0.5]}}',
                )
            found.append(ModuleWeight(source.digest, glob, tuple(map(float, values))))
    return tuple(found)


def _check_energy(energy: float | None, keep: str, rank: int | None) -> None:
    if keep not in get_args(Keep):
        raise NotFound("--keep", keep, get_args(Keep))
    if energy is None:
        if keep != "fro":
            raise BadRecipe(
                f"--keep is '{keep}'",
                why="it says what --energy is a share of, and no --energy is given",
                fix=f"--keep {keep} --energy {20 if keep == 'ratio' else 0.95}",
            )
        return
    if rank is not None:
        raise BadRecipe(
            "--rank and --energy exclude each other",
            why="both say what rank a module gets",
            fix="drop one",
        )
    low, high = (1.0, math.inf) if keep == "ratio" else (0.0, 1.0)
    if not low < energy <= high:
        raise BadRecipe(
            f"--energy is {energy:g}",
            why=f"with --keep {keep} it is in ({low:g}, {high:g}]",
            fix="for example --energy 0.95, or --keep ratio --energy 20",
        )


def check_params(
    strategies: Sequence[MergeStrategy[Any]],
    given: Iterable[str],
    every: Callable[[], Iterable[MergeStrategy[Any]]] = lambda: (),
) -> None:
    """`NotFound` names a parameter that none of these strategies has, and the nearest ones.

    `every` strategy there is: where a parameter of that name, or of almost that name, is one of others, they are named.
    """
    known = {param.name for strategy in strategies for param in fields(strategy.params)}
    for name in given:
        if name in known:
            continue
        owners: dict[str, list[str]] = {}
        for strategy in every():
            for param in fields(strategy.params):
                owners.setdefault(param.name, []).append(strategy.name)
        near = [name] if name in owners else [] if known else get_close_matches(name, owners, 1)
        alone = len(strategies) == 1
        raise NotFound(
            f"parameter of '{strategies[0].name}'" if alone else "parameter of these strategies",
            name,
            known,
            none="it takes none" if alone else "they take none",
            fix=_owned(near[0], owners[near[0]]) if near else "",
        )


def _owned(param: str, strategies: Sequence[str]) -> str:
    shown = ", ".join(strategies[:5]) + (" and others" if len(strategies) > 5 else "")
    return f"{param} is a parameter of {shown}: --strategy NAME"


def read_params(strategy: MergeStrategy[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The strategy's parameters, complete and typed; `BadRecipe` names the one that is wrong.

    A number may be given as text: the command line has nothing else, and YAML reads `1e-3` as one.
    """
    check_params([strategy], given)
    known = {param.name: param for param in fields(strategy.params)}
    values = {}
    for name, param in known.items():
        if name in given:
            values[name] = _read_param(strategy.name, param, given[name])
        elif param.default is not MISSING:
            values[name] = param.default
        else:
            raise BadRecipe(
                f"'{strategy.name}' needs the parameter {name}",
                why=_help(param),
                fix=f"--param {name}=VALUE",
            )
    return values


def _read_param(strategy: str, field: Field[Any], given: Any) -> Any:
    kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    readers: Mapping[str, Callable[[Any], Any]] = {
        "int": _int,
        "float": _float,
        "bool": _bool,
        "str": str,
    }
    what = f"the parameter {field.name} of '{strategy}' is"
    try:
        value = readers.get(kind, str)(given)
    except (TypeError, ValueError) as error:
        raise BadRecipe(
            f"{what} {given!r}", why=f"it must be {CALLED.get(kind, kind)}", fix=_help(field)
        ) from error
    low, high = field.metadata.get("range", (None, None))
    outside = isinstance(value, float) and not math.isfinite(value)
    if low is not None:
        outside = outside or not low <= value <= high
    if outside:
        span = f"it must be in [{low}, {high}]" if low is not None else "it must be finite"
        raise BadRecipe(f"{what} {value!r}", why=span, fix=_help(field))
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        why = f"it must be one of {', '.join(choices)}"
        raise BadRecipe(f"{what} {value!r}", why=why, fix=_help(field))
    return value


def _int(given: Any) -> int:
    if isinstance(given, bool) or (isinstance(given, float) and not given.is_integer()):
        raise TypeError(given)
    return int(given)


def _float(given: Any) -> float:
    if isinstance(given, bool):
        raise TypeError(given)
    return float(given)


def _bool(given: Any) -> bool:
    text = str(given)
    if text.lower() not in {"true", "false", "1", "0", "yes", "no"}:
        raise ValueError(text)
    return text.lower() in {"true", "1", "yes"}


def _help(field: Field[Any]) -> str:
    return f"{field.name}: {field.metadata.get('help', 'see the strategy')}"


def _check_sources(strategy: MergeStrategy[Any], sources: Sequence[Parent]) -> None:
    low, high = strategy.arity
    if not low <= len(sources) <= (high or len(sources)):
        wanted = (
            f"exactly {low}" if low == high else f"{low} to {high}" if high else f"at least {low}"
        )
        noun = "adapter" if wanted.endswith(" 1") else "adapters"
        raise BadRecipe(f"'{strategy.name}' takes {wanted} {noun}", why=f"{len(sources)} given")
    for source in sources:
        if not math.isfinite(source.weight):
            raise BadRecipe(
                f"the weight of {source.label} is {source.weight}",
                why="a weight is a finite number",
                fix=f"for example {source.label}=0.7",
            )
    if all(source.weight == 0 for source in sources):
        raise BadRecipe(
            "all weights are zero",
            why="the result would change nothing",
            fix="give one adapter a weight",
        )
    seen: dict[str, Parent] = {}
    for source in sources:
        if (first := seen.setdefault(source.digest, source)) is not source:
            raise BadRecipe(
                f"'{first.label}' and '{source.label}' are the same adapter",
                why=source.digest[:19] + "…",
                fix=f"give it once, with the weight {first.weight + source.weight:g}: "
                f"{first.label}={first.weight + source.weight:g}",
            )


def _space(strategy: MergeStrategy[Any], space: str | None) -> Space:
    if space is None:
        return strategy.spaces[0]
    if space not in get_args(Space):
        raise NotFound("space", space, get_args(Space))
    if space not in strategy.spaces:
        raise BadRecipe(
            f"'{strategy.name}' has no meaning in the space '{space}'",
            why=f"it works in {', '.join(strategy.spaces)}",
            fix=f"--space {strategy.spaces[0]}",
        )
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
        raise BadRecipe(
            f"--extras is '{policy}'",
            why="it settles what cannot be summed, such as heads and tokenizers",
            fix="--extras average | drop | from=REF, with REF one of "
            + ", ".join(s.label for s in sources),
        )
    return f"from={owner.digest}"
