"""Commands on base models, which are known by hashes and not by names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptkit.cli.shell.session import (
    Session,
    complete_ref,
    json_option,
    pass_session,
    table_options,
)

if TYPE_CHECKING:
    from adaptkit.types import BaseIdentity

_BASES = ("CALLED", "NAME", "STATUS", "VERSIONS", "LEVELS")


@click.group()
def base() -> None:
    """Base models: measure, compare, and verify what an adapter was made for."""


@base.command("add")
@click.argument("base_", metavar="BASE")
@click.option("--name", help="What to call it.  [default: the last part of its own name]")
@click.option(
    "--derived-from", metavar="BASE", help="The base that this quantised copy was made from."
)
@click.option(
    "--claim",
    is_flag=True,
    help="Believe the file names in the Hub cache instead of reading the weights.",
)
@click.option("--move", is_flag=True, help="Even when the name means another base now.")
@json_option
@pass_session
def add_base(
    session: Session,
    base_: str,
    name: str | None,
    derived_from: str | None,
    claim: bool,
    move: bool,
) -> None:
    """Know a base by a name: a folder (measured), or hf://OWNER/NAME (by its metadata, nothing downloaded)."""
    called, found = session.workspace.add_base(
        base_, name=name, derived_from=derived_from, claim=claim, move=move
    )
    session.out.data(
        {"called": called} | found.to_json(), f"{called}  {_described(found)}", fit=True
    )


@base.command("alias")
@click.argument("name")
@click.argument("base_", metavar="[BASE]", required=False)
@click.option("--move", is_flag=True, help="Even when the name means another base now.")
@json_option
@pass_session
def alias_base(session: Session, name: str, base_: str | None, move: bool) -> None:
    """Call BASE by a further NAME; without BASE, by this one no more."""
    session.workspace.alias_base(name, base_, move=move)
    session.out.done(
        {"called": name, "base": base_},
        [f"{name} is {base_}" if base_ else f"{name} is no base any more"],
    )


@base.command("list")
@table_options(*_BASES)
@json_option
@pass_session
def list_bases(session: Session) -> None:
    """List the bases that adapters are for, and those that have a name here."""
    bases, names = session.workspace.bases(), session.workspace.base_names()
    called = {b: [n for n, known in names.items() if known == b] for b, _ in bases}
    rows = [
        (
            ", ".join(called[b]) or "-",
            b.name or "?",
            b.status,
            str(count),
            " ".join(level.value[:16] + "…" for level in b.levels),
        )
        for b, count in bases
    ]
    session.out.table(
        [b.to_json() | {"called": called[b], "versions": count} for b, count in bases],
        _BASES,
        rows,
        "no bases yet",
        drop=("LEVELS",),
    )


@base.command("show")
@click.argument("base_", metavar="BASE")
@click.option(
    "--claim",
    is_flag=True,
    help="Believe the file names in the Hub cache instead of reading the weights.",
)
@json_option
@pass_session
def show_base(session: Session, base_: str, claim: bool) -> None:
    """Measure a base folder, or show a base by name, level or hf:// URL."""
    found = session.workspace.base(base_, claim=claim).identity
    pair = session.workspace.measured_by(found)
    lines = [f"{found.name or '?'} ({found.status})"]
    for level in found.levels:
        how = "measured" if level.measured else "claimed"
        if pair and level.kind == "tm1":
            who = f" by {pair.author}" if pair.author else ""
            how = f"{how}, first measured{who} on {pair.when[:10]}"
        lines.append(f"  {level.value} ({how})")
    if found.quantised:
        quantised = found.quantised
        lines.append(
            f"  quantised: {quantised.method}, {quantised.bits} bits{f', {quantised.dtype}' if quantised.dtype else ''}"
        )
    if found.derived_from:
        lines.append(f"  made from {found.derived_from}")
    session.out.data(
        found.to_json() | {"measured_by": pair.author if pair else None}, lines, fit=True
    )


def _described(found: BaseIdentity) -> str:
    return f"{found.name or '?'} ({found.status})  " + " ".join(
        f"{level.value[:16]}…" for level in found.levels
    )


@base.command("check")
@click.argument("folder", metavar="DIR")
@json_option
@pass_session
def check_base(session: Session, folder: str) -> None:
    """Say what the class of the model in DIR says of it: layers, tied weights, head, and what adapters can do there."""
    found = session.workspace.check_base(folder)
    lines = [f"{found.path}  {found.model_class or 'a class that is not known'}"]
    lines += [f"  {part}: {cls}" for part, cls in found.components.items()]
    lines += [f"  {remark}" for remark in found.remarks]
    if found.unknown:
        lines.append(
            f"  not known: {found.unknown}; only the checkpoint's own names and shapes are"
        )
    lines += [
        f"  {found.parameters} parameters in {found.tensors} tensors"
        + (f", for {found.task}" if found.task else ""),
        "  layers: "
        + (", ".join(f"{n} {kind}" for kind, n in found.layers.items()) or "none known"),
        "  tied: " + ("; ".join(" = ".join(group) for group in found.ties) or "nothing"),
    ]
    if found.embedding or found.head:
        lines.append(f"  embedding {found.embedding or '-'}, head {found.head or '-'}")
    for what, names in (("missing", found.missing), ("not loaded", found.unused)):
        if names:
            lines.append(f"  {what}: {', '.join(names[:4])}" + (" …" if len(names) > 4 else ""))
    lines.append(
        f"  adapters cannot be baked in: quantised ({found.quantised})"
        if found.quantised
        else "  adapters can be added, merged, baked and extracted"
    )
    session.out.data(found.to_json(), "\n".join(lines), fit=True)


@base.command("compare")
@click.argument("one", metavar="BASE")
@click.argument("other", metavar="BASE")
@click.option(
    "--exit-code", is_flag=True, help="Exit with 1 unless they are the same, or probably so."
)
@json_option
@pass_session
def compare_bases(session: Session, one: str, other: str, exit_code: bool) -> None:
    """Show whether two bases are one, and why."""
    verdict = session.workspace.compare_bases(one, other)
    data = {
        "sameness": verdict.sameness.value,
        "reason": verdict.reason,
        "tensors": list(verdict.tensors),
    }
    tensors = [f"  differs: {name}" for name in verdict.tensors[:20]]
    session.out.data(data, [f"{verdict.sameness.value}: {verdict.reason}", *tensors], fit=True)
    if exit_code and verdict.sameness.value not in {"same", "probably-same"}:
        raise click.exceptions.Exit(1)


@base.command("verify")
@click.argument("ref", metavar="REF|BASE", shell_complete=complete_ref)
@click.option("--base", "folder", required=True, metavar="DIR", help="The base model's folder.")
@click.option("--force", is_flag=True, help="Even when it contradicts what was recorded.")
@json_option
@pass_session
def verify_base(session: Session, ref: str, folder: str, force: bool) -> None:
    """Measure what was claimed of a base: that of the version REF (and that REF fits it), or a base by its name."""
    found = session.workspace.verify_base(ref, folder, force=force)
    session.out.data(found.to_json(), f"{ref}: base {found.name} ({found.status})")
