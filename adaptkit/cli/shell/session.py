"""What every command is handed: the output sink, and the workspace, opened when first asked for."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.output.sink import Output
from adaptkit.cli.shell.inert import inert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.shell_completion import CompletionItem

    from adaptkit.errors import PluginError
    from adaptkit.plugin.manager import Plugins
    from adaptkit.workspace import Workspace
    from adaptkit.workspace.context.home import Home

    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class Session:
    """One run of the command line."""

    def __init__(self) -> None:
        self.home: Path | None = None
        self.out = Output()
        self.asks = True  # whether a person may be asked something
        self._opened = ExitStack()

    @cached_property
    def plugins(self) -> Plugins:
        from adaptkit.plugin.manager import Plugins
        from adaptkit.plugin.pins import announce, pins_file

        plugins = Plugins.from_environment()
        for text in announce(plugins.pins(), pins_file()):
            self.out.warn(text)
        return plugins

    def add_plugin_commands(self, cli: click.Group) -> None:
        """Add the plugins' commands; where no plugin may have any, `--help` does not wait for the plugins."""
        from adaptkit.plugin.entry_points import GROUP, installed

        if any(entry.may_offer("commands") for entry in installed(GROUP)):
            self.plugins.add_commands(cli)

    @cached_property
    def workspace(self) -> Workspace:
        from adaptkit.cli.shell.libraries import inert_libraries
        from adaptkit.plugin.entry_points import GROUP, installed
        from adaptkit.workspace import Workspace
        from adaptkit.workspace.context.home import Home

        self._opened.enter_context(inert_libraries())
        home = Home.find(self.home)
        if self.asks:
            self._ask_for_trust(home)
        if any(entry.third_party for entry in installed(GROUP)):
            _ = self.plugins  # one that is new is announced before anything is done
        return Workspace(home, lambda: self.plugins, notify=self.out.warn, watch=self.out.watch)

    def blamed(self, error: BaseException) -> PluginError | None:
        """An exception of a plugin, as an error that names it; None where no plugin was asked for anything."""
        return self.plugins.blamed(error) if "plugins" in self.__dict__ else None

    def _ask_for_trust(self, home: Home) -> None:
        """Ask once, on a terminal, whether a configuration that was only found may decide something."""
        if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            return
        if not (keys := home.unasked()):
            return
        from adaptkit.workspace.context.trust import owner_of

        owner = owner_of(home.config_file)
        whose = f", which belongs to {inert(owner)}," if owner else ""
        question = f"{inert(str(home.config_file))}{whose} sets {', '.join(keys)}: trust it"
        home.decide(trusted=click.confirm(question, default=False, err=True))

    def close(self) -> None:
        """Give back what was opened."""
        if "workspace" in self.__dict__:
            if self.workspace.new_home:
                self.out.say(f"made a workspace in {self.workspace.home.path}")
            self.workspace.close()
        self._opened.close()


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


def table_options(*head: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--sort`, `--limit`, `--columns`: of commands that print a table with this head."""
    known = sorted({name.lower() for name in head})

    def columns(_c: click.Context, _o: click.Parameter, begun: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        before, comma, last = begun.rpartition(",")
        taken = before.lower().split(",")
        return [
            CompletionItem(f"{before}{comma}{name}")
            for name in known
            if name.startswith(last.lower()) and name not in taken
        ]

    def order(_c: click.Context, _o: click.Parameter, begun: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        sign = "-" if begun.startswith("-") else ""
        return [
            CompletionItem(f"{sign}{name}")
            for name in known
            if name.startswith(begun.removeprefix("-").lower())
        ]

    return lambda command: _table_options(command, columns, order)


def _table_options(
    command: Callable[..., Any], names: Completer, order: Completer
) -> Callable[..., Any]:
    def keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
            setattr(context.ensure_object(Session).out, name, value)

        return callback

    def columns(context: click.Context, _: click.Parameter, value: str) -> None:
        names = tuple(filter(None, (name.strip() for name in value.split(","))))
        context.ensure_object(Session).out.columns = names

    for option in (
        click.option(
            "--columns",
            metavar="A,B,…",
            default="",
            expose_value=False,
            callback=columns,
            shell_complete=names,
            help="Only these columns, in this order.",
        ),
        click.option(
            "--limit",
            type=click.IntRange(min=1),
            metavar="N",
            expose_value=False,
            callback=keep("limit"),
            help="Only the first N rows.",
        ),
        click.option(
            "--sort",
            metavar="COLUMN",
            default="",
            expose_value=False,
            callback=keep("sort"),
            shell_complete=order,
            help="Sort by this column; -COLUMN sorts downwards.",
        ),
    ):
        command = option(command)
    return command


def complete_ref(context: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
    """Shell completion of a reference; silent when there is no registry."""
    from adaptkit.cli.completion import names

    return names.refs(context, incomplete)
