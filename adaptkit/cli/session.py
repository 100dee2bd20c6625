"""What every command is handed: the output sink, and the workspace, opened when first asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from adaptkit.plugin.manager import Plugins
    from adaptkit.workspace import Workspace


class Session:
    """One run of the command line."""

    def __init__(self) -> None:
        self.home: Path | None = None
        self.out = Output()

    @cached_property
    def plugins(self) -> Plugins:
        from adaptkit.plugin.manager import Plugins

        return Plugins.from_environment()

    def add_plugin_commands(self, cli: click.Group) -> None:
        """Add the plugins' commands; where no plugin may have any, `--help` does not wait for the plugins."""
        from adaptkit.plugin.entry_points import GROUP, installed

        if any(entry.may_offer("commands") for entry in installed(GROUP)):
            self.plugins.add_commands(cli)

    @cached_property
    def workspace(self) -> Workspace:
        from adaptkit.workspace import Workspace
        from adaptkit.workspace.context.home import Home

        return Workspace(
            Home.find(self.home), self.plugins, notify=self.out.warn, watch=self.out.watch
        )

    def close(self) -> None:
        """Give back what was opened."""
        if "workspace" in self.__dict__:
            if self.workspace.new_home:
                self.out.say(f"made a workspace in {self.workspace.home.path}")
            self.workspace.close()


def pass_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hand the session to a command as its first argument."""
    return click.make_pass_decorator(Session, ensure=True)(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`: the result as one JSON value on stdout."""

    def switch(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.ensure_object(Session).out.as_json = value

    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=switch,
        help="Print the result as JSON.",
    )(command)


def complete_ref(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Shell completion of registered names and their aliases; silent when there is no registry."""
    try:
        versions = context.ensure_object(Session).workspace.list()
    except Exception:  # noqa: BLE001  (a completion must never print)
        return []
    names = [v.name for v in versions] + [
        f"{v.name}@{alias}" for v in versions for alias in v.aliases
    ]
    return [name for name in names if name.startswith(incomplete)]
