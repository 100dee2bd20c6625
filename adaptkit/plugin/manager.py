"""Loads plugins one at a time, and asks them.

Notable choices:
- a plugin is loaded when something is asked for that it may offer; one whose distribution does not declare what
  it offers (`adaptkit.plugin.entry_points`) may offer everything
- each entry point is loaded, registered, asked for everything it offers and checked alone, and only then
  published: whatever breaks (SystemExit too) leaves nothing of itself and all of the others, and is kept
  as a record with its reason
- a plugin that prints while it is loaded, reviews or follows prints on stderr: stdout is for data
- this is an object handed to `Workspace`, not a global
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from threading import RLock
from typing import TYPE_CHECKING, Any

import pluggy

from adaptkit import hookspecs
from adaptkit.errors import NotFound, PluginError, distribution, nearest
from adaptkit.extend.review import Objection, Severity
from adaptkit.plugin.catalogue import KINDS, Catalogue, by_name
from adaptkit.plugin.entry_points import GROUP, installed, qualified
from adaptkit.plugin.faults import (
    blamed,
    broke,
    described,
    objections,
    recognises,
    refusing_command,
)
from adaptkit.plugin.interrupts import interrupts
from adaptkit.plugin.pins import pins_of
from adaptkit.plugin.record import PluginRecord, PluginState
from adaptkit.plugin.trial import try_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import click

    from adaptkit.extend import (
        AdapterMethod,
        AdapterView,
        Engine,
        Executor,
        MergeStrategy,
        StorageBackend,
        Trainer,
    )
    from adaptkit.extend.review import Action
    from adaptkit.plugin.entry_points import EntryPoint
    from adaptkit.types import Event

FOLLOWERS = ("review", "on_event")
THIRD_PARTY = "all-third-party"


class Plugins:
    """Every plugin that is installed: what they offer, by name, and the hooks they implement."""

    def __init__(
        self,
        entry_points: Iterable[EntryPoint],
        *,
        disabled: Iterable[str] = (),
        strict: bool = False,
    ) -> None:
        self._hooks = pluggy.PluginManager(hookspecs.PROJECT)
        self._hooks.add_hookspecs(hookspecs)
        self._states: dict[str, PluginState] = {}
        self._loading = RLock()  # threads that share a workspace wait for a plugin half loaded
        self._catalogue = Catalogue(
            lambda plugin: self._states[plugin].entry.distribution()[0] != distribution()[0]
        )
        off = frozenset(disabled)
        for name, entry in qualified(entry_points):
            state = self._states[name] = PluginState(entry)
            if name in off or entry.name in off:
                state.status, state.remarks = "disabled", ["in ADAPTKIT_DISABLE_PLUGINS"]
            elif strict:
                self._load(name, state, strict=True)
        known = {*self._states, *(state.entry.name for state in self._states.values())}
        self.unmatched: tuple[str, ...] = tuple(sorted(off - known))
        """Names that were to be switched off and that no plugin has: a typing mistake, most likely."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Plugins:
        """The plugins installed here, less ADAPTKIT_DISABLE_PLUGINS; ADAPTKIT_STRICT_PLUGINS=1 raises what breaks.

        `all-third-party` among those to disable means every plugin that is not adaptkit's own.
        """
        entries = installed(GROUP)
        names = map(str.strip, environment.get("ADAPTKIT_DISABLE_PLUGINS", "").split(","))
        disabled = set(filter(None, names))
        if THIRD_PARTY in disabled:
            disabled.remove(THIRD_PARTY)
            disabled |= {name for name, entry in qualified(entries) if entry.third_party}
        strict = environment.get("ADAPTKIT_STRICT_PLUGINS") == "1"
        return cls(entries, disabled=disabled, strict=strict)

    def pins(self) -> dict[str, dict[str, str]]:
        """What each distribution other than adaptkit registers, of the plugins that are not switched off."""
        return pins_of(s.entry for s in self._states.values() if s.status != "disabled")

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

    def executor_for(self, url: str) -> type[Executor]:
        """The executor that serves a URL's scheme, or that is named without an address (`local`)."""
        found: type[Executor] = self._get("executors", url.partition("://")[0])
        return found

    def executors(self) -> tuple[type[Executor], ...]:
        """Every executor whose scheme one plugin alone claims."""
        self._load_all("executors")
        return self._catalogue.all("executors")

    def methods(self) -> tuple[AdapterMethod, ...]:
        """Every adapter method whose name one plugin alone claims, by name."""
        self._load_all("methods")
        return self._catalogue.all("methods")

    def strategies(self) -> tuple[MergeStrategy[Any], ...]:
        """Every merge strategy whose name one plugin alone claims, by name."""
        self._load_all("strategies")
        return self._catalogue.all("strategies")

    def names(self, kind: str) -> tuple[str, ...]:
        """The names in the catalogue of one of `adaptkit.plugin.catalogue.KINDS`, sorted; claimed twice or not."""
        self._load_all(kind)
        return self._catalogue.names(kind)

    def method_for(self, view: AdapterView) -> AdapterMethod:
        """The method that recognises an adapter; a catch-all (`generic`) only when no other does."""
        found = [
            (plugin, method)
            for name in self.names("methods")
            for plugin, method in self._catalogue.owners("methods", name)
            if recognises(plugin, method, view)
        ]
        specific = [pair for pair in found if not pair[1].generic] or found
        if not specific:
            raise NotFound(
                "method for peft_type", str(view.config.get("peft_type")), self.names("methods")
            )
        if len(specific) > 1:
            claims = " and ".join(f"'{method.name}' of {plugin}" for plugin, method in specific)
            fix = self._catalogue.disable_hint([plugin for plugin, _ in specific])
            raise PluginError(f"{len(specific)} methods claim {view.label}", why=claims, fix=fix)
        return self.method(specific[0][1].name)

    def packing_method(self) -> AdapterMethod | None:
        """The method that holds merges of methods that cannot hold them themselves; None when no plugin has one."""
        for name in self.names("methods"):
            owners = self._catalogue.owners("methods", name)
            if len(owners) == 1 and owners[0][1].packs:
                return self.method(name)
        return None

    def _get(self, kind: str, name: str) -> Any:
        self._load_all(kind)
        failed = [plugin for plugin, state in self._states.items() if state.status == "failed"]
        fix = (
            f"the plugins {', '.join(failed)} failed to load: adaptkit plugins doctor"
            if failed
            else ""
        )
        return self._catalogue.get(kind, name, fix=fix)

    # ------------------------------------------------------------ asking

    def review(self, action: Action) -> tuple[tuple[str, Objection], ...]:
        """The objections of every plugin to an action; one that raises refuses it."""
        against: list[tuple[str, Objection]] = []
        for plugin, hook in self._each("review"):
            try:
                with redirect_stdout(sys.stderr), interrupts() as asked:
                    found = [one for listed in hook(action=action) for one in objections(listed)]
            except BaseException as error:
                if asked(error):
                    raise
                found = [Objection(f"its review broke: {described(error)}", Severity.REFUSE)]
            against += [(plugin, objection) for objection in found]
        return tuple(against)

    def review_names(self) -> tuple[str, ...]:
        """What `[review]` in config.toml calls the installed reviews: a plugin's `REVIEW`, and its own name."""
        self._load_all("review")
        names = set()
        for implementation in self._implementations("review"):
            plugin = implementation.plugin_name
            names |= {plugin, getattr(implementation.plugin, "REVIEW", plugin.rpartition(":")[2])}
        return tuple(sorted(names))

    def emit(self, event: Event) -> tuple[str, ...]:
        """Notify every plugin of an event; returns a warning for each that raised."""
        warnings = []
        for plugin, hook in self._each("on_event"):
            try:
                with redirect_stdout(sys.stderr), interrupts() as asked:
                    hook(event=event)
            except BaseException as error:
                if asked(error):
                    raise
                warnings.append(
                    f"the plugin '{plugin}' broke on the event '{event.verb}': {described(error)}"
                )
        return tuple(warnings)

    def add_commands(self, cli: click.Group) -> None:
        """Add the plugins' commands; one that is there already stays, one that two claim says so when used."""
        for name in self.names("commands"):
            owners = self._catalogue.owners("commands", name)
            if name in cli.commands:
                for plugin, command in owners:
                    if (
                        command is not cli.commands[name]
                    ):  # it is, when this group was given them before
                        self._remark(
                            plugin, f"the command '{name}' exists already, so its own was left out"
                        )
            elif len(owners) > 1:
                cli.add_command(refusing_command(self._catalogue.claimed("commands", name)), name)
            else:
                cli.add_command(owners[0][1], name)

    def records(self) -> tuple[PluginRecord, ...]:
        """Every plugin found, by name: what it registered, and what is wrong with it."""
        self._load_all()
        return tuple(
            PluginRecord(
                plugin,
                *state.entry.distribution(),
                state.status,
                dict(state.registered),
                "; ".join([*state.remarks, *self._catalogue.clashes(plugin)]),
            )
            for plugin, state in sorted(self._states.items())
        )

    def tried(self) -> Mapping[str, Sequence[str]]:
        """What is wrong with the objects of each plugin, found by calling each with a tiny input."""
        self._load_all()
        found: dict[str, list[str]] = {}
        for kind in KINDS:
            for name in self._catalogue.names(kind):
                for plugin, value in self._catalogue.owners(kind, name):
                    with redirect_stdout(sys.stderr):
                        wrong = try_out(kind, value)
                    if wrong:
                        found.setdefault(plugin, []).append(
                            f"the {KINDS[kind].called} '{name}' does not work: {wrong}"
                        )
        return found

    def blamed(self, error: BaseException) -> PluginError | None:
        """An exception of a plugin that is not adaptkit's own, as an error that names it."""
        loaded = {n: s.entry for n, s in self._states.items() if s.status == "loaded"}
        others = {name: entry.module for name, entry in loaded.items() if entry.third_party}
        plugin = blamed(error, others)
        return None if plugin is None else broke(plugin, described(error))

    # ------------------------------------------------------------ loading

    def _load_all(self, kind: str | None = None) -> None:
        """Load the plugins that may offer a kind (None: all) and are not loaded yet."""
        with self._loading:
            for name, state in self._states.items():
                if state.status == "waiting" and (kind is None or state.entry.may_offer(kind)):
                    self._load(name, state)

    def _load(self, name: str, state: PluginState, *, strict: bool = False) -> None:
        state.status = "loaded"
        try:
            with redirect_stdout(sys.stderr), interrupts() as asked:
                plugin = state.entry.load()
                hash(plugin)  # pluggy keeps plugins in sets
                self._hooks.register(plugin, name)
                self._check_hooks(plugin)
                offered = {kind: self._offered(name, kind) for kind in KINDS}
        except (
            BaseException
        ) as error:  # an `exit()` or KeyboardInterrupt of a plugin must not end the program
            if asked(error):
                raise
            if self._hooks.has_plugin(name):
                self._hooks.unregister(name=name)
            state.status, state.remarks = "failed", [described(error)]
            if strict:
                raise PluginError(
                    f"the plugin '{name}' cannot be loaded",
                    why=described(error),
                    fix=f"ADAPTKIT_DISABLE_PLUGINS={name} goes on without it",
                ) from error
            return
        self._catalogue.publish(name, offered)
        offers = [kind for kind, objects in offered.items() if objects]
        offers += [hook for hook in FOLLOWERS if self._implements(name, hook)]
        state.registered = {kind: tuple(objects) for kind, objects in offered.items() if objects}
        if hooks := tuple(hook for hook in FOLLOWERS if self._implements(name, hook)):
            state.registered["hooks"] = hooks
        if not self._hooks.get_hookcallers(plugin):
            state.remarks.append("it implements no hook: mark its functions with adaptkit.hookimpl")
        if undeclared := [kind for kind in offers if not state.entry.may_offer(kind)]:
            state.remarks.append(
                f"it offers {' and '.join(undeclared)}, which its entry points do not declare: "
                f"list it under [{GROUP}.{undeclared[0]}] too"
            )

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
        return by_name(KINDS[kind], objects)

    def _check_hooks(self, plugin: object) -> None:
        try:
            self._hooks.check_pending()
        except pluggy.PluginValidationError as error:
            odd = next(
                caller.name
                for caller in self._hooks.get_hookcallers(plugin) or ()
                if not caller.has_spec()
                and not all(impl.optionalhook for impl in caller.get_hookimpls())
            )
            near = nearest(
                odd,
                [name for name, caller in vars(self._hooks.hook).items() if caller.has_spec()],
                show=1,
            )
            raise pluggy.PluginValidationError(
                plugin, f"there is no hook '{odd}', nearest is '{near[0]}'"
            ) from error

    def _only(self, name: str, hook: str) -> Callable[..., list[Any]]:
        """The hook as this plugin alone implements it."""
        others = [impl.plugin for impl in self._implementations(hook) if impl.plugin_name != name]
        return self._hooks.subset_hook_caller(hook, others)

    def _implements(self, name: str, hook: str) -> bool:
        return any(impl.plugin_name == name for impl in self._implementations(hook))

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        caller: pluggy.HookCaller = getattr(self._hooks.hook, hook)
        return caller.get_hookimpls()

    def _each(self, hook: str) -> list[tuple[str, Callable[..., list[Any]]]]:
        self._load_all(hook)
        return [
            (name, self._only(name, hook))
            for name in sorted({i.plugin_name for i in self._implementations(hook)})
        ]

    def _remark(self, plugin: str, text: str) -> None:
        remarks = self._states[plugin].remarks
        if text not in remarks:
            remarks.append(text)
