"""The command that trains a merged adapter to say what its parents say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.shell.session import Session, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.workspace.merge.distil import DistilledVersion


def parents_data(texts: Sequence[str], option: str = "--data") -> dict[str, str]:
    """`PARENT=FILE…` as a table; a usage error names what is no such pair."""
    found: dict[str, str] = {}
    for text in texts:
        parent, equals, file = text.partition("=")
        if not (parent and equals and file):
            raise click.BadParameter(f"'{text}' is not PARENT=FILE", param_hint=option)
        found[parent] = file
    return found


@click.command()
@REF
@click.option("--base", required=True, metavar="DIR", help="The base's folder.")
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="PARENT=FILE",
    help="JSON Lines with prompts of one parent, which answers those without a completion; repeat it.",
)
@click.option("--keep", metavar="FILE", help="Prompts on which the base must stay as it is.")
@click.option("--name", help="Register the result under this name.  [default: that of REF]")
@click.option("--steps", type=int, default=50, show_default=True, help="The most steps it takes.")
@click.option(
    "--rate", type=float, default=1e-3, show_default=True, help="The learning rate of AdamW."
)
@click.option(
    "--batch", type=int, default=16, show_default=True, help="Rows of each parent in a step."
)
@click.option(
    "--held-out",
    type=float,
    default=0.2,
    show_default=True,
    help="The share of each file (64 rows at most) that is not learned from, and decides which step is kept.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="What is held out, and the order."
)
@click.option("-m", "--message", default="", help="What this version is.")
@click.option("--alias", metavar="ALIAS", help="Point this alias at the new version.")
@click.option("--force", is_flag=True, help="Even when the bases differ; recorded.")
@json_option
@pass_session
def distil(session: Session, ref: str, base: str, data: tuple[str, ...], **choices: Any) -> None:
    """Train REF, a merged adapter, so that on each parent's prompts it says what that parent says."""
    done = session.workspace.distil(ref, base, parents_data(data), **choices)
    session.out.data(done.to_json(), lambda: described(done), fit=True)


def described(done: DistilledVersion) -> str:
    """A distillation, for people."""
    report = done.report
    lines = [
        f"{done.version.ref}  {done.version.digest[:19]}…{'' if done.created else '  unchanged'}",
        f"  from {done.source.ref}: {report.steps} steps, kept step {report.kept}",
    ]
    for label, after in report.after.items():
        before = report.before[label]
        lines.append(
            f"  {label}: held-out prompts word for word {before.same:.0%} → {after.same:.0%}, "
            f"divergence {before.divergence:.2g} → {after.divergence:.2g}"
        )
    return "\n".join(lines)
