"""The whole contract between adaptkit and its plugins: nine hooks.

`register_*` hand over objects, `review` collects objections before something happens, `on_event`
follows what happened. None is `firstresult`. Implement any of them, marked with `@hookimpl`, in a
module or object named by an entry point in the group `adaptkit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import click

    from adaptkit.extend import (
        AdapterMethod,
        Engine,
        Executor,
        MergeStrategy,
        StorageBackend,
        Trainer,
    )
    from adaptkit.extend.review import Action, Objection
    from adaptkit.types import Event

PROJECT = "adaptkit"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_adapter_methods(register: Callable[[AdapterMethod], None]) -> None:
    """Call `register` with each adapter method, such as LoRA, that this plugin reads."""


@hookspec
def register_storage_backends(register: Callable[[type[StorageBackend]], None]) -> None:
    """Call `register` with each storage backend class; its `schemes` say which URLs it serves."""


@hookspec
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    """Call `register` with each merge strategy; a family registers one object per name."""


@hookspec
def register_trainers(register: Callable[[Trainer], None]) -> None:
    """Call `register` with each trainer."""


@hookspec
def register_engines(register: Callable[[Engine], None]) -> None:
    """Call `register` with each serving engine."""


@hookspec
def register_executors(register: Callable[[type[Executor]], None]) -> None:
    """Call `register` with each executor class; its `schemes` say which `--on` it serves."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add click commands to adaptkit's own; a command that is there already is not replaced.

    `adaptkit.extend.pass_workspace` hands one the workspace in force.
    """


@hookspec
def review(action: Action) -> Iterable[Objection] | None:
    """Object to an action that is about to happen; all objections are shown.

    Raising refuses the action, naming the plugin.
    """


@hookspec
def on_event(event: Event) -> None:
    """Follow something that happened, after the registry committed it.

    An exception becomes a warning.
    """
