"""The command that searches for the best merge."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.executors import on_option
from adaptkit.cli.shell.pictures import Picture
from adaptkit.cli.shell.session import Session, complete_ref, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from adaptkit.workspace.search.search import Searched


def params_of(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE…` or `NAME=LOW:HIGH…` as a table; a usage error names what is no such pair."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise click.BadParameter(
                f"'{text}' is not NAME=VALUE or NAME=LOW:HIGH", param_hint="--param"
            )
        found[name] = value
    return found


@click.command()
@click.argument("refs", metavar="REF…", nargs=-1, required=True, shell_complete=complete_ref)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    required=True,
    metavar="FILE|DIR",
    help="What every merge is asked, as for eval; may be repeated.",
)
@click.option("--base", required=True, metavar="DIR", help="The base model's folder.")
@click.option("--name", required=True, help="Register the winner under this name.")
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    help="Merges tried in all, those of an earlier run included.",
)
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    help="Strategies to choose from, or any.  [default: linear, and what uses moments where there are some]",
)
@click.option("--space", "spaces", multiple=True, help="Spaces to choose from, such as dense.")
@click.option(
    "--rank",
    "ranks",
    multiple=True,
    type=int,
    help="Ranks to choose from.  [default: half the adapters', theirs, their sum]",
)
@click.option(
    "--weights",
    default="0.2:1.2",
    show_default=True,
    metavar="LOW:HIGH",
    help="Weights to choose from.",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE|LOW:HIGH",
    help="Fix or narrow a strategy's parameter.",
)
@click.option("--study", help="The study's name.  [default: NAME and a digest of what is asked]")
@click.option(
    "--storage",
    metavar="URL",
    help="Keep the study in this database, for many drivers.  [default: a file of the home]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="What is tried, and in which order."
)
@click.option("--dtype", help="Store as float32, bfloat16, float16 or float64.")
@click.option("--extras", help="What becomes of tensors that are no deltas, as for merge.")
@click.option(
    "--batch", type=click.IntRange(1), default=16, show_default=True, help="Prompts at once."
)
@click.option("--png", type=Picture(), metavar="FILE", help="Draw skills against size, too.")
@on_option
@click.option("--dry-run", is_flag=True, help="Search, and register nothing.")
@click.option("-m", "--message", default="", help="What this version is.")
@click.option("--alias", metavar="ALIAS", help="Point this alias at the new version.")
@click.option("--force", is_flag=True, help="Even when the base is not known to be the adapters'.")
@json_option
@pass_session
def search(
    session: Session,
    refs: tuple[str, ...],
    suites: tuple[str, ...],
    weights: str,
    params: tuple[str, ...],
    png: Path | None,
    **choices: Any,
) -> None:
    """Try merges of adapters REF on suites, and register the best one.

    Optuna chooses weights, strategy, density, space and rank. An interrupted search goes on; docs/search.md has more.
    """
    from adaptkit.search.candidates import parse_range

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads cost 4x on busy cores
    searched = session.workspace.search(
        refs,
        suites,
        weights=parse_range(weights, "--weights"),
        params=params_of(params),
        **choices,
    )
    if png is not None:
        from adaptkit.search.plots import draw

        draw(searched.found, png)
    head, rows = searched.found.table()
    session.out.table(searched.to_json(), head, rows, "", titled=True)
    if not session.out.as_json:
        session.out.say(list(_summary(searched)))


def _summary(searched: Searched) -> Iterator[str]:
    found = searched.found
    failed = f", {len(found.failed)} could not be merged" if found.failed else ""
    yield f"{found.study}: {len(found.trials)} trials{failed}; kept in {found.storage}"
    if searched.version is not None:
        version = searched.version
        note = "" if searched.created else "  unchanged"
        yield f"  trial {found.winner.number} is {version.ref}  {version.digest[:19]}…{note}"
