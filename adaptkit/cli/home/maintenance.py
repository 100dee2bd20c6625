"""Commands that check, repair, clean up and count."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from adaptkit.cli.executors import on_option
from adaptkit.cli.shell.questions import confirm
from adaptkit.cli.shell.session import Session, complete_ref, json_option, pass_session
from adaptkit.io.sizes import count_text, size_text

if TYPE_CHECKING:
    from adaptkit.store.gc import Swept
    from adaptkit.workspace.maintenance.fsck import Checked
    from adaptkit.workspace.results import Info


@click.command()
@click.argument("ref", required=False, shell_complete=complete_ref)
@click.option("--policy", metavar="FILE", help="Also demand a signature that this policy accepts.")
@click.option("--key", metavar="PUBLIC", help="Also demand a signature by this public key.")
@on_option
@json_option
@pass_session
def verify(
    session: Session, ref: str | None, policy: str | None, key: str | None, on: str | None
) -> None:
    """Hash the files of REF again, or those of everything.

    With --policy or --key, also check who signed REF; it may then be a URL or REMOTE:NAME, of which
    nothing is fetched.
    """
    if policy is not None or key is not None:
        if ref is None or (policy is not None and key is not None):
            raise click.UsageError("give one REF, and either --policy or --key")
        signed = session.workspace.verify_signature(ref, policy=policy, key=key)
        session.out.data(
            signed.to_json(),
            f"{signed.ref}  {signed.digest[:19]}…  signed by {signed.key} "
            f"({signed.fingerprint[:19]}…)",
        )
        return
    found = session.workspace.verify(ref, on=on)
    for damage in found.damaged:
        session.out.warn(damage)
    elsewhere = f", {len(found.elsewhere)} elsewhere" if found.elsewhere else ""
    bases = ", ".join(f"{count} {status}" for status, count in found.bases.items())
    lines = [
        f"{count_text(len(found.sound), 'artifact')} sound, {len(found.damaged)} damaged{elsewhere}"
    ]
    session.out.data(
        found.to_json(), lambda: [*lines, *([f"bases of versions: {bases}"] if bases else [])]
    )
    if found.damaged:
        raise click.exceptions.Exit(1)


@click.command()
@click.option(
    "--repair",
    is_flag=True,
    help="Repair what can be repaired: here from the trash or any place, places from the store.",
)
@click.option("--offline", is_flag=True, help="Ask no places what they hold.")
@click.option("--deep", is_flag=True, help="Fetch and hash every file that a place holds.")
@on_option
@json_option
@pass_session
def fsck(session: Session, repair: bool, offline: bool, deep: bool, on: str | None) -> None:
    """Check the database against the store against the places where versions were published.

    Of a place the sizes and digests are asked for that it states; --deep fetches every byte. With --on, workers hash
    the store, and what places hold.
    """
    if offline and deep:
        raise click.UsageError("--deep asks the places, --offline does not")
    found = session.workspace.fsck(repair=repair, places=not offline, deep=deep, on=on)
    data = {
        "artifacts": found.artifacts,
        "placements": found.placements,
        "sound": found.sound,
        "findings": [asdict(finding) for finding in found.findings],
    }
    session.out.data(data, lambda: _checked(found))
    if not found.sound:
        raise click.exceptions.Exit(1)


@click.command()
@click.option(
    "--grace", default="24h", show_default=True, metavar="AGE", help="Leave alone what is younger."
)
@click.option(
    "--trash",
    default="30d",
    show_default=True,
    metavar="AGE",
    help="Delete for good what was in the trash for longer.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask when --trash 0 deletes for good.")
@json_option
@pass_session
def gc(session: Session, grace: str, trash: str, dry_run: bool, yes: bool) -> None:
    """Move what no version needs to the store's trash, and empty that of what is old."""
    from adaptkit.workspace.units import parse_age

    ages = {"grace": parse_age(grace, "--grace"), "trash": parse_age(trash, "--trash")}
    if not ages["trash"] and not yes and not dry_run:
        confirm("delete everything in the trash for good, versions too?")
    done = session.workspace.gc(**ages, dry_run=dry_run)
    session.out.data(asdict(done), lambda: _swept(done))


@click.command()
@json_option
@pass_session
def info(session: Session) -> None:
    """Count what is here, and the bytes of it; quotas are set in config.toml."""
    found = session.workspace.info()
    session.out.data(found.to_json(), lambda: _info(found))


@click.group()
def registry() -> None:
    """The registry as a whole."""


@registry.command("rebuild")
@click.option(
    "--from", "source", required=True, metavar="URL|REMOTE", help="The place or remote to read."
)
@json_option
@pass_session
def rebuild(session: Session, source: str) -> None:
    """Register every version that a place or remote holds."""
    added = session.workspace.rebuild(source)
    fresh = sum(one.created for one in added)
    session.out.data(
        [one.to_json() for one in added], f"{len(added)} versions there, {fresh} new here"
    )


@registry.command("export")
@click.argument("file")
@json_option
@pass_session
def export_registry(session: Session, file: str) -> None:
    """Write the whole registry to FILE, as JSON lines; the adapters' bytes stay in the store and in places."""
    target = session.workspace.export_registry(file)
    session.out.data({"file": str(target), "bytes": target.stat().st_size}, str(target))


@registry.command("import")
@click.argument("file")
@json_option
@pass_session
def import_registry(session: Session, file: str) -> None:
    """Take in what `registry export` wrote, all of it or nothing; what is here already stays as it is."""
    new = session.workspace.import_registry(file)
    counts = ", ".join(f"{count} {kind}" for kind, count in new.items())
    session.out.data(new, f"new here: {counts}" if new else "nothing new")


def _checked(found: Checked) -> list[str]:
    lines = [
        f"{finding.kind:<13} {finding.what}  {finding.why}"
        + (f"  → {finding.repaired}" if finding.repaired else "")
        for finding in found.findings
    ]
    harm = sum(finding.harmful for finding in found.findings)
    repaired = sum(bool(finding.repaired) for finding in found.findings)
    end = f"{harm} not as it should be" if harm else "all sound"
    if found.findings and not harm:
        end = f"nothing is damaged, {len(found.findings)} to know of"
    lines.append(
        f"{count_text(found.artifacts, 'artifact')}, {count_text(found.placements, 'placement')}: {end}"
        + (f", {repaired} repaired" if repaired else "")
    )
    if any(
        finding.harmful and finding.kind in {"missing", "corrupt", "dangling", "damaged"}
        for finding in found.findings
    ):
        lines.append(
            "adaptkit fsck --repair fetches what a place still has, and sends it what is damaged"
        )
    return lines


def _swept(done: Swept) -> list[str]:
    would = "would be " if done.dry_run else ""
    lines = [f"{ref} {would}forgotten" for ref in done.purged]
    lines.append(
        f"{count_text(len(done.swept), 'artifact')} {would}moved to the trash ({size_text(done.swept_bytes)}), "
        f"{done.freed:,} {would}deleted for good ({size_text(done.freed_bytes)})"
    )
    if done.returned:
        lines.append(f"{len(done.returned)} back from the trash: they are needed")
    return lines


def _info(found: Info) -> list[str]:
    lines = [f"home      {found.home}", f"registry  {found.registry}"]
    lines += [f"  {kind.replace('_', ' '):<12} {count:,}" for kind, count in found.counts.items()]
    lines.append("store")
    lines += [f"  {part:<12} {size_text(size)}" for part, size in found.store.items()]
    lines.append("bytes of the versions, what several share once")
    lines += [
        f"  {(team and f'{team}/…') or 'no team':<12} {size_text(size)}"
        for team, size in found.teams.items()
    ]
    if found.quotas:
        lines.append("quotas")
        lines += [
            f"  {name:<12} {size_text(used)} of {size_text(limit)}"
            + ("  exceeded" if used > limit else "")
            for name, (used, limit) in found.quotas.items()
        ]
    return lines
