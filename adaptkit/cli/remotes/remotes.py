"""Commands on remotes: names for places where adapters are shared, and copies between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.adapters.aliases import is_adapter
from adaptkit.cli.output import times
from adaptkit.cli.shell.session import Session, json_option, pass_session, table_options

if TYPE_CHECKING:
    from adaptkit.remotes.mirrored import Copied
    from adaptkit.workspace.remotes.push import Older
    from adaptkit.workspace.results import Pushed

_REMOTES = ("NAME", "URL")
_THERE = ("VERSION", "METHOD", "RANK", "ALIASES", "CREATED", "MESSAGE")


@click.group()
def remote() -> None:
    """Names for places where adapters are shared."""


@remote.command("add")
@click.argument("name")
@click.argument("url")
@json_option
@pass_session
def add_remote(session: Session, name: str, url: str) -> None:
    """Call the root of places at URL by NAME."""
    session.workspace.add_remote(name, url)
    session.out.done({"name": name, "url": url}, [f"{name} is {url}: adaptkit push REF {name}"])


@remote.command("set-url")
@click.argument("name")
@click.argument("url")
@json_option
@pass_session
def set_remote_url(session: Session, name: str, url: str) -> None:
    """Give the remote NAME another URL."""
    old = session.workspace.set_remote_url(name, url)
    session.out.done({"name": name, "url": url, "old": old}, [f"{name} is {url} now; it was {old}"])


@remote.command("rename")
@click.argument("name")
@click.argument("new", metavar="NEW")
@json_option
@pass_session
def rename_remote(session: Session, name: str, new: str) -> None:
    """Call the remote NAME something else."""
    url = session.workspace.rename_remote(name, new)
    session.out.done(
        {"name": new, "url": url, "old": name}, [f"{new} is {url}; {name} is forgotten"]
    )


@remote.command("list")
@table_options(*_REMOTES)
@json_option
@pass_session
def list_remotes(session: Session) -> None:
    """List the named remotes."""
    remotes = session.workspace.remotes()
    session.out.table(
        [{"name": n, "url": u} for n, u in sorted(remotes.items())],
        _REMOTES,
        sorted(remotes.items()),
        "no remotes yet: adaptkit remote add NAME URL",
    )


@remote.command("show")
@click.argument("name")
@table_options(*_THERE)
@json_option
@pass_session
def show_remote(session: Session, name: str) -> None:
    """Show where the remote NAME is, and the latest version of each adapter there."""
    url = session.workspace.places.url_of(name)
    found = session.workspace.show_remote(name)
    if not session.out.as_json:
        session.out.say([f"{name} is {url}"])
    session.out.table(
        {"name": name, "url": url, "adapters": [v.to_json() for v in found]},
        _THERE,
        [
            (
                v.ref,
                v.method,
                str(v.rank or ""),
                " ".join(v.aliases),
                times.cell(v.created),
                v.message,
            )
            for v in found
        ],
        "nothing is there, or this kind of place cannot be listed",
        drop=("METHOD", "RANK", "CREATED", "MESSAGE", "ALIASES"),
    )


@remote.command("rm")
@click.argument("name")
@json_option
@pass_session
def remove_remote(session: Session, name: str) -> None:
    """Forget a remote; what is there stays there."""
    session.workspace.set_remote(name, None)
    session.out.done({"name": name, "url": None}, [f"{name} is forgotten"])


# what it was called before every command that takes something away was called rm
remote.add_command(
    click.Command(
        "remove",
        params=remove_remote.params,
        callback=remove_remote.callback,
        help=remove_remote.help,
        hidden=True,
    )
)


@remote.command("check")
@click.argument("name", metavar="REMOTE[:NAME]|URL")
@json_option
@pass_session
def check_remote(session: Session, name: str) -> None:
    """Try what a remote promises: write a probe there, read it back, compare, and delete it."""
    probed = session.workspace.check_remote(name)
    promise = probed.promise
    lines = [
        f"{probed.url}: written, read back, deleted",
        f"  a version is only ever created  {_said(promise.create_only)}",
        f"  aliases move by compare-and-swap  {_said(promise.compare_and_swap)}",
        *([f"  {promise.note}"] if promise.note else []),
    ]
    session.out.data(probed.to_json(), lines, fit=True)
    if not (promise.create_only and promise.compare_and_swap):
        session.out.warn(
            f"{probed.url} promises less than others: docs/sharing.md says what follows from that"
        )


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--dry-run", is_flag=True, help="Send nothing: show what is missing there.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="How many adapters at once.",
)
@click.option("--create", is_flag=True, help="Make repositories that are not there (hf://).")
@click.option(
    "--private", is_flag=True, help="Make them so that only their members may read them (hf://)."
)
@json_option
@pass_session
def mirror(
    session: Session,
    source: str,
    target: str,
    *,
    dry_run: bool,
    jobs: int,
    create: bool,
    private: bool,
) -> None:
    """Copy every version of a remote, or of one adapter (REMOTE:NAME, URL), to another; no registry is asked.

    What is there already is not sent, so an interrupted mirror goes on by running it again.
    """
    from adaptkit.extend import PushOptions

    options = PushOptions(create=create, private=private)
    report = session.workspace.mirror(source, target, dry_run=dry_run, jobs=jobs, options=options)
    missing = [one for one in report.versions if not one.unchanged]
    session.out.table(
        report.to_json(),
        ("FROM", "TO", "DIGEST", "SENT"),
        [_row(one, dry_run) for one in missing],
        f"nothing to send: all {len(report.versions)} versions are there",
    )
    for text in report.aliases:
        session.out.say(text)
    for text in report.failures:
        session.out.warn(text)


def _row(one: Copied, dry_run: bool) -> tuple[str, ...]:
    sent = "-" if dry_run else f"{one.sent:,} bytes"
    return f"{one.source}@{one.number}", f"{one.target}@{one.became}", one.digest[:19], sent


def _said(holds: bool) -> str:
    return "yes" if holds else "NO"


@click.command()
@REF
@click.argument("to", metavar="URL|REMOTE...", nargs=-1, required=True)
@click.option("--create", is_flag=True, help="Make the repository when it is not there (hf://).")
@click.option(
    "--private", is_flag=True, help="Make it so that only its members may read it (hf://)."
)
@click.option(
    "--create-pr", is_flag=True, help="Only propose it: a pull request, without a number (hf://)."
)
@click.option(
    "--branch",
    metavar="NAME",
    default="",
    help="Another branch than main, made when missing (hf://).",
)
@click.option(
    "--as-latest", is_flag=True, help="Make it the latest there, even when it is older than that."
)
@click.option(
    "--yes", is_flag=True, help="Push it even when it is older; the latest stays what it is."
)
@json_option
@pass_session
def push(
    session: Session,
    ref: str,
    to: tuple[str, ...],
    create: bool,
    private: bool,
    create_pr: bool,
    branch: str,
    as_latest: bool,
    yes: bool,
) -> None:
    """Publish REF at a URL or in a named remote, or in several. NAME@ALIAS carries the alias along."""
    from adaptkit.extend import PushOptions

    options = PushOptions(create, private, create_pr, branch)
    older: Older = "as-latest" if as_latest else "keep-latest" if yes else "refuse"
    if ref in session.workspace.places.remotes and not is_adapter(session, ref):
        raise click.UsageError(
            f"'{ref}' is a remote, and REF comes first: adaptkit push {to[0]} {ref}"
        )
    if len(to) == 1:
        pushed = session.workspace.push(ref, to[0], options=options, older=older)
        session.out.data(pushed.to_json(), _receipt(pushed))
        return
    done = session.workspace.push_to_all(ref, to, options=options, older=older)
    session.out.data([one.to_json() for one in done], list(map(_receipt, done)))


@click.command()
@click.argument("source", metavar="URL|REMOTE:NAME[@V]")
@click.option("--name", help="The name it gets here.  [default: the one it has there]")
@click.option("--alias", metavar="ALIAS", help="Point this alias at what was pulled.")
@click.option(
    "--new-version", is_flag=True, help="Even when the name holds another method or base."
)
@click.option(
    "--allow-pickle", is_flag=True, help="Read weights from a pickle that adaptkit did not make."
)
@json_option
@pass_session
def pull(
    session: Session,
    source: str,
    name: str | None,
    alias: str | None,
    new_version: bool,
    allow_pickle: bool,
) -> None:
    """Fetch an adapter, verify every byte, and register it."""
    pulled = session.workspace.pull(
        source, name=name, alias=alias, new_version=new_version, allow_pickle=allow_pickle
    )
    unchanged = "" if pulled.created else "  unchanged"
    session.out.data(
        pulled.to_json(),
        f"{pulled.version.ref}  {pulled.version.digest[:19]}…  verified{unchanged}",
    )


def _receipt(pushed: Pushed) -> str:
    receipt = pushed.receipt
    done = [f"{receipt.sent:,} bytes sent"] if not receipt.unchanged else []
    if receipt.readme_corrected:
        done.append("README.md corrected")
    if receipt.card_refreshed:
        done = [*(done or ["unchanged"]), "its model card was refreshed"]
    sent = ", ".join(done) or "unchanged, nothing sent"
    there = (
        f"{receipt.place}@{receipt.number}"
        if receipt.number
        else f"{receipt.place}  {receipt.state}: {receipt.link}"
    )
    return f"{pushed.version.ref} → {there}  {sent}"
