"""What is offered for an argument or option, by the name that it has in every command.

It must be quick (150 ms with Python's start) and must never print, so names are read with sqlite3
alone, and what cannot be read is not offered.
"""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import click

    Completer = Callable[[click.Context, str], list[str | CompletionItem]]

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


def names(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The names there are, for a next version of one."""
    return [one for one in _glance(home_of(context), "names") if one.startswith(incomplete)]


def versions(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The numbers and aliases of the NAME on the line."""
    name = f"{str(context.params.get('name') or '').partition('@')[0]}@"
    home = home_of(context)
    found = _glance(home, "versions") + _glance(home, "aliases")
    known = [one.removeprefix(name) for one in found if one.startswith(name)]
    return [one for one in known if one.startswith(incomplete)]


def bases_or_files(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """What bases are called here, and folders."""
    found = [one for one in _glance(home_of(context), "bases") if one.startswith(incomplete)]
    return [*found, *files(context, incomplete)] if found else files(context, incomplete)


def settings(_context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The keys of config.toml."""
    from adaptkit.workspace.context.config_file import known_keys

    keys = (key.removesuffix("NAME") for key in known_keys())
    return [key for key in keys if key.startswith(incomplete)]


def _plugged(kind: str) -> Completer:
    """The names of one kind of what plugins offer."""

    def offered(_context: click.Context, incomplete: str) -> list[str | CompletionItem]:
        from adaptkit.plugin.manager import Plugins

        found = Plugins.from_environment().names(kind)
        return [one for one in found if one.startswith(incomplete)]

    return offered


def dialects(_context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The tools whose files are read and written."""
    from adaptkit.plugin.manager import Plugins

    found = {name for method in Plugins.from_environment().methods() for name in method.dialects}
    return [one for one in sorted(found) if one.startswith(incomplete)]


def layouts(_context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The programs that files are laid out for."""
    from adaptkit.serving.engines.layouts import LAYOUTS

    return [one for one in sorted(LAYOUTS) if one.startswith(incomplete)]


def preflights(_context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """The engines whose rules are known."""
    from adaptkit.serving.engines.rules import RULES

    return [one for one in sorted(RULES) if one.startswith(incomplete)]


def executors(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """`local`, and the beginnings of the addresses of clusters."""
    found = _plugged("executors")(context, incomplete)
    return [one if one == "local" else f"{one}://" for one in found if isinstance(one, str)]


def params(context: click.Context, incomplete: str) -> list[str | CompletionItem]:
    """`NAME=` for each parameter of the strategy that stands on the line already."""
    from dataclasses import fields

    from adaptkit.plugin.manager import Plugins

    chosen = context.params.get("strategy") or next(
        iter(context.params.get("strategies") or ()), ""
    )
    strategy = Plugins.from_environment().strategy(chosen or "linear")
    return [f"{f.name}=" for f in fields(strategy.params) if f.name.startswith(incomplete)]


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


def _among(known: Iterable[str]) -> Completer:
    return lambda _, incomplete: [one for one in known if one.startswith(incomplete)]


_FILE = re.compile(r"\b(?:FILE|DIR|PATH|PRIVATE|PUBLIC)\b")
_FILES_TOO = frozenset({"key"})  # of `sign` and `verify`; that of `config` is a setting

# (command, parameter), or a parameter that means one thing everywhere, to what is offered.
COMPLETERS: Mapping[str | tuple[str, str], Completer] = {
    "ref": refs,
    "refs": refs,
    "sources": refs,
    ("show", "ref"): refs_or_remotes,
    ("card", "to"): remotes,
    ("pull", "source"): refs_or_remotes,
    ("mirror", "source"): refs_or_remotes,
    ("mirror", "target"): refs_or_remotes,
    ("push", "to"): remotes,
    ("remote remove", "name"): remotes,
    ("remote rm", "name"): remotes,
    ("remote rename", "name"): remotes,
    ("remote set-url", "name"): remotes,
    ("remote show", "name"): remotes,
    ("remote check", "name"): remotes,
    ("restore", "ref"): trash,
    ("add", "paths"): files,
    ("strategies", "name"): _plugged("strategies"),
    ("methods", "name"): _plugged("methods"),
    ("list", "words"): refs_or_remotes,
    ("registry rebuild", "source"): remotes,
    ("alias", "version"): versions,
    ("rollback", "to"): versions,
    ("distil", "data"): refs,
    ("remote add", "name"): _among(()),
    ("base add", "name"): bases_or_files,
    ("base alias", "name"): bases_or_files,
    "name": names,
    "file": files,
    ("preflight", "engine"): preflights,
    ("serve", "engine"): _plugged("engines"),
    ("export", "engine"): layouts,
    ("lock", "update"): locked,
    ("log", "name"): refs_or_remotes,
    ("alias", "name"): refs,
    ("rollback", "name"): refs,
    "old": refs,
    "alias_": aliases,
    "alias": aliases,
    "strategy": _plugged("strategies"),
    "strategies": _plugged("strategies"),
    "params": params,
    "space": _among(SPACES),
    "spaces": _among(SPACES),
    "dtype": _among(DTYPES),
    "method": _plugged("methods"),
    "trainer": _plugged("trainers"),
    "on": executors,
    "key": settings,
    "tag": tags,
    "tags": tags,
    "without_tags": tags,
    "base": bases_or_files,
    "base_": bases_or_files,
    "one": bases_or_files,
    "other": bases_or_files,
    "derived_from": bases_or_files,
    "baseline": refs,
    "orthogonal_to": refs,
    "canary": refs,
    "compare": refs,
    "preload": refs,
    "weights": refs,
    "prompts": refs,
    "unlabelled": refs,
    "dialect": dialects,
    "device": _among(("cpu", "cuda", "mps")),
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
    name = str(parameter.name)
    group = context.parent if context.parent and context.parent.parent else None
    path = f"{group.info_name} {command}" if group else command
    found = COMPLETERS.get((path, name), COMPLETERS.get(name))
    if _FILE.search(parameter.metavar or "") and (found is None or name in _FILES_TOO):
        found = files
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
