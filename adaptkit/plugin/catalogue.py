"""What plugins offer, by kind and name, and which plugin each comes from.

A name that two plugins claim belongs to neither: using it is an error that names both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit import extend
from adaptkit.errors import NotFound, PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Owner = tuple[str, Any]  # a plugin, and what it registered


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that plugins register: its name, its hook and its class."""

    called: str
    hook: str
    abc: type | None = None
    classes: bool = False  # whether the class itself is handed over, not an object of it


KINDS: Mapping[str, Kind] = {
    "methods": Kind("method", "register_adapter_methods", extend.AdapterMethod),
    "backends": Kind(
        "storage backend", "register_storage_backends", extend.StorageBackend, classes=True
    ),
    "strategies": Kind("strategy", "register_merge_strategies", extend.MergeStrategy),
    "trainers": Kind("trainer", "register_trainers", extend.Trainer),
    "engines": Kind("engine", "register_engines", extend.Engine),
    "executors": Kind("executor", "register_executors", extend.Executor, classes=True),
    "commands": Kind("command", "register_commands"),
}


class Catalogue:
    """`foreign` returns whether a plugin comes from elsewhere; of two claims, that one is suggested for switching off."""

    def __init__(self, foreign: Callable[[str], bool]) -> None:
        self._foreign = foreign
        self._owners: dict[str, dict[str, list[Owner]]] = {
            kind: defaultdict(list) for kind in KINDS
        }

    def publish(self, plugin: str, offered: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in everything that one plugin offers, as {kind: {name: object}}."""
        for kind, objects in offered.items():
            for name, value in objects.items():
                self._owners[kind][name].append((plugin, value))

    def names(self, kind: str) -> tuple[str, ...]:
        """The names of one of KINDS, sorted; claimed twice or not."""
        return tuple(sorted(self._owners[kind]))

    def owners(self, kind: str, name: str) -> Sequence[Owner]:
        """The plugins that claim a name, with the object each registered."""
        return self._owners[kind].get(name, ())

    def get(self, kind: str, name: str, *, fix: str = "") -> Any:
        """What the name stands for; `NotFound` lists the known ones, `PluginError` those that claim it."""
        owners = self.owners(kind, name)
        if not owners:
            raise NotFound(KINDS[kind].called, name, self.names(kind), fix=fix)
        if len(owners) > 1:
            raise self.claimed(kind, name)
        return owners[0][1]

    def all(self, kind: str) -> tuple[Any, ...]:
        """Everything of a kind whose name one plugin alone claims, by name."""
        return tuple(
            owners[0][1] for _, owners in sorted(self._owners[kind].items()) if len(owners) == 1
        )

    def claimed(self, kind: str, name: str) -> PluginError:
        """The error for a name that several plugins claim."""
        plugins = [plugin for plugin, _ in self.owners(kind, name)]
        return PluginError(
            f"the {KINDS[kind].called} '{name}' is claimed by {len(plugins)} plugins",
            why=" and ".join(plugins),
            fix=self.disable_hint(plugins),
        )

    def disable_hint(self, plugins: Sequence[str]) -> str:
        """What to type so that one of several claims is left: adaptkit's own, where it is among them."""
        order = sorted(plugins, key=self._foreign)
        return f"ADAPTKIT_DISABLE_PLUGINS={','.join(order[1:])} leaves '{order[0]}'"

    def clashes(self, plugin: str) -> tuple[str, ...]:
        """One line for each name that this plugin and another claim."""
        return tuple(
            f"the {KINDS[kind].called} '{name}' is claimed by {' and '.join(o for o, _ in owners if o != plugin)} too, "
            "so it belongs to neither"
            for kind, table in self._owners.items()
            for name, owners in sorted(table.items())
            if len(owners) > 1 and any(owner == plugin for owner, _ in owners)
        )


def by_name(kind: Kind, objects: Iterable[Any]) -> dict[str, Any]:
    """What one plugin registered, checked, by name; a storage backend stands under each of its schemes."""
    pairs = [(name, value) for value in objects for name in _names(kind, value)]
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise PluginError(f"it registers the {kind.called} '{twice[0]}' twice")
    return dict(pairs)


def _names(kind: Kind, value: Any) -> tuple[str, ...]:
    abc = kind.abc
    assert abc is not None
    if not (
        isinstance(value, type) and issubclass(value, abc)
        if kind.classes
        else isinstance(value, abc)
    ):
        wanted = "a class" if kind.classes else "an object of a class"
        raise PluginError(
            f"{kind.hook} was handed {value!r}",
            why=f"it takes {wanted} derived from adaptkit.extend.{abc.__name__}",
        )
    if missing := sorted(getattr(value, "__abstractmethods__", ())):
        raise PluginError(
            f"the {kind.called} {value!r} is not complete", why=f"it lacks {', '.join(missing)}"
        )
    names = getattr(value, "schemes", None) if kind.classes else (getattr(value, "name", None),)
    if (
        not isinstance(names, tuple)
        or not names
        or not all(isinstance(name, str) and name for name in names)
    ):
        wanted = "schemes, a tuple of strings" if kind.classes else "name, a string"
        raise PluginError(
            f"the {kind.called} {value!r} has no name", why=f"its class must set {wanted}"
        )
    return names
