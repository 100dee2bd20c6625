"""The command that writes a version for others: a PEFT folder, another tool's file, or an engine's layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.shell.session import Session, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@REF
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "dialect",
    metavar="TOOL",
    help="Write what kohya, diffusers or comfyui reads; OUT may be FILE.safetensors.",
)
@click.option(
    "--for",
    "engine",
    metavar="ENGINE",
    help="Lay it out as vllm, lorax, sglang, ollama, gguf, llm-d or ray loads it; for gguf, OUT is FILE.gguf.",
)
@click.option(
    "--base",
    metavar="DIR",
    help="With --for gguf: the base's folder. With --for ollama: its name there, or a folder.  [default: where it is known to be]",
)
@click.option(
    "--canary",
    multiple=True,
    metavar="REF=PERCENT",
    help="With --for llm-d: this version gets so many of 100 requests for REF; may be repeated.",
)
@click.option("--pool", metavar="NAME", help="With --for llm-d: the InferencePool.")
@json_option
@pass_session
def export(
    session: Session,
    ref: str,
    out: Path,
    dialect: str | None,
    engine: str | None,
    base: str | None,
    canary: Sequence[str],
    pool: str | None,
) -> None:
    """Copy REF to OUT: a PEFT folder of its own, the one file that another tool reads, or an engine's layout."""
    if engine is None:
        if base or canary or pool:
            raise click.UsageError("--base, --canary and --pool go with --for")
        target = session.workspace.export(ref, out, dialect=dialect)
        session.out.data({"out": str(target)}, [str(target)])
        return
    if dialect is not None:
        raise click.UsageError(
            "--to writes another tool's file, --for an engine's layout: one of them"
        )
    made = session.workspace.export_for(ref, out, engine, base=base, canary=canary, pool=pool)
    session.out.data(made.to_json(), [str(made.out), f"  load it with: {made.load}"])
