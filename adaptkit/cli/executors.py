"""`--on`: where the tasks of a command run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def on_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--on URL`; without it, what ADAPTKIT_EXECUTOR or config.toml says, else this process."""
    return click.option(
        "--on",
        metavar="EXECUTOR",
        help="Where tasks run: local, ray://HOST or dask://HOST:PORT.  [default: this process]",
    )(command)
