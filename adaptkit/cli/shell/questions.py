"""What a command asks the person who typed it. Ctrl-C ends the command; no answer is an error that names the way without."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from adaptkit.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator


def confirm(question: str) -> None:
    """Return when the answer is yes; `Refused` when it is no, or when nobody answers."""
    with _answered(fix="--yes goes on without asking"):
        agreed = click.confirm(question, err=True)
    if not agreed:
        raise Refused("nothing was changed", why="the answer was no")


def password(of: str, *, variable: str) -> str:
    """A password, typed unseen; `variable` is the environment variable that holds it where nobody can type."""
    with _answered(fix=f"set {variable}"):
        return str(click.prompt(f"password of {of}", hide_input=True, err=True))


@contextmanager
def _answered(*, fix: str) -> Iterator[None]:
    if sys.stdin is None:
        raise _nobody("the input is closed", fix)
    try:
        yield
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        click.echo(err=True)  # the question's line has no end yet
        raise _nobody("the input has ended", fix) from None


def _nobody(why: str, fix: str) -> Refused:
    return Refused("nothing was changed", why=f"nobody answered, {why}", fix=fix)
