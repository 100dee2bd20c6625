"""The command that measures what goes into an adapter's modules."""

from __future__ import annotations

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.shell.session import Session, json_option, pass_session


@click.command()
@REF
@click.option("--base", required=True, metavar="DIR", help="The base's folder.")
@click.option(
    "--data",
    required=True,
    metavar="FILE",
    help="JSON Lines with prompts of the adapter's own; without a completion, it writes one.",
)
@click.option(
    "--rows", type=int, default=16, show_default=True, help="How many rows of the file are used."
)
@click.option(
    "--rank",
    type=int,
    default=64,
    show_default=True,
    help="How many directions of each moment are kept.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Which rows of a longer file are drawn."
)
@click.option("--force", is_flag=True, help="Even when the base is another one; recorded.")
@json_option
@pass_session
def calibrate(
    session: Session, ref: str, base: str, data: str, rows: int, rank: int, seed: int, force: bool
) -> None:
    """Measure what goes into REF's modules on its own data, so that --strategy regmean can use it.

    The moments are kept beside the version and travel with push and pull; the data does not.
    """
    done = session.workspace.calibrate(
        ref, base, data, rows=rows, rank=rank, seed=seed, force=force
    )
    measured = f"{done.modules} modules in {done.moments} moments"
    over = f"{done.rows} rows, {done.tokens} tokens, {done.size:,} bytes"
    lines = [f"{done.ref}  {measured}, {over}"]
    if done.unmeasured:
        lines.append(f"  not measured: {', '.join(done.unmeasured)}")
    session.out.data(done.to_json(), "\n".join(lines), fit=True)
