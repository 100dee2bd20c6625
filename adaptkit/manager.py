"""Finds plugins, loads them one at a time, keeps the catalogue and who provided what.

Notable choices:
- each entry point is loaded, registered, asked for its objects and validated alone, and only then
  published: whatever breaks (SystemExit too) leaves the others, and is kept as a record with its reason
- a name that two plugins claim belongs to neither; using it is an error that names both
- `entry_points.txt` files are read directly: importlib.metadata parses the metadata of every
  distribution on the path first, which costs more than the rest of `adaptkit --help`
- this is an object handed to `Workspace`, not a global
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from configparser import ConfigParser
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from adaptkit import hookspecs
from adaptkit.errors import NotFound, PluginError
from adaptkit.types import Objection, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import click

    from adaptkit.extend import AdapterMethod, AdapterView, MergeStrategy, StorageBackend
    from adaptkit.types import Action, Event

GROUP = hookspecs.PROJECT
KINDS: Mapping[str, str] = {
    "methods": "register_adapter_methods",
    "backends": "register_storage_backends",
    "strategies": "register_merge_strategies",
    "trainers": "register_trainers",
    "engines": "register_engines",
}


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One line of an `entry_points.txt`: the plugin's name, what to import, and the distribution's folder."""

    name: str
    value: str
    metadata: Path | None = None

    def load(self) -> Any:
        """Import the module, or the object in it, that the entry point names."""
        module, _, attribute = self.value.partition(":")
        found = import_module(module.strip())
        for part in filter(None, attribute.strip().split(".")):
            found = getattr(found, part)
        return found

    def distribution(self) -> tuple[str, str]:
        """Name and version of the distribution that brings it."""
        if self.metadata is None:
            return "", ""
        from importlib.metadata import Distribution

        metadata = Distribution.at(self.metadata).metadata
        return metadata["Name"] or "", metadata["Version"] or ""


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """What became of one plugin: `status` is loaded, failed or disabled; `reason` says why it is not loaded."""

    plugin: str
    distribution: str
    version: str
    status: str
    registered: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reason: str = ""


class Plugins:
    """The catalogue: methods, backends, strategies, trainers and engines by name, and who provided each."""

    def __init__(
        self, entry_points: Iterable[EntryPoint], *, disabled: Iterable[str] = (), strict: bool = False
    ) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._owners: dict[str, dict[str, list[tuple[str, Any]]]] = {kind: defaultdict(list) for kind in KINDS}
        self._entries: dict[str, EntryPoint] = {}
        self._status: dict[str, tuple[str, Mapping[str, Sequence[str]], str]] = {}
        off = frozenset(disabled)
        self._strict = strict
        for name, entry in _qualified(entry_points):
            self._entries[name] = entry
            if name in off or entry.name in off:
                self._status[name] = ("disabled", {}, "in ADAPTKIT_DISABLE_PLUGINS")
            else:
                self._load(name, entry)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Plugins:
        """The plugins installed here, less ADAPTKIT_DISABLE_PLUGINS; ADAPTKIT_STRICT_PLUGINS=1 raises what breaks."""
        disabled = filter(None, (name.strip() for name in environment.get("ADAPTKIT_DISABLE_PLUGINS", "").split(",")))
        return cls(installed(), disabled=disabled, strict=environment.get("ADAPTKIT_STRICT_PLUGINS") == "1")

    @property
    def disabled(self) -> tuple[str, ...]:
        """The plugins that were switched off; recorded in events."""
        return tuple(name for name, (status, _, _) in self._status.items() if status == "disabled")

    # ------------------------------------------------------------ catalogue

    def method(self, name: str) -> AdapterMethod:
        """The adapter method of that name."""
        found: AdapterMethod = self._get("methods", "method", name)
        return found

    def strategy(self, name: str) -> MergeStrategy[Any]:
        """The merge strategy of that name."""
        found: MergeStrategy[Any] = self._get("strategies", "strategy", name)
        return found

    def backend_for(self, url: str) -> type[StorageBackend]:
        """The storage backend that serves a URL's scheme."""
        found: type[StorageBackend] = self._get("backends", "storage backend", url.partition("://")[0])
        return found

    def names(self, kind: str) -> tuple[str, ...]:
        """The names in the catalogue of one of KINDS, sorted; claimed twice or not."""
        return tuple(sorted(self._owners[kind]))

    def method_for(self, view: AdapterView) -> AdapterMethod:
        """The method that recognises an adapter; a catch-all (`generic`) only when no other does."""
        found: list[tuple[str, AdapterMethod]] = []
        for name in self.names("methods"):
            plugin, method = self._owners["methods"][name][0]
            try:
                if method.recognises(view):
                    found.append((plugin, self.method(name)))
            except PluginError:
                raise
            except Exception as error:
                raise PluginError(f"the plugin '{plugin}' broke on {view.label}", why=_told(error),
                                  fix=f"ADAPTKIT_DISABLE_PLUGINS={plugin} goes on without it") from error  # fmt: skip
        specific = [pair for pair in found if not pair[1].generic] or found
        if not specific:
            raise NotFound("method for peft_type", str(view.config.get("peft_type")), self.names("methods"))
        if len(specific) > 1:
            claims = " and ".join(f"'{method.name}' of {plugin}" for plugin, method in specific)
            raise PluginError(f"two methods claim {view.label}", why=claims,
                              fix=f"ADAPTKIT_DISABLE_PLUGINS={specific[-1][0]} leaves the other")  # fmt: skip
        return specific[0][1]

    def _get(self, kind: str, called: str, name: str) -> Any:
        owners = self._owners[kind].get(name)
        if not owners:
            failed = [plugin for plugin, (status, _, _) in self._status.items() if status == "failed"]
            fix = f"the plugins {', '.join(failed)} failed to load: adaptkit plugins doctor" if failed else ""
            raise NotFound(called, name, self.names(kind), fix=fix)
        if len(owners) > 1:
            raise PluginError(f"the {called} '{name}' is claimed by {len(owners)} plugins",
                              why=" and ".join(plugin for plugin, _ in owners),
                              fix=f"ADAPTKIT_DISABLE_PLUGINS={owners[-1][0]} leaves the other")  # fmt: skip
        return owners[0][1]

    # ------------------------------------------------------------ asking

    def review(self, action: Action) -> tuple[tuple[str, Objection], ...]:
        """What every plugin has against an action; one that raises refuses it."""
        objections: list[tuple[str, Objection]] = []
        for name, hook in self._each("review"):
            try:
                answers = [list(answer or ()) for answer in hook(action=action)]
                objections += [(name, objection) for answer in answers for objection in answer]
            except Exception as error:  # noqa: BLE001  (any failure of a reviewer refuses)
                objections.append((name, Objection(f"its review broke: {_told(error)}", Severity.REFUSE)))
        return tuple(objections)

    def emit(self, event: Event) -> tuple[str, ...]:
        """Tell every plugin what happened; answers a warning for each that raised."""
        warnings = []
        for name, hook in self._each("on_event"):
            try:
                hook(event=event)
            except Exception as error:  # noqa: BLE001  (what happened has happened)
                warnings.append(f"the plugin '{name}' broke on the event '{event.verb}': {_told(error)}")
        return tuple(warnings)

    def add_commands(self, cli: click.Group) -> None:
        """Add the plugins' commands; a command that is there already is not replaced."""
        import click

        for name, hook in self._each("register_commands"):
            scratch = click.Group()
            try:
                hook(cli=scratch)
            except Exception as error:  # noqa: BLE001
                self._fail(name, f"register_commands broke: {_told(error)}")
                continue
            for command_name, command in scratch.commands.items():
                if command_name in cli.commands:
                    self._note(name, f"the command '{command_name}' exists already, so its own was left out")
                else:
                    cli.add_command(command, command_name)

    def records(self) -> tuple[PluginRecord, ...]:
        """Every plugin found, by name: what it registered, or why it did not."""
        clashes = {(kind, name): owners for kind, table in self._owners.items()
                   for name, owners in table.items() if len(owners) > 1}  # fmt: skip
        records = []
        for plugin, (status, registered, reason) in sorted(self._status.items()):
            told = [reason] if reason else []
            for (kind, name), owners in clashes.items():
                if plugin in {owner for owner, _ in owners}:
                    others = ", ".join(owner for owner, _ in owners if owner != plugin)
                    told.append(f"'{name}' ({kind}) is claimed by {others} too, so it belongs to neither")
            records.append(
                PluginRecord(plugin, *self._entries[plugin].distribution(), status, registered, "; ".join(told))
            )
        return tuple(records)

    # ------------------------------------------------------------ loading

    def _load(self, name: str, entry: EntryPoint) -> None:
        try:
            plugin = entry.load()
            self._manager.register(plugin, name)
            self._manager.check_pending()
            offered = self._collect(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: an `exit()` in a plugin must not end the program
            self._fail(name, _told(error))
            if self._strict:
                raise
            return
        for kind, objects in offered.items():
            for key, value in objects:
                self._owners[kind][key].append((name, value))
        registered = {kind: tuple(dict.fromkeys(key for key, _ in objects)) for kind, objects in offered.items()}
        if self._implements(name, "register_commands"):
            registered["commands"] = ("…",)
        for hook in ("review", "on_event"):
            if self._implements(name, hook):
                registered["hooks"] = (*registered.get("hooks", ()), hook)
        self._status[name] = ("loaded", registered, "")

    def _collect(self, name: str) -> dict[str, list[tuple[str, Any]]]:
        offered: dict[str, list[tuple[str, Any]]] = {}
        for kind, hook in KINDS.items():
            objects: list[Any] = []
            self._only(name, hook)(register=objects.append)
            if objects:
                offered[kind] = [(key, value) for value in objects for key in _keys(kind, value)]
        return offered

    def _only(self, name: str, hook: str) -> Callable[..., list[Any]]:
        """The hook as this plugin alone implements it."""
        others = [plugin for plugin in self._manager.get_plugins() if self._manager.get_name(plugin) != name]
        return self._manager.subset_hook_caller(hook, remove_plugins=others)

    def _implements(self, name: str, hook: str) -> bool:
        return any(impl.plugin_name == name for impl in getattr(self._manager.hook, hook).get_hookimpls())

    def _each(self, hook: str) -> list[tuple[str, Callable[..., list[Any]]]]:
        return [(name, self._only(name, hook)) for name, (status, _, _) in sorted(self._status.items())
                if status == "loaded" and self._implements(name, hook)]  # fmt: skip

    def _fail(self, name: str, reason: str) -> None:
        if self._manager.has_plugin(name):
            self._manager.unregister(name=name)
        for table in self._owners.values():
            for key in list(table):
                table[key] = [pair for pair in table[key] if pair[0] != name]
        self._status[name] = ("failed", {}, reason)

    def _note(self, name: str, remark: str) -> None:
        status, registered, reason = self._status[name]
        if remark not in reason:
            self._status[name] = (status, registered, f"{reason}; {remark}" if reason else remark)


def installed(path: Sequence[str] | None = None) -> list[EntryPoint]:
    """The entry points of our group on the import path; a distribution shadows one of its name further back."""
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for folder in map(Path, sys.path if path is None else path):
        try:
            names = sorted(name for name in os.listdir(folder or ".") if name.endswith((".dist-info", ".egg-info")))
        except OSError:
            continue
        for name in names:
            project = name.partition("-")[0].removesuffix(".egg").lower().replace("_", "-").replace(".", "-")
            if project in seen:
                continue
            seen.add(project)
            try:
                text = (folder / name / "entry_points.txt").read_text("utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if f"[{GROUP}]" not in text:
                continue
            table = ConfigParser(delimiters="=", interpolation=None, strict=False)
            table.optionxform = str  # type: ignore[method-assign,assignment]  # names keep their case
            table.read_string(text)
            found += [EntryPoint(key, value, folder / name) for key, value in table[GROUP].items()]
    return found


def _qualified(entry_points: Iterable[EntryPoint]) -> list[tuple[str, EntryPoint]]:
    """Sorted by name; where two distributions use one name, each is called DISTRIBUTION:NAME."""
    by_name: dict[str, list[EntryPoint]] = defaultdict(list)
    for entry in entry_points:
        by_name[entry.name].append(entry)
    named = []
    for name, entries in by_name.items():
        for entry in entries:
            named.append((name if len(entries) == 1 else f"{entry.distribution()[0] or entry.value}:{name}", entry))
    return sorted(named, key=lambda pair: pair[0])


def _keys(kind: str, value: Any) -> tuple[str, ...]:
    """The names under which an object stands in the catalogue: its own, or a backend's schemes."""
    keys = value.schemes if kind == "backends" else (value.name,)
    if not keys or not all(isinstance(key, str) and key for key in keys):
        raise PluginError(f"{value!r} has no name", why="a plugin's object says its name (a backend its schemes)")
    return tuple(keys)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().removesuffix(":")
