"""What is offered for an argument or option, by the name that it has in every command.

It must be quick (150 ms with Python's start) and must never print, so names are read with sqlite3
alone, and what cannot be read is not offered.
"""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import click

FOLDER = ".adaptkit"
DTYPES = ("bfloat16", "float16", "float32", "float64")
SPACES = ("core", "dense", "factors", "knots")


def home_of(context: click.Context, environment: Mapping[str, str] = os.environ) -> Path:
    """The home in force, as `adaptkit.workspace.context.home.Home.find` finds it, without importing it."""
    given = context.find_root().params.get("home")
    if given is None:
        given = environment.get("ADAPTKIT_HOME")
    if given:
        return Path(given).expanduser().absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    from platformdirs import user_data_path

    return user_data_path("adaptkit", appauthor=False)


def refs(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """Names; behind an `@` aliases and versions; remotes; behind a colon what is there; files."""
    if incomplete.startswith((".", "/", "~")):
        return [CompletionItem(incomplete, type="file")]
    home = home_of(context)
    remote, colon, name = incomplete.partition(":")
    if colon:
        return [f"{remote}:{one}" for one in _in_remote(home, remote) if one.startswith(name)]
    if "@" in incomplete:
        found = _glance(home, "aliases") + _glance(home, "versions")
        return [one for one in found if one.startswith(incomplete)]
    return [one for one in _glance(home, "names") if one.startswith(incomplete)]


def refs_or_remotes(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """References here, and `REMOTE:`."""
    found = [f"{one}:" for one in _remotes(home_of(context)) if one.startswith(incomplete)]
    return refs(context, incomplete) + (found if ":" not in incomplete else [])


def remotes(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The names of remotes."""
    return [one for one in _remotes(home_of(context)) if one.startswith(incomplete)]


def strategies(_context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The merge strategies."""
    from adaptkit.plugin.manager import Plugins

    names = Plugins.from_environment().names("strategies")
    return [one for one in names if one.startswith(incomplete)]


def params(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """`NAME=` for each parameter of the strategy that stands on the line already."""
    from dataclasses import fields

    from adaptkit.plugin.manager import Plugins

    strategy = Plugins.from_environment().strategy(context.params.get("strategy") or "linear")
    return [f"{f.name}=" for f in fields(strategy.params) if f.name.startswith(incomplete)]


def methods(_context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The adapter methods."""
    from adaptkit.plugin.manager import Plugins

    names = Plugins.from_environment().names("methods")
    return [one for one in names if one.startswith(incomplete)]


def files(_context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """Files, as the shell itself completes them."""
    return [CompletionItem(incomplete, type="file")]


def aliases(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The aliases of the NAME on the line, or of every name."""
    name = str(context.params.get("name") or "").partition("@")[0]
    found = [one.partition("@") for one in _glance(home_of(context), "aliases")]
    known = sorted({alias for owner, _, alias in found if owner == name or not name})
    return [one for one in known if one.startswith(incomplete)]


def tags(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """Tags in use."""
    return [one for one in _glance(home_of(context), "tags") if one.startswith(incomplete)]


def trash(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """Versions in the trash."""
    return [one for one in _glance(home_of(context), "trash") if one.startswith(incomplete)]


def locked(_context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """Names in the nearest adaptkit.toml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "adaptkit.toml").is_file():
            table = _toml(folder / "adaptkit.toml").get("adapters")
            names = table if isinstance(table, dict) else {}
            return [one for one in sorted(names) if one.startswith(incomplete)]
    return []


def _among(known: Iterable[str]) -> Callable[[click.Context, str], list[str | CompletionItem]]:
    return lambda _, incomplete: [one for one in known if one.startswith(incomplete)]


# (command, parameter), or a parameter that means one thing everywhere, to what is offered.
COMPLETERS: Mapping[
    str | tuple[str, str], Callable[[click.Context, str], list[str | CompletionItem]]
] = {
    "ref": refs,
    "refs": refs,
    "sources": refs,
    ("show", "ref"): refs_or_remotes,
    ("card", "to"): remotes,
    ("pull", "source"): refs_or_remotes,
    ("mirror", "source"): refs_or_remotes,
    ("mirror", "target"): refs_or_remotes,
    ("push", "to"): remotes,
    ("remove", "name"): remotes,
    ("rm", "name"): remotes,
    ("rename", "name"): remotes,
    ("set-url", "name"): remotes,
    ("show", "name"): remotes,
    ("check", "name"): remotes,
    ("restore", "ref"): trash,
    ("add", "paths"): files,
    ("strategies", "name"): strategies,
    ("methods", "name"): methods,
    ("lock", "update"): locked,
    ("log", "name"): refs_or_remotes,
    ("alias", "name"): refs,
    ("rollback", "name"): refs,
    "old": refs,
    "alias_": aliases,
    "alias": aliases,
    "strategy": strategies,
    "params": params,
    "space": _among(SPACES),
    "dtype": _among(DTYPES),
    "method": methods,
    "tag": tags,
    "tags": tags,
    "base": files,
    "folder": files,
    "tuned": files,
    "missing": _among(("skip", "zero")),
    "keep": _among(("cumulative", "fro", "ratio")),
    "extras": _among(("average", "drop", "from=")),
}


def complete(
    command: str, context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem] | None:
    """What is offered for a parameter; None where click's own completion stands."""
    found = COMPLETERS.get((command, str(parameter.name)), COMPLETERS.get(str(parameter.name)))
    if found is None:
        return None
    try:
        offered = found(context, incomplete)
    except Exception:  # noqa: BLE001  (a completion must never print)
        return []
    items = [one if isinstance(one, CompletionItem) else CompletionItem(one) for one in offered]
    return [item for item in items if item.type != "plain" or item.value.isprintable()]


def _glance(home: Path, what: str) -> list[str]:
    from adaptkit_registry.glance import glance

    database = home / "registry.db"
    return glance(database, what) if database.is_file() else []


def _toml(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}


def _remotes(home: Path) -> dict[str, str]:
    table = _toml(home / "config.toml").get("remotes")
    return {str(k): str(v) for k, v in table.items()} if isinstance(table, dict) else {}


def _in_remote(home: Path, remote: str) -> list[str]:
    """The adapters of a remote that are known without asking it, and those in a folder."""
    url = _remotes(home).get(remote, "").rstrip("/")
    if not url:
        return []
    known = {
        place.removeprefix(f"{url}/")
        for place in _glance(home, "places")
        if place.startswith(f"{url}/")
    }
    if url.startswith("file://"):
        with suppress(ValueError):  # it has a host that is none
            root = Path(unquote(urlsplit(url).path))
            known |= {one.parent.name for one in root.glob("*/v1")} if root.is_dir() else set()
    return sorted(known)
