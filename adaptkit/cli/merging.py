"""The command that makes one adapter of several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.session import Session, complete_ref, json_option, pass_session

if TYPE_CHECKING:
    from adaptkit.results import Merged


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="REF[=W]...", shell_complete=complete_ref)
@click.option("--name", help="Register the result as the next version of this name.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Write the result into a new folder instead."
)
@click.option("--into", nargs=2, type=(click.Choice(["bake"]), click.Path(path_type=Path)), metavar="bake DIR",
              help="Write the base (--base) with the whole merge in its weights instead.")  # fmt: skip
@click.option("--strategy", default="linear", show_default=True, help="How to combine; adaptkit plugins lists them.")
@click.option("--space", help="Where the strategy works: core, knots, dense or factors.  [default: the strategy's own]")
@click.option("--base", metavar="DIR", help="The base's folder, for methods whose update needs its weights.")
@click.option("--rank", type=int, help="Cut to this rank, optimally.  [default: the strategy's own rule]")
@click.option("--energy", type=float, metavar="E", help="Give each module the smallest rank that keeps this share.")
@click.option("--keep", default="fro", show_default=True, help="What --energy is a share of: fro, cumulative or ratio.")
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="REF[GLOB]=W",
    help="Another weight in the modules that GLOB names; W1,W2,… is a gradient over the layers.",
)
@click.option(
    "--param", "params", multiple=True, metavar="K=V", help="Set a parameter of the strategy; may be repeated."
)
@click.option("--seed", type=int, default=0, show_default=True, help="For strategies that draw at random.")
@click.option("--normalize", is_flag=True, help="Divide the weights by their sum.")
@click.option("--dtype", help="Store as float32, bfloat16, float16 or float64.  [default: that of the parents]")
@click.option(
    "--extras", metavar="P", help="Settle heads, tokenizers and settings in conflict: average, drop or from=REF."
)
@click.option(
    "--missing", default="skip", show_default=True, help="A module some adapters lack: skip them, or count zero."
)
@click.option("-m", "--message", default="", help="What this version is.")
@click.option("--alias", metavar="ALIAS", help="Point this alias at the new version.")
@click.option("--new-version", is_flag=True, help="Even when the name holds another method or base.")
@click.option("--allow-pickle", is_flag=True, help="Read .bin pickles among the folders given.")
@click.option("--force", is_flag=True, help="Even when the bases differ; recorded.")
@click.option("--dry-run", is_flag=True, help="Make nothing: show how the adapters differ and what a rank would lose.")
@json_option
@pass_session
def merge(session: Session, sources: tuple[str, ...], params: tuple[str, ...], dry_run: bool,
          into: tuple[str, Path] | None, **choices: Any) -> None:  # fmt: skip
    """Merge adapters, each weighted by =W (1 by default), without loading the base."""
    if dry_run:
        from adaptkit.cli.shaping import compared

        found = session.workspace.diff(sources, allow_pickle=choices["allow_pickle"])
        session.out.data(found.to_json(), lambda: compared(found))
        return
    given = dict(_pair(text) for text in params)
    if into is not None:
        _merge_into_model(session, sources, into[1], choices | {"params": given})
        return
    merged = session.workspace.merge(sources, params=given, **choices)
    session.out.data(merged.to_json(), lambda: describe(merged))


def _merge_into_model(session: Session, sources: tuple[str, ...], out: Path, choices: dict[str, Any]) -> None:
    from adaptkit.cli.baking import baked_lines

    base = choices.pop("base")
    if base is None:
        raise click.UsageError("--into bake writes a full model: give the base it starts from, --base DIR")
    if given := [f"--{name.replace('_', '-')}" for name in _NO_ADAPTER if choices.pop(name)]:
        raise click.UsageError(f"--into bake makes a model, not an adapter: {', '.join(given)} has no meaning there")
    baked = session.workspace.merge_into_model(sources, base, out, **choices)
    session.out.data(baked.to_json(), lambda: baked_lines(baked))


_NO_ADAPTER = ("name", "out", "message", "alias", "new_version")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"'{text}' is not K=V", param_hint="--param")
    return key, value


def describe(merged: Merged) -> str:
    """A merge, for people."""
    report = merged.report
    where = f"{merged.version.ref}" if merged.version else str(merged.out)
    terms = " + ".join(f"{parent.weight:g}·{parent.label}" for parent in merged.recipe.sources)
    lines = [
        f"{where}  {merged.manifest.digest[:19]}…{'' if merged.created else '  unchanged'}",
        f"  {report.strategy} in {report.space} space: {terms}",
        f"  {len(report.ranks)} modules, rank {report.rank}, {report.dtype}" if report.rank else f"  {report.dtype}",
    ]
    if report.error.total is not None:
        worst = max(report.error.modules, key=lambda key: report.error.modules[key] or 0.0)
        lines.append(f"  loss {report.error.total:.2g} (worst {report.error.modules[worst] or 0:.2g} in {worst})")
    if report.dropped:
        lines.append(f"  dropped: {', '.join(report.dropped)}")
    return "\n".join(lines)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), metavar="RECIPE")
@click.option("--name", help="Register the result as the next version of this name.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Write the result into a new folder instead."
)
@click.option("-m", "--message", default="", help="What this version is.")
@click.option("--alias", metavar="ALIAS", help="Point this alias at the new version.")
@click.option("--new-version", is_flag=True, help="Even when the name holds another method or base.")
@click.option("--allow-pickle", is_flag=True, help="Read .bin pickles among the folders named.")
@click.option("--force", is_flag=True, help="Even when the bases differ; recorded.")
@json_option
@pass_session
def compose(session: Session, recipe: Path, **how: Any) -> None:
    """Merge what a YAML file says: adapters, weights, module globs, strategy, parameters."""
    merged = session.workspace.compose(recipe, **how)
    session.out.data(merged.to_json(), lambda: describe(merged))
