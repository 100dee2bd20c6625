"""Commands on base models, which are known by hashes and not by names."""

from __future__ import annotations

import click

from adaptkit.cli.adapters import REF
from adaptkit.cli.session import Session, json_option, pass_session


@click.group()
def base() -> None:
    """Base models: measure, compare, and verify what an adapter was made for."""


@base.command("list")
@json_option
@pass_session
def list_bases(session: Session) -> None:
    """List the bases that registered adapters are for."""
    bases = session.workspace.bases()
    rows = [(b.name or "?", b.status, str(count), " ".join(level.value[:16] + "…" for level in b.levels))
            for b, count in bases]  # fmt: skip
    session.out.table([b.to_json() | {"versions": count} for b, count in bases],
                      ("NAME", "STATUS", "VERSIONS", "LEVELS"), rows, "no bases yet")  # fmt: skip


@base.command("show")
@click.argument("base_", metavar="BASE")
@json_option
@pass_session
def show_base(session: Session, base_: str) -> None:
    """Measure a base folder, or show a known base by name or level."""
    found = session.workspace.base(base_).identity
    lines = [f"{found.name or '?'} ({found.status})"]
    lines += [f"  {level.value} ({'measured' if level.measured else 'claimed'})" for level in found.levels]
    session.out.data(found.to_json(), "\n".join(lines))


@base.command("compare")
@click.argument("one", metavar="BASE")
@click.argument("other", metavar="BASE")
@json_option
@pass_session
def compare_bases(session: Session, one: str, other: str) -> None:
    """Say whether two bases are one, and why."""
    verdict = session.workspace.compare_bases(one, other)
    data = {"sameness": verdict.sameness.value, "reason": verdict.reason, "tensors": list(verdict.tensors)}
    tensors = "".join(f"\n  differs: {name}" for name in verdict.tensors[:20])
    session.out.data(data, f"{verdict.sameness.value}: {verdict.reason}{tensors}")


@base.command("verify")
@REF
@click.option("--base", "folder", required=True, metavar="DIR", help="The base model's folder.")
@click.option("--force", is_flag=True, help="Even when it contradicts what was recorded.")
@json_option
@pass_session
def verify_base(session: Session, ref: str, folder: str, force: bool) -> None:
    """Measure the base of REF, check that REF fits it, and record it."""
    version = session.workspace.verify_base(ref, folder, force=force)
    session.out.data(version.to_json(), f"{version.ref}: base {version.base.name} ({version.base.status})")
