"""What is here and whether it works: the workspace at a glance, and the checks of `doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, distribution, install_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context

NEWEST = 5
_LITTLE = 1 << 30  # bytes of disk


@dataclass(frozen=True, slots=True)
class Status:
    """A workspace at a glance; `next_steps` are commands with what each is for."""

    home: str
    exists: bool
    adapters: int
    versions: int
    unverified: int
    remotes: tuple[str, ...]
    newest: tuple[Version, ...]
    next_steps: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        steps = [{"command": command, "why": why} for command, why in self.next_steps]
        return asdict(self) | {
            "remotes": list(self.remotes),
            "newest": [version.to_json() for version in self.newest],
            "next_steps": steps,
        }


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: `ok`, `missing` (works without) or `wrong`, and what to type."""

    name: str
    state: str
    detail: str
    fix: str = ""


def status(context: Context) -> Status:
    """Count what is here, and say what to do next; nothing is made by looking."""
    exists = bool(context.config.registry_url) or context.home.database.is_file()
    latest = context.registry.latest_versions() if exists else []
    every = context.registry.versions() if exists else []
    newest = sorted(latest, key=lambda version: version.created, reverse=True)[:NEWEST]
    unverified = [version for version in latest if version.base.status == "unverified"]
    remotes = tuple(sorted(context.config.remotes))
    return Status(
        str(context.home.path),
        exists,
        len(latest),
        len(every),
        len(unverified),
        remotes,
        tuple(newest),
        tuple(_next_steps(exists, newest, unverified, remotes)),
    )


def _next_steps(
    exists: bool, newest: list[Version], unverified: list[Version], remotes: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    if not exists:
        yield "adaptkit init", "make a workspace in this folder"
        yield "adaptkit demo fleet", "write small trained adapters to try things with"
        return
    if not newest:
        yield "adaptkit add DIR --name NAME", "register an adapter"
        yield "adaptkit demo fleet", "write small trained adapters to try things with"
        return
    if unverified:
        ref = unverified[0].ref
        yield f"adaptkit base verify {ref} --base DIR", "prove which base it was made for"
    for one, other in combinations(newest, 2):
        if one.digest != other.digest and one.base == other.base:
            yield f"adaptkit merge {one.name} {other.name} --name NAME", "combine two into one"
            break
    if remotes:
        yield f"adaptkit push {newest[0].name} {remotes[0]}", "share the newest"
    else:
        yield "adaptkit remote add NAME URL", "name a place to share adapters"


def doctor(context: Context) -> tuple[Check, ...]:
    """Look at everything that adaptkit needs here: installation, home, disk, registry, plugins."""
    return (
        Check("adaptkit", "ok", " ".join(distribution())),
        Check("python", "ok", platform.python_version()),
        *_extras(),
        *_home(context),
        *_plugins(context),
    )


def _home(context: Context) -> Iterator[Check]:
    home = context.home.path
    if not context.home.database.is_file() and not os.environ.get("ADAPTKIT_REGISTRY_URL"):
        yield Check("home", "missing", f"{home} holds no registry", "adaptkit init")
        return
    writable = os.access(home, os.W_OK)
    fix = "" if writable else f"make {home} writable, or choose another with --home"
    yield Check("home", "ok" if writable else "wrong", str(home), fix)
    free = shutil.disk_usage(home if home.is_dir() else home.parent).free
    yield Check(
        "disk",
        "ok" if free > _LITTLE else "wrong",
        f"{free / 1e9:.1f} GB free",
        "" if free > _LITTLE else "adaptkit gc",
    )
    try:
        count = len(context.registry.names())
        places = len(context.config.remotes)
    except AdaptkitError as error:
        yield Check("registry", "wrong", error.summary, error.fix)
        return
    yield Check("registry", "ok", f"adapters: {count}, remotes: {places}")


def _plugins(context: Context) -> Iterator[Check]:
    records = context.plugins.records()
    broken = [r for r in records if r.status == "failed" or (r.status == "loaded" and r.reason)]
    if not broken:
        yield Check("plugins", "ok", f"{len(records)} are well")
    for record in broken:
        yield Check(
            "plugins", "wrong", f"{record.plugin}: {record.reason}", "adaptkit plugins doctor"
        )


def _extras() -> Iterator[Check]:
    """The optional parts, as the installed distribution lists them, each with what it lacks."""
    for extra, wanted in sorted(_optional().items()):
        lacking = [text for name, text in sorted(wanted.items()) if not _satisfied(name, text)]
        if lacking:
            yield Check(
                f"[{extra}]", "missing", f"not installed: {', '.join(lacking)}", install_line(extra)
            )
        else:
            yield Check(f"[{extra}]", "ok", ", ".join(sorted(wanted)))


def _optional() -> Mapping[str, Mapping[str, str]]:
    """Extra → distribution → requirement; those for people who work on adaptkit itself are left out."""
    from importlib.metadata import PackageNotFoundError, metadata

    from packaging.requirements import Requirement

    name = distribution()[0]
    try:
        found = metadata(name)
    except PackageNotFoundError:  # a source tree that was never installed
        return {}
    extras = [e for e in found.get_all("Provides-Extra") or () if e not in {"all", "test", "lint"}]
    table: dict[str, dict[str, str]] = {extra: {} for extra in extras}
    for text in found.get_all("Requires-Dist") or ():
        needed = Requirement(text)
        for extra in extras:
            if (
                needed.marker is not None
                and needed.marker.evaluate({"extra": extra})
                and not needed.marker.evaluate({"extra": ""})
                and needed.name != name
            ):
                table[extra][needed.name] = f"{needed.name}{needed.specifier}"
    return {extra: wanted for extra, wanted in table.items() if wanted}


def _satisfied(name: str, requirement: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    try:
        return Requirement(requirement).specifier.contains(version(name), prereleases=True)
    except PackageNotFoundError:
        return False
