"""Commands on adapters and their versions."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.adapters.bulk import added_line, report_added, report_removed
from adaptkit.cli.adapters.described import described
from adaptkit.cli.executors import on_option
from adaptkit.cli.servers import SERVERS
from adaptkit.cli.shell.questions import confirm
from adaptkit.cli.shell.session import (
    Session,
    complete_ref,
    json_option,
    pass_session,
    table_options,
)
from adaptkit.errors import AdaptkitError, BadAdapter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.types import Quantisation, Version

REF = click.argument("ref", shell_complete=complete_ref)
NAME = click.argument("name", shell_complete=complete_ref)
_SHOWN = 8  # versions in a question

_TRASH = ("VERSION", "DIGEST", "MESSAGE")


@click.command()
@click.argument("folder", required=False, metavar="[DIR]")
@json_option
@pass_session
def init(session: Session, folder: str | None) -> None:
    """Make a workspace in DIR/.adaptkit; without DIR, where --home or ADAPTKIT_HOME says, else here."""
    from adaptkit.workspace import Workspace

    workspace = Workspace.open(session.home)
    if folder is None and workspace.home.chosen_by:
        workspace.create()
    else:
        workspace = Workspace.init(folder or ".")
    with workspace:
        home, made = str(workspace.home.path), workspace.new_home
        where = f"a workspace in {home}"
        session.out.done(
            {"home": home, "made": made},
            [f"made {where}" if made else f"found {where}, nothing is new"],
        )


def _quantisation(
    _context: click.Context, _option: click.Parameter, text: str | None
) -> Quantisation | None:
    from adaptkit.types import Quantisation

    if text is None:
        return None
    method, _, rest = text.partition(":")
    bits, _, dtype = rest.partition(":")
    if not method or not bits.isdigit():
        raise click.BadParameter(f"'{text}' is not METHOD:BITS[:DTYPE], such as bitsandbytes:4:nf4")
    return Quantisation(method, int(bits), dtype)


@click.command()
@click.argument("paths", metavar="PATH|URL...", nargs=-1, required=True)
@click.option(
    "--recursive",
    is_flag=True,
    help="Every adapter folder below PATH, each under a name of its own.",
)
@click.option(
    "--name-from",
    metavar="TEXT",
    help="Name each after its folder: '{dir}', or '{parent}-{dir}'.  [of several: {dir}]",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="How many of several at once.",
)
@click.option(
    "--name",
    help="The adapter's name; a new version of it if it exists.  [of a URL: the one it has there]",
)
@click.option(
    "--base",
    metavar="BASE",
    help="Its base model: a folder (measured), a known name or a tm1:… level.",
)
@click.option("-m", "--message", default="", help="What this version is.")
@click.option("--alias", metavar="ALIAS", help="Point this alias at the new version.")
@click.option(
    "--from",
    "dialect",
    metavar="TOOL",
    help="The tool that wrote it, where the file does not show it: kohya, diffusers or unsloth.",
)
@click.option(
    "--quantised",
    metavar="METHOD:BITS[:DTYPE]",
    callback=_quantisation,
    help="How its base was quantised when loaded for training, such as bitsandbytes:4:nf4.",
)
@click.option(
    "--include", multiple=True, metavar="GLOB", help="Take further files in; may be repeated."
)
@click.option(
    "--allow-pickle",
    is_flag=True,
    help="Read a .bin pickle (with torch's safe loader) and store safetensors.",
)
@click.option(
    "--new-version", is_flag=True, help="Even when the name holds another method or base."
)
@click.option("--force", is_flag=True, help="Even when its modules do not fit the base; recorded.")
@on_option
@json_option
@pass_session
def add(
    session: Session,
    paths: tuple[str, ...],
    recursive: bool,
    name_from: str | None,
    jobs: int,
    name: str | None,
    base: str | None,
    message: str,
    alias: str | None,
    include: tuple[str, ...],
    allow_pickle: bool,
    new_version: bool,
    force: bool,
    dialect: str | None,
    quantised: Quantisation | None,
    on: str | None,
) -> None:
    """Register the adapter in folder (or file) PATH as the next version of NAME; one at a URL is pulled.

    Several PATHs, or --recursive, register many at once, each named after its folder; with --on, workers check, hash and
    store them.
    """
    how: dict[str, Any] = {
        "base": base,
        "message": message,
        "alias": alias,
        "include": include,
        "allow_pickle": allow_pickle,
        "new_version": new_version,
        "force": force,
        "dialect": dialect,
        "quantised": quantised,
    }
    if not (name or name_from):
        _refuse_a_name(paths)
    if len(paths) > 1 or recursive or name_from:
        if name and name_from:
            raise click.UsageError("give either --name or --name-from")
        report_added(
            session,
            session.workspace.add_all(
                paths,
                name=name,
                name_from=name_from or "{dir}",
                recursive=recursive,
                jobs=jobs,
                on=on,
                **how,
            ),
        )
        return
    if on is not None:
        raise click.UsageError("--on is for several PATHs, or --recursive")
    (path,) = paths
    if name is None and ":" not in path:
        _refuse_nameless(path)
    added = session.workspace.add(path, name, **how)
    session.out.data(added.to_json(), added_line(added), fit=True)
    if added.skipped:
        session.out.say(f"left out: {', '.join(added.skipped)} (take in with --include GLOB)")
    if added.version.base.status == "unverified":
        session.out.say(f"base unverified: adaptkit base verify {added.version.ref} --base DIR")


@click.command()
@REF
@click.option(
    "--recipe",
    is_flag=True,
    help="Only what made it: a file that `adaptkit compose` runs, or the line that trained it.",
)
@json_option
@pass_session
def show(session: Session, ref: str, recipe: bool) -> None:
    """Show everything known of one version.

    REF may be in a place (REMOTE:NAME, a URL) or a folder or file: nothing is fetched or registered.
    """
    shown = session.workspace.show(ref)
    training = shown.manifest.facts.get("training")
    if recipe and training is not None and not shown.manifest.recipe:
        from adaptkit.training.settings.config import command

        session.out.data(training.get("config"), lambda: command(training.get("config") or {}))
        return
    if recipe:
        from adaptkit.merge.recipe_file import document

        if not shown.manifest.recipe:
            raise AdaptkitError(
                f"there is no recipe of {shown.version.ref}",
                why=f"it was {shown.version.origin}, and what made it is not recorded",
                fix=f"adaptkit show {ref} shows what is known of it",
            )
        value = document(shown.manifest.recipe)
        session.out.data(value, dumps(value, indent=2, ensure_ascii=False))
        return
    session.out.data(shown.to_json(), lambda: described(shown), fit=True)


@click.command()
@REF
@click.option(
    "--for",
    "server",
    type=click.Choice(sorted(SERVERS)),
    help="Print what this server wants instead of the folder.",
)
@json_option
@pass_session
def path(session: Session, ref: str, server: str | None) -> None:
    """Print a verified PEFT folder of REF, to read from only.

    With --for, the options that make a server load it: its name there is NAME-VERSION.
    """
    version, found = session.workspace.version(ref), session.workspace.path(ref)
    value = {"ref": version.ref, "digest": version.digest, "path": str(found)}
    if server is None:
        session.out.data(value, [str(found)])
        return
    line = SERVERS[server](version, found)
    session.out.data(value | {"for": server, "text": line}, [line])


@click.command()
@REF
@click.option("-m", "--message", help="Replace the message.")
@click.option("--tag", "tags", multiple=True, help="Add a tag; may be repeated.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="K=V",
    help="Record a measured figure; may be repeated.",
)
@click.option("--remove-tag", "without_tags", multiple=True, metavar="TAG", help="Take a tag away.")
@click.option(
    "--remove-metric",
    "without_metrics",
    multiple=True,
    metavar="K",
    help="Take a figure away.",
)
@click.option("--describe", metavar="TEXT", help="Say what the adapter is, all its versions.")
@json_option
@pass_session
def note(
    session: Session,
    ref: str,
    message: str | None,
    tags: tuple[str, ...],
    metrics: tuple[str, ...],
    without_tags: tuple[str, ...],
    without_metrics: tuple[str, ...],
    describe: str | None,
) -> None:
    """Write down what was learned of a version later."""
    figures = dict(_metric(text) for text in metrics)
    version = session.workspace.note(
        ref,
        message=message,
        tags=tags,
        metrics=figures,
        description=describe,
        without_tags=without_tags,
        without_metrics=without_metrics,
    )
    session.out.data(version.to_json(), f"noted on {version.ref}")


@click.command()
@click.argument("refs", metavar="REF...", nargs=-1, required=True, shell_complete=complete_ref)
@click.option("--all", "whole", is_flag=True, help="Every version of the adapters named.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@json_option
@pass_session
def rm(session: Session, refs: tuple[str, ...], whole: bool, yes: bool) -> None:
    """Move versions, or with --all whole adapters, to the trash; their numbers are never used again."""
    found = session.workspace.to_remove(refs, whole=whole)
    if not yes:
        confirm(f"move {_several(found)} to the trash?")
    if len(found) == 1:
        removed = session.workspace.remove(found[0].ref)
        session.out.done(
            {"removed": [removed.to_json()], "failures": []},
            f"{removed.ref} is in the trash: adaptkit restore {removed.ref}",
        )
        return
    report_removed(session, session.workspace.remove_all([version.ref for version in found]))


@click.command()
@click.argument("ref", required=False)
@table_options(*_TRASH)
@json_option
@pass_session
def restore(session: Session, ref: str | None) -> None:
    """Take a version out of the trash; without REF, list what is there."""
    if ref is None:
        trash = session.workspace.trash()
        session.out.table(
            [v.to_json() for v in trash],
            _TRASH,
            [(v.ref, v.digest[7:19], v.message) for v in trash],
            "the trash is empty",
        )
        return
    version = session.workspace.restore(ref)
    session.out.data(version.to_json(), f"restored {version.ref}")


def _refuse_a_name(paths: Sequence[str]) -> None:
    """Of one folder beside what is none, say where a name goes."""
    there = [path for path in paths if Path(path).exists()]
    if len(paths) == 2 and len(there) == 1:
        (other,) = set(paths) - set(there)
        if "/" not in other and ":" not in other:
            raise click.UsageError(
                f"'{other}' is no path, and a name goes behind --name: "
                f"adaptkit add {quote(there[0])} --name {quote(other)}"
            )


def _refuse_nameless(path: str) -> None:
    """Ask for the name that one folder or file lacks, with one that is like its own."""
    from adaptkit.refs import as_name

    if not Path(path).exists():
        raise BadAdapter(
            f"no adapter at {path}",
            why="the path does not exist",
            fix="check the path for a typo",
        )
    like = as_name(Path(path).stem if Path(path).is_file() else Path(path).absolute().name)
    raise click.UsageError(
        "Missing option '--name': neither a folder nor a file says what it is called.\n"
        f"  for example: adaptkit add {quote(path)} --name {quote(like)}"
    )


def _several(found: Sequence[Version]) -> str:
    """Versions in a question: all of a few, the first of many with their number."""
    shown = [f"{version.ref} ({version.digest[7:19]})" for version in found[:_SHOWN]]
    more = len(found) - len(shown)
    return ", ".join([*shown, *([f"and {more:,} more"] if more else [])])


def _metric(text: str) -> tuple[str, float]:
    key, _, value = text.partition("=")
    try:
        return key, float(value)
    except ValueError:
        raise click.BadParameter(
            f"'{text}' is not K=V with a number, such as accuracy=0.93", param_hint="--metric"
        ) from None
