"""Commands that merge adapters, write one in another form, and compare them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptkit import refs
from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.executors import on_option
from adaptkit.cli.merge.compare import compared
from adaptkit.cli.shell.session import Session, complete_ref, json_option, pass_session
from adaptkit.errors import BadRecipe, BadReference, NotFound
from adaptkit.serving.live_recipe import STRATEGY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.workspace.results import Merged

_Command = Callable[..., Any]
_ENERGY = click.option(
    "--energy",
    type=float,
    metavar="E",
    help="Give each module the smallest rank that keeps this share.",
)
_KEEP = click.option(
    "--keep",
    default="fro",
    show_default=True,
    help="What --energy is a share of: fro, cumulative or ratio.",
)
_BASE = click.option(
    "--base", metavar="DIR", help="The base's folder, for methods whose update needs its weights."
)


def _dtype(of: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--dtype",
        help=f"Store as float32, bfloat16, float16 or float64.  [default: that of the {of}]",
    )


def _options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Several options as one decorator, shown by `--help` in this order."""
    return lambda command: reduce(lambda inner, option: option(inner), reversed(options), command)


def _destination(command: _Command) -> _Command:
    """`--name` and `--out`: where the result goes."""
    return _options(
        click.option("--name", help="Register the result as the next version of this name."),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Write the result into a new folder instead.",
        ),
    )(command)


def _registration(*, pickles: str) -> Callable[[_Command], _Command]:
    """How the result is registered, and what is overruled."""
    return _options(
        click.option("-m", "--message", default="", help="What this version is."),
        click.option("--alias", metavar="ALIAS", help="Point this alias at the new version."),
        click.option(
            "--new-version", is_flag=True, help="Even when the name holds another method or base."
        ),
        click.option("--allow-pickle", is_flag=True, help=pickles),
        click.option("--force", is_flag=True, help="Even when the bases differ; recorded."),
    )


def _result(command: _Command) -> _Command:
    """The options of commands that make one adapter of another."""
    return _options(
        _destination,
        _BASE,
        _dtype("adapter"),
        _registration(pickles="Read a .bin pickle when REF is a folder."),
    )(command)


@click.command()
@click.argument(
    "sources", nargs=-1, required=True, metavar="REF[=W]...", shell_complete=complete_ref
)
@_destination
@click.option(
    "--to",
    "dialect",
    metavar="TOOL",
    help="With --out FILE.safetensors: kohya, diffusers or comfyui; else what the sources are.",
)
@click.option(
    "--into",
    nargs=2,
    type=(click.Choice(["bake"]), click.Path(path_type=Path)),
    metavar="bake DIR",
    help="Write the base (--base) with the whole merge in its weights instead.",
)
@click.option(
    "--strategy",
    default="linear",
    show_default=True,
    help="How to combine; adaptkit strategies lists them.",
)
@click.option(
    "--space",
    help="Where the strategy works: core, knots, dense or factors.  [default: the strategy's own]",
)
@_BASE
@click.option(
    "--rank", type=int, help="Cut to this rank, optimally.  [default: the strategy's own rule]"
)
@_ENERGY
@_KEEP
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="REF[GLOB]=W",
    help="Another weight in the modules that GLOB names; W1,W2,… is a gradient over the layers.",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="K=V",
    help="Set a parameter of the strategy; may be repeated.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="For strategies that draw at random."
)
@click.option("--normalize", is_flag=True, help="Divide the weights by their sum.")
@_dtype("parents")
@click.option(
    "--extras",
    metavar="P",
    help="Settle heads, tokenizers and settings in conflict: average, drop or from=REF.",
)
@click.option(
    "--missing",
    default="skip",
    show_default=True,
    help="A module some adapters lack: skip them, or count zero.",
)
@click.option("--disjoint", is_flag=True, help="Even adapters that share no module with any other.")
@click.option(
    "--weigh",
    "unlabelled",
    multiple=True,
    metavar="PARENT=FILE",
    help="First choose the weights by module on prompts of each parent, by null-space compression.",
)
@click.option(
    "--distil",
    "prompts",
    multiple=True,
    metavar="PARENT=FILE",
    help="Then distil the result on this parent's prompts, as adaptkit distil does; may be repeated.",
)
@on_option
@_registration(pickles="Read .bin pickles among the folders given.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Make nothing: show how the adapters differ and what a rank would lose.",
)
@json_option
@pass_session
def merge(
    session: Session,
    sources: tuple[str, ...],
    params: tuple[str, ...],
    weights: tuple[str, ...],
    dry_run: bool,
    into: tuple[str, Path] | None,
    prompts: tuple[str, ...],
    unlabelled: tuple[str, ...],
    **choices: Any,
) -> None:
    """Merge adapters, each weighted by =W (1 by default), without loading the base."""
    from adaptkit.cli.merge import weigh
    from adaptkit.cli.merge.distil import described, parents_data

    to_weigh = weigh.check_weigh(unlabelled, choices)
    if to_weigh and into is not None:
        raise click.UsageError("--weigh and --into bake exclude each other: merge, then bake")
    if prompts and (into is not None or not choices["name"] or not choices["base"]):
        raise click.UsageError(
            "--distil needs the base's folder and a name: --base DIR --name NAME"
        )
    if choices.pop("disjoint"):
        choices["missing"] = "disjoint"
    weighted = with_module_weights(named(sources), weights)
    choices["params"] = dict(_pair(text) for text in params)
    if dry_run:
        takes = signature(session.workspace.merge_cost).parameters
        planned = {name: value for name, value in choices.items() if name in takes}
        cost = session.workspace.merge_cost(weighted, **planned)
        found = session.workspace.diff(weighted, allow_pickle=choices["allow_pickle"])
        session.out.data(found.to_json(), lambda: compared(found, session.out.width), fit=True)
        session.out.say(f"merging takes {cost.text}")
        return
    if into is not None:
        _merge_into_model(session, weighted, into[1], choices)
        return
    data = parents_data(prompts, "--distil")
    more, lines = dict[str, Any](), list[str]()
    if to_weigh:
        weighed = weigh.weigh(session, weighted, to_weigh, choices)
        weighted, choices["facts"] = weighed.sources, weighed.facts
        more, lines = {"weighed": weighed.to_json()}, weigh.described(weighed)
    merged = session.workspace.merge(weighted, **choices)
    if not data or merged.version is None:
        session.out.data(merged.to_json() | more, lambda: [*describe(merged), *lines], fit=True)
        return
    done = session.workspace.distil(
        merged.version.ref, choices["base"], data, seed=choices["seed"], alias=choices["alias"]
    )
    session.out.data(
        merged.to_json() | more | {"distilled": done.to_json()},
        lambda: [*describe(merged), *lines, described(done)],
        fit=True,
    )


def _merge_into_model(
    session: Session, sources: Sequence[refs.WeightedRef], out: Path, choices: dict[str, Any]
) -> None:
    from adaptkit.cli.bake import baked_lines

    base = choices.pop("base")
    if base is None:
        raise click.UsageError(
            "--into bake writes a full model: give the base it starts from, --base DIR"
        )
    if given := [option for name, option in _NO_ADAPTER.items() if choices.pop(name)]:
        raise click.UsageError(
            f"--into bake makes a model, not an adapter: {', '.join(given)} has no meaning there"
        )
    baked = session.workspace.merge_into_model(sources, base, out, **choices)
    session.out.data(baked.to_json(), lambda: baked_lines(baked), fit=True)


_NO_ADAPTER = {
    "name": "--name",
    "out": "--out",
    "dialect": "--to",
    "message": "--message",
    "alias": "--alias",
    "new_version": "--new-version",
    "on": "--on",
}
_MODULE_WEIGHT = re.compile(r"(?P<ref>[^\[]+)\[(?P<glob>.+)\]=(?P<values>[^=]+)")


def named(sources: Sequence[str]) -> tuple[refs.WeightedRef, ...]:
    """The adapters of the command line; `REF[GLOB]=W` among them is shown its option."""
    try:
        return refs.weighted(sources)
    except BadReference:
        for match in filter(None, map(_MODULE_WEIGHT.fullmatch, sources)):
            raise BadRecipe(
                f"'{match[0]}' is a weight of some modules, not an adapter",
                why="adapters are named without modules, such as naval or naval=0.8",
                fix=f"adaptkit merge {match['ref']} … --weight '{match[0]}'",
            ) from None
        raise


def with_module_weights(
    sources: tuple[refs.WeightedRef, ...], texts: Sequence[str]
) -> tuple[refs.WeightedRef, ...]:
    """The sources with what `--weight REF[GLOB]=W` and `REF[GLOB]=W1,W2,…` say of their modules."""
    by_label = {str(source.ref): source for source in sources}
    for text in texts:
        match = _MODULE_WEIGHT.fullmatch(text)
        try:
            values = [float(value) for value in match["values"].split(",")] if match else []
        except ValueError:
            values = []
        if match is None or not values:
            raise BadRecipe(
                f"--weight is '{text}'",
                why="it is REF[GLOB]=W, or REF[GLOB]=W1,W2,… over the layers",
                fix="for example --weight 'naval[*.mlp.*]=0.5'",
            )
        if match["ref"] not in by_label:
            raise NotFound("source of this merge", match["ref"], by_label)
        owner = by_label[match["ref"]]
        modules = {**owner.modules, match["glob"]: values}
        by_label[match["ref"]] = replace(owner, modules=modules)
    return tuple(by_label[str(source.ref)] for source in sources)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"'{text}' is not K=V", param_hint="--param")
    return key, value


def describe(merged: Merged, done: str = "") -> list[str]:
    """A merge, for people; or what else was done to one adapter."""
    report = merged.report
    where = f"{merged.version.ref}" if merged.version else str(merged.out)
    terms = " + ".join(f"{parent.weight:g}·{parent.label}" for parent in merged.recipe.sources)
    lines = [
        f"{where}  {merged.manifest.digest[:19]}…{'' if merged.created else '  unchanged'}",
        f"  {merged.recipe.sources[0].label}, {done}" if done else f"  {report.how}: {terms}",
        f"  {len(report.ranks)} modules, rank {report.rank}, {report.dtype}"
        if report.rank
        else f"  {report.dtype}",
    ]
    if report.error.total is not None:
        worst = max(report.error.modules, key=lambda key: report.error.modules[key] or 0.0)
        most = report.error.modules[worst] or 0.0
        where = f" (worst {most:.2g} in {worst})" if most else ""
        of = "merged update" if len(merged.recipe.sources) > 1 else "update"
        lines.append(f"  loss {report.error.total:.2g} of the {of}{where}")
    if report.dropped:
        lines.append(f"  dropped: {', '.join(report.dropped)}")
    return lines


@click.command()
@click.argument("recipe", type=click.Path(), metavar="RECIPE")
@click.option(
    "--live",
    is_flag=True,
    help="RECIPE is a model that adaptkit serve composes, such as naval+medic=0.4: print its recipe, or merge it with --name or --out.",
)
@_destination
@_registration(pickles="Read .bin pickles among the folders named.")
@json_option
@pass_session
def compose(session: Session, recipe: str, *, live: bool, **how: Any) -> None:
    """Merge what a YAML file says: adapters, weights, module globs, strategy, parameters."""
    if live:
        found = session.workspace.live_recipe(recipe)
        if how["name"] is None and how["out"] is None:
            session.out.data(found.to_json(), lambda: found.as_yaml().rstrip())
            return
        merged = session.workspace.merge(found.sources, strategy=STRATEGY, **how)
    else:
        merged = session.workspace.compose(recipe, **how)
    session.out.data(merged.to_json(), lambda: describe(merged), fit=True)


@click.command()
@REF
@click.option("--rank", type=int, help="Cut every module to this rank, optimally.")
@_ENERGY
@_KEEP
@_result
@json_option
@pass_session
def resize(session: Session, ref: str, **how: Any) -> None:
    """Cut REF to a smaller rank, with the least possible loss, and say what it is."""
    made = session.workspace.resize(ref, **how)
    session.out.data(made.to_json(), lambda: describe(made, "resized"), fit=True)


@click.command()
@REF
@click.option(
    "--rank", type=int, help="The rank of the result; needed where the update is not low rank."
)
@_ENERGY
@_result
@json_option
@pass_session
def convert(session: Session, ref: str, **how: Any) -> None:
    """Write REF, an adapter of any additive method, as LoRA."""
    made = session.workspace.convert(ref, **how)
    session.out.data(made.to_json(), lambda: describe(made, "as LoRA"), fit=True)
