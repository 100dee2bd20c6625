"""Loads plugins one at a time, keeps the catalogue and who provided what, and asks plugins.

Notable choices:
- each entry point is loaded, registered, asked for everything it offers and checked alone, and only then
  published: whatever breaks (SystemExit too) leaves nothing of itself and all of the others, and is kept
  as a record with its reason
- a name that two plugins claim belongs to neither; using it is an error that names both
- a plugin that prints while it is loaded prints on stderr: stdout is for data
- this is an object handed to `Workspace`, not a global
"""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy

from adaptkit import extend, hookspecs
from adaptkit.entrypoints import installed, qualified
from adaptkit.errors import BadAdapter, NotFound, PluginError, nearest
from adaptkit.types import Objection, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import click

    from adaptkit.entrypoints import EntryPoint
    from adaptkit.extend import AdapterMethod, AdapterView, Engine, MergeStrategy, StorageBackend, Trainer
    from adaptkit.types import Action, Event

GROUP = hookspecs.PROJECT


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that plugins register: what it is called, through which hook, of which class."""

    called: str
    hook: str
    abc: type | None = None
    classes: bool = False  # whether the class itself is handed over, not an object of it


KINDS: Mapping[str, Kind] = {
    "methods": Kind("method", "register_adapter_methods", extend.AdapterMethod),
    "backends": Kind("storage backend", "register_storage_backends", extend.StorageBackend, classes=True),
    "strategies": Kind("strategy", "register_merge_strategies", extend.MergeStrategy),
    "trainers": Kind("trainer", "register_trainers", extend.Trainer),
    "engines": Kind("engine", "register_engines", extend.Engine),
    "commands": Kind("command", "register_commands"),
}
FOLLOWERS = ("review", "on_event")


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """What became of one plugin: `status` is loaded, failed or disabled; `reason` says what is wrong with it."""

    plugin: str
    distribution: str
    version: str
    status: str
    registered: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reason: str = ""


@dataclass(slots=True)
class _State:
    """One plugin while the program runs."""

    entry: EntryPoint
    status: str = "loaded"
    registered: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class Plugins:
    """The catalogue: methods, backends, strategies, trainers, engines and commands by name, and their plugins."""

    def __init__(
        self, entry_points: Iterable[EntryPoint], *, disabled: Iterable[str] = (), strict: bool = False
    ) -> None:
        self._hooks = pluggy.PluginManager(hookspecs.PROJECT)
        self._hooks.add_hookspecs(hookspecs)
        self._owners: dict[str, dict[str, list[tuple[str, Any]]]] = {kind: defaultdict(list) for kind in KINDS}
        self._states: dict[str, _State] = {}
        off = frozenset(disabled)
        for name, entry in qualified(entry_points):
            state = self._states[name] = _State(entry)
            if name in off or entry.name in off:
                state.status, state.remarks = "disabled", ["in ADAPTKIT_DISABLE_PLUGINS"]
            else:
                self._load(name, state, strict)
        known = {*self._states, *(state.entry.name for state in self._states.values())}
        self.unmatched: tuple[str, ...] = tuple(sorted(off - known))
        """Names that were to be switched off and that no plugin has: a typing mistake, most likely."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Plugins:
        """The plugins installed here, less ADAPTKIT_DISABLE_PLUGINS; ADAPTKIT_STRICT_PLUGINS=1 raises what breaks."""
        disabled = filter(None, (name.strip() for name in environment.get("ADAPTKIT_DISABLE_PLUGINS", "").split(",")))
        strict = environment.get("ADAPTKIT_STRICT_PLUGINS") == "1"
        return cls(installed(GROUP), disabled=disabled, strict=strict)

    @property
    def disabled(self) -> tuple[str, ...]:
        """The plugins that were switched off; recorded in events."""
        return tuple(name for name, state in self._states.items() if state.status == "disabled")

    # ------------------------------------------------------------ catalogue

    def method(self, name: str) -> AdapterMethod:
        """The adapter method of that name."""
        found: AdapterMethod = self._get("methods", name)
        return found

    def strategy(self, name: str) -> MergeStrategy[Any]:
        """The merge strategy of that name."""
        found: MergeStrategy[Any] = self._get("strategies", name)
        return found

    def backend_for(self, url: str) -> type[StorageBackend]:
        """The storage backend that serves a URL's scheme."""
        found: type[StorageBackend] = self._get("backends", url.partition("://")[0])
        return found

    def trainer(self, name: str) -> Trainer:
        """The trainer of that name."""
        found: Trainer = self._get("trainers", name)
        return found

    def engine(self, name: str) -> Engine:
        """The serving engine of that name."""
        found: Engine = self._get("engines", name)
        return found

    def names(self, kind: str) -> tuple[str, ...]:
        """The names in the catalogue of one of KINDS, sorted; claimed twice or not."""
        return tuple(sorted(self._owners[kind]))

    def methods(self) -> tuple[AdapterMethod, ...]:
        """Every adapter method that one plugin alone claims, by name."""
        return self._all("methods")

    def strategies(self) -> tuple[MergeStrategy[Any], ...]:
        """Every merge strategy that one plugin alone claims, by name."""
        return self._all("strategies")

    def method_for(self, view: AdapterView) -> AdapterMethod:
        """The method that recognises an adapter; a catch-all (`generic`) only when no other does."""
        found = [
            (plugin, method)
            for name in self.names("methods")
            for plugin, method in self._owners["methods"][name]
            if _recognises(plugin, method, view)
        ]
        specific = [pair for pair in found if not pair[1].generic] or found
        if not specific:
            raise NotFound("method for peft_type", str(view.config.get("peft_type")), self.names("methods"))
        if len(specific) > 1:
            claims = " and ".join(f"'{method.name}' of {plugin}" for plugin, method in specific)
            raise PluginError(f"{len(specific)} methods claim {view.label}", why=claims, fix=self._way_out(specific))
        return self.method(specific[0][1].name)

    def _get(self, kind: str, name: str) -> Any:
        owners = self._owners[kind].get(name)
        if not owners:
            failed = [plugin for plugin, state in self._states.items() if state.status == "failed"]
            fix = f"the plugins {', '.join(failed)} failed to load: adaptkit plugins doctor" if failed else ""
            raise NotFound(KINDS[kind].called, name, self.names(kind), fix=fix)
        if len(owners) > 1:
            raise self._claimed(kind, name)
        return owners[0][1]

    def _all(self, kind: str) -> tuple[Any, ...]:
        return tuple(owners[0][1] for _, owners in sorted(self._owners[kind].items()) if len(owners) == 1)

    def _claimed(self, kind: str, name: str) -> PluginError:
        owners = self._owners[kind][name]
        return PluginError(f"the {KINDS[kind].called} '{name}' is claimed by {len(owners)} plugins",
                           why=" and ".join(plugin for plugin, _ in owners), fix=self._way_out(owners))  # fmt: skip

    def _way_out(self, owners: Sequence[tuple[str, Any]]) -> str:
        """What to type so that one claim is left: adaptkit's own, where it is among them."""
        foreign = [plugin for plugin, _ in owners if self._states[plugin].entry.distribution()[0] != hookspecs.PROJECT]
        off = (foreign if 0 < len(foreign) < len(owners) else [plugin for plugin, _ in owners])[-(len(owners) - 1) :]
        return f"ADAPTKIT_DISABLE_PLUGINS={','.join(off)} leaves the other"

    # ------------------------------------------------------------ asking

    def review(self, action: Action) -> tuple[tuple[str, Objection], ...]:
        """What every plugin has against an action; one that raises refuses it."""
        objections: list[tuple[str, Objection]] = []
        for plugin, hook in self._each("review"):
            try:
                for answer in hook(action=action):
                    objections += [(plugin, _objection(one)) for one in answer]
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  (any failure of a reviewer refuses, `exit()` too)
                objections.append((plugin, Objection(f"its review broke: {_told(error)}", Severity.REFUSE)))
        return tuple(objections)

    def emit(self, event: Event) -> tuple[str, ...]:
        """Tell every plugin what happened; answers a warning for each that raised."""
        warnings = []
        for plugin, hook in self._each("on_event"):
            try:
                hook(event=event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  (what happened has happened)
                warnings.append(f"the plugin '{plugin}' broke on the event '{event.verb}': {_told(error)}")
        return tuple(warnings)

    def add_commands(self, cli: click.Group) -> None:
        """Add the plugins' commands; one that is there already stays, one that two claim says so when used."""
        for name in self.names("commands"):
            owners = self._owners["commands"][name]
            if name in cli.commands:
                for plugin, _ in owners:
                    self._remark(plugin, f"the command '{name}' exists already, so its own was left out")
            elif len(owners) > 1:
                cli.add_command(_disputed(self._claimed("commands", name)), name)
            else:
                cli.add_command(owners[0][1], name)

    def records(self) -> tuple[PluginRecord, ...]:
        """Every plugin found, by name: what it registered, and what is wrong with it."""
        clashes: dict[str, list[str]] = defaultdict(list)
        for kind, table in self._owners.items():
            for name, owners in sorted(table.items()):
                for plugin, _ in owners if len(owners) > 1 else ():
                    others = " and ".join(other for other, _ in owners if other != plugin)
                    clashes[plugin].append(f"the {KINDS[kind].called} '{name}' is claimed by {others} too, "
                                           "so it belongs to neither")  # fmt: skip
        return tuple(
            PluginRecord(plugin, *state.entry.distribution(), state.status, dict(state.registered),
                         "; ".join([*state.remarks, *clashes[plugin]]))
            for plugin, state in sorted(self._states.items())
        )  # fmt: skip

    # ------------------------------------------------------------ loading

    def _load(self, name: str, state: _State, strict: bool) -> None:
        try:
            with redirect_stdout(sys.stderr):
                plugin = state.entry.load()
                hash(plugin)  # pluggy keeps plugins in sets
                self._hooks.register(plugin, name)
                offered = {kind: self._offered(name, kind) for kind in KINDS}
                self._check_hooks(plugin)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: an `exit()` in a plugin must not end the program
            if self._hooks.has_plugin(name):
                self._hooks.unregister(name=name)
            state.status, state.remarks = "failed", [_told(error)]
            if strict:
                raise PluginError(f"the plugin '{name}' cannot be loaded", why=_told(error),
                                  fix=f"ADAPTKIT_DISABLE_PLUGINS={name} goes on without it") from error  # fmt: skip
            return
        for kind, objects in offered.items():
            for key, value in objects.items():
                self._owners[kind][key].append((name, value))
        state.registered = {kind: tuple(objects) for kind, objects in offered.items() if objects}
        if hooks := tuple(hook for hook in FOLLOWERS if self._implements(name, hook)):
            state.registered["hooks"] = hooks
        if not self._hooks.get_hookcallers(plugin):
            state.remarks.append("it implements no hook: mark its functions with adaptkit.hookimpl")

    def _offered(self, name: str, kind: str) -> dict[str, Any]:
        """What a plugin has of one kind, by name."""
        if not self._implements(name, KINDS[kind].hook):
            return {}
        hook = self._only(name, KINDS[kind].hook)
        if kind == "commands":
            import click

            scratch = click.Group()
            hook(cli=scratch)
            return dict(scratch.commands)
        objects: list[Any] = []
        hook(register=objects.append)
        pairs = [(key, value) for value in objects for key in _keys(KINDS[kind], value)]
        if twice := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
            raise PluginError(f"it registers the {KINDS[kind].called} '{twice[0]}' twice")
        return dict(pairs)

    def _check_hooks(self, plugin: object) -> None:
        try:
            self._hooks.check_pending()
        except pluggy.PluginValidationError as error:
            callers = self._hooks.get_hookcallers(plugin) or ()
            odd = next((caller.name for caller in callers if not caller.has_spec()), "")
            known = [name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "adaptkit_spec")]
            near = ", ".join(nearest(odd, known, show=2)[:2])
            raise pluggy.PluginValidationError(error.plugin, f"there is no hook '{odd}'; nearest are {near}") from error

    def _only(self, name: str, hook: str) -> Callable[..., list[Any]]:
        """The hook as this plugin alone implements it."""
        others = [impl.plugin for impl in self._caller(hook).get_hookimpls() if impl.plugin_name != name]
        return self._hooks.subset_hook_caller(hook, others)

    def _implements(self, name: str, hook: str) -> bool:
        return any(impl.plugin_name == name for impl in self._caller(hook).get_hookimpls())

    def _caller(self, hook: str) -> pluggy.HookCaller:
        caller: pluggy.HookCaller = getattr(self._hooks.hook, hook)
        return caller

    def _each(self, hook: str) -> list[tuple[str, Callable[..., list[Any]]]]:
        names = sorted(impl.plugin_name for impl in self._caller(hook).get_hookimpls())
        return [(name, self._only(name, hook)) for name in names]

    def _remark(self, plugin: str, text: str) -> None:
        remarks = self._states[plugin].remarks
        if text not in remarks:
            remarks.append(text)


def _keys(kind: Kind, value: Any) -> tuple[str, ...]:
    """The names under which an object stands in the catalogue: its own, or a backend's schemes."""
    abc = kind.abc
    assert abc is not None
    wanted = f"{'a class' if kind.classes else 'an object of a class'} derived from adaptkit.extend.{abc.__name__}"
    if not (isinstance(value, type) and issubclass(value, abc) if kind.classes else isinstance(value, abc)):
        raise PluginError(f"{kind.hook} was handed {value!r}", why=f"it takes {wanted}")
    if missing := sorted(getattr(value, "__abstractmethods__", ())):
        raise PluginError(f"the {kind.called} {value!r} is not complete", why=f"it lacks {', '.join(missing)}")
    told = getattr(value, "schemes", None) if kind.classes else (getattr(value, "name", None),)
    if not isinstance(told, tuple) or not told or not all(isinstance(key, str) and key for key in told):
        field_ = "schemes, a tuple of strings" if kind.classes else "name, a string"
        raise PluginError(f"the {kind.called} {value!r} has no name", why=f"its class must set {field_}")
    return told


def _recognises(plugin: str, method: AdapterMethod, view: AdapterView) -> bool:
    try:
        return method.recognises(view)
    except (KeyboardInterrupt, BadAdapter):  # the second is the adapter's fault, and says so
        raise
    except BaseException as error:
        raise PluginError(f"the plugin '{plugin}' broke on {view.label}", why=_told(error),
                          fix=f"ADAPTKIT_DISABLE_PLUGINS={plugin} goes on without it") from error  # fmt: skip


def _objection(answer: object) -> Objection:
    if not isinstance(answer, Objection):
        raise TypeError(f"it answered {answer!r}, not an adaptkit.types.Objection")
    return answer


def _disputed(error: PluginError) -> click.Command:
    """A command that says who claims its name."""
    import click

    def refuse() -> None:
        raise error

    return click.Command(None, callback=refuse, short_help=str(error.args[0]), add_help_option=False,
                         context_settings={"ignore_unknown_options": True, "allow_extra_args": True})  # fmt: skip


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
