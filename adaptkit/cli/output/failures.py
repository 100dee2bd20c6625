"""Errors as they are printed: for people, or with `--json` as one JSON object on stderr."""

from __future__ import annotations

import errno
from io import StringIO
from typing import TYPE_CHECKING

import click

from adaptkit.cli.help.examples import example_of
from adaptkit.errors import AdaptkitError, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.cli.output.sink import Output

BUG = "this is a bug in adaptkit, a plugin or a library; ADAPTKIT_DEBUG=1 shows where"

_OF_A_PATH = {errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.ENOTDIR}
_LONGEST_PATH = 200  # characters that are shown


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether `--json` is among the arguments, also where they cannot be parsed."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before


def show(error: BaseException, out: Output) -> None:
    """Print an error on stderr."""
    facts = described(error)
    if isinstance(error, click.ClickException):
        if not out.as_json:
            shown = StringIO()
            error.show(file=shown)
            text = shown.getvalue().rstrip("\n").replace("\n\t", "\n  ")  # as click lists choices
            out.say("\n".join([text, *_indented(facts["fix"])]))
            return
        out.error("", facts)
    elif isinstance(error, AdaptkitError):
        out.error([error.summary, *_indented(error.fix)], facts)
    else:
        first = (
            (facts["type"], facts["what"]) if facts["fix"] == BUG else (facts["what"], facts["why"])
        )
        out.error([": ".join(first), *_indented(facts["fix"])], facts)


def described(error: BaseException) -> dict[str, str]:
    """The error as JSON: its type, what failed, why, and what to type next."""
    kind = type(error).__name__
    if isinstance(error, AdaptkitError):
        return {"type": kind, "what": error.what, "why": error.why, "fix": error.fix}
    if isinstance(error, click.ClickException):
        fix = example_of(error) if isinstance(error, click.UsageError) else ""
        what = " ".join(error.format_message().split())  # click lists choices on lines of their own
        return {"type": kind, "what": what, "why": "", "fix": fix}
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return {
            "type": kind,
            "what": f"cannot use '{error.object}'",
            "why": "it has bytes that are not UTF-8",
            "fix": "type it again; a file or folder of that name must be renamed",
        }
    if isinstance(error, OSError) and error.errno in _OF_A_PATH and isinstance(error.filename, str):
        return {
            "type": kind,
            "what": f"cannot use {error.filename[:_LONGEST_PATH]}",
            "why": error.strerror or str(error),
            "fix": "give another path",
        }
    return {"type": kind, "what": text_of(error), "why": "", "fix": BUG}


def _indented(fix: str) -> Sequence[str]:
    return f"  {fix}".split("\n") if fix else ()
