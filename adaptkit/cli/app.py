"""The root command. Each noun is a module, imported when one of its commands is used."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

import adaptkit
from adaptkit.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Iterator

# command -> module; the function has the command's name, or that name with an underscore behind it.
COMMANDS = {
    "init": "adapters",
    "add": "adapters",
    "list": "history",
    "show": "adapters",
    "log": "history",
    "lineage": "history",
    "path": "adapters",
    "note": "adapters",
    "rm": "adapters",
    "restore": "adapters",
    "export": "adapters",
    "alias": "aliases",
    "rollback": "aliases",
    "rename": "aliases",
    "merge": "merge",
    "compose": "merge",
    "bake": "bake",
    "resize": "merge",
    "convert": "merge",
    "extract": "bake",
    "diff": "merge",
    "plot": "merge",
    "card": "card",
    "push": "remotes",
    "pull": "remotes",
    "remote": "remotes",
    "mirror": "remotes",
    "lock": "project",
    "sync": "project",
    "outdated": "project",
    "sign": "signing",
    "base": "bases",
    "config": "config",
    "verify": "maintenance",
    "fsck": "maintenance",
    "gc": "maintenance",
    "info": "maintenance",
    "registry": "maintenance",
    "plugins": "plugins",
}


class App(click.Group):
    """adaptkit's own commands, then those that plugins add; a plugin never replaces one of ours."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(self._from_plugins(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = import_module(f"adaptkit.cli.{COMMANDS[cmd_name]}")
            found = getattr(module, f"{cmd_name}_", None) or getattr(module, cmd_name)
            assert isinstance(found, click.Command)
            return found
        return self._from_plugins(ctx).get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from adaptkit.errors import nearest

            near = ", ".join(nearest(args[0], self.list_commands(ctx), show=3)[:3])
            raise click.UsageError(f"{error.message} Nearest are: {near}.", ctx) from error

    def _from_plugins(self, ctx: click.Context) -> dict[str, click.Command]:
        scratch = click.Group("adaptkit", commands={name: click.Command(name) for name in COMMANDS})
        ctx.ensure_object(Session).add_plugin_commands(scratch)
        return {name: command for name, command in scratch.commands.items() if name not in COMMANDS}


@contextmanager
def _home_in_environment(home: str) -> Iterator[None]:
    before = os.environ.get("ADAPTKIT_HOME")
    os.environ["ADAPTKIT_HOME"] = home
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("ADAPTKIT_HOME", None)
        else:
            os.environ["ADAPTKIT_HOME"] = before


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"adaptkit, version {adaptkit.__version__}")
        context.exit()


@click.group(
    cls=App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="The workspace to use, instead of the one in force.",
)
@pass_session
@click.pass_context
def app(context: click.Context, session: Session, home: Path | None) -> None:
    """Look after model adapters: register, version, merge, publish and share them.

    A REF is a name (naval), a version (naval@3), an alias (naval@prod), a digest (sha256:…),
    a folder (./out/naval) or a URL (file:///mnt/team/naval@3).
    """
    session.home = home
    if home is not None:  # for plugins that open a workspace themselves, and for what they start
        context.with_resource(_home_in_environment(str(home.absolute())))
    context.call_on_close(session.close)
