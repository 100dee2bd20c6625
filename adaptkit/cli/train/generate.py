"""The commands that let a base speak with an adapter on it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.shell.amounts import Amount
from adaptkit.cli.shell.session import Session, complete_ref, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _speaking(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both commands take."""
    for option in (
        click.option(
            "--force", is_flag=True, help="Even when the base is not known to be the adapter's."
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the sampling."),
        click.option(
            "--temperature",
            type=Amount(),
            default=0.0,
            show_default=True,
            help="0 takes the likeliest token.",
        ),
        click.option(
            "--new-tokens",
            type=click.IntRange(1),
            default=128,
            show_default=True,
            help="The longest answer.",
        ),
        click.option("--base", required=True, metavar="DIR", help="The base model's folder."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("ref", required=False, shell_complete=complete_ref)
@click.option("--prompt", required=True, help="What to ask; - reads it from stdin.")
@click.option("--compare", metavar="REF,…", help="Several side by side: base,naval,naval+medic.")
@click.option("--plain", is_flag=True, help="Leave the chat template out.")
@_speaking
@json_option
@pass_session
def generate(
    session: Session, ref: str | None, prompt: str, compare: str | None, **how: Any
) -> None:
    """Answer a prompt with adapter REF on its base; `base` is the base alone."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads cost 4x on busy cores
    names = [*([ref] if ref else []), *(compare.split(",") if compare else [])]
    if not names:
        raise click.UsageError("Missing argument 'REF', or option '--compare'.")
    text = (sys.stdin.read() if sys.stdin else "") if prompt == "-" else prompt
    if prompt == "-" and not text.strip():
        raise click.UsageError(
            "--prompt - reads the prompt from stdin, and nothing came from there"
        )
    alone = len(names) == 1 and not session.out.as_json
    found = session.workspace.generate(names, text, stream=sys.stdout if alone else None, **how)
    if not alone:
        rows = [[name, answer] for name, answer in found.items()]
        session.out.table(found, ("adapter", "answer"), rows, "")


@click.command()
@REF
@click.option(
    "--system", default="", help="The system message: what holds for the whole conversation."
)
@_speaking
@json_option
@pass_session
def chat(session: Session, ref: str, **how: Any) -> None:
    """Talk with adapter REF on its base, a line at a time; an empty line or Ctrl-D ends it.

    With --json, the whole conversation is printed at its end.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads cost 4x on busy cores
    stream = None if session.out.as_json else sys.stdout
    with session.workspace.conversation(ref, stream=stream, **how) as reply:
        turns = [{"user": line, "assistant": reply(line)} for line in _lines()]
    if session.out.as_json:
        session.out.data({"adapter": ref, "turns": turns}, "")


def _lines() -> Iterator[str]:
    """What is typed, up to an empty line or the end of the input."""
    while True:
        if sys.stdin.isatty():
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line
