"""What a plugin's own commands are handed: the workspace in force."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from adaptkit.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable


@runtime_checkable
class HoldsWorkspace(Protocol):
    """What click keeps for a run of the command line: it opens the workspace when first asked."""

    @property
    def workspace(self) -> Any: ...


def pass_workspace(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hand a click command the `Workspace` in force as its first argument.

    The one that `--home`, `ADAPTKIT_HOME` or the folder chose. It is closed when the command ends.
    `PluginError` where the command runs outside adaptkit's command line.
    """

    @wraps(command)
    def run(*arguments: Any, **named: Any) -> Any:
        import click

        run_of_adaptkit = click.get_current_context().find_root().obj
        if not isinstance(run_of_adaptkit, HoldsWorkspace):
            raise PluginError(
                f"the command '{command.__name__}' has no workspace",
                why="it was not started by adaptkit",
                fix="in a test: adaptkit.testing.run_command(plugin, arguments, home)",
            )
        return command(run_of_adaptkit.workspace, *arguments, **named)

    return run
