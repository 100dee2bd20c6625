"""Errors as they are printed: for people, or with `--json` as one JSON object on stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from adaptkit.errors import AdaptkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

BUG = "this is a bug in adaptkit or a plugin; ADAPTKIT_DEBUG=1 shows where"


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether `--json` is among the arguments, also where they cannot be parsed."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before


def show(error: Exception, *, as_json: bool) -> None:
    """Print an error on stderr."""
    if as_json:
        click.echo(json.dumps({"error": described(error)}, ensure_ascii=False), err=True)
    elif isinstance(error, click.ClickException):
        error.show()
    else:
        label = click.style("error:", fg="red", bold=True)
        if isinstance(error, AdaptkitError):
            click.echo(f"{label} {error}", err=True)
        else:
            click.echo(f"{label} {type(error).__name__}: {error}\n  {BUG}", err=True)


def described(error: Exception) -> dict[str, str]:
    """The error as JSON: its type, what failed, why, and what to type next."""
    kind = type(error).__name__
    if isinstance(error, AdaptkitError):
        return {"type": kind, "what": error.what, "why": error.why, "fix": error.fix}
    if isinstance(error, click.ClickException):
        return {"type": kind, "what": error.format_message(), "why": "", "fix": ""}
    return {"type": kind, "what": str(error), "why": "", "fix": BUG}
