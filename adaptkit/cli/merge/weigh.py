"""`merge --weigh`: weights by module from the parents' prompts, before they are merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.merge.distil import parents_data

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.cli.shell.session import Session
    from adaptkit.refs import WeightedRef
    from adaptkit.workspace.merge.weigh import WeighedSources


def check_weigh(prompts: Sequence[str], choices: Mapping[str, Any]) -> dict[str, str]:
    """The prompts of each parent; a usage error names what has no meaning beside them."""
    data = parents_data(prompts, "--weigh")
    if data and choices["base"] is None:
        raise click.UsageError("--weigh needs the base's folder: --base DIR")
    if data and choices["normalize"]:
        raise click.UsageError("--weigh chooses the weights: leave out --normalize")
    return data


def weigh(
    session: Session,
    sources: Sequence[WeightedRef],
    data: Mapping[str, str],
    choices: Mapping[str, Any],
) -> WeighedSources:
    """The sources of a merge with the weights that were chosen."""
    weighed: WeighedSources = session.workspace.weigh(
        sources,
        choices["base"],
        data,
        seed=choices["seed"],
        force=choices["force"],
        allow_pickle=choices["allow_pickle"],
    )
    return weighed


def described(weighed: WeighedSources) -> list[str]:
    """How the weights were chosen, for people."""
    report = weighed.report
    lines = [f"  weighed by null-space compression: {report.steps} steps, kept step {report.kept}"]
    for label, look in report.held_out.items():
        weights = report.weights[label].values()
        lines.append(
            f"  {label}: weights {min(weights):.2f} to {max(weights):.2f}; outside its rows, of held-out inputs: "
            f"{look.before:.1%} → {look.after:.1%}, {look.alone:.1%} alone"
        )
    return lines
