"""The root command. Each noun is a module, imported when one of its commands is used."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

import adaptkit
from adaptkit.cli.help.examples import first_sentence, with_examples
from adaptkit.cli.help.tasks import CALLED, grouped
from adaptkit.cli.shell.repeated import OneValue, with_one_value
from adaptkit.cli.shell.session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.shell_completion import CompletionItem

VARIABLE = "_ADAPTKIT_COMPLETE"

# command -> module; the function has the command's name, or that name with an underscore behind it.
COMMANDS = {
    "init": "adapters.adapters",
    "demo": "home.demo",
    "status": "home.status",
    "doctor": "home.status",
    "completion": "completion",
    "add": "adapters.adapters",
    "list": "adapters.history",
    "show": "adapters.adapters",
    "log": "adapters.history",
    "lineage": "adapters.history",
    "path": "adapters.adapters",
    "note": "adapters.adapters",
    "rm": "adapters.adapters",
    "restore": "adapters.adapters",
    "export": "adapters.export",
    "alias": "adapters.aliases",
    "rollback": "adapters.aliases",
    "rename": "adapters.aliases",
    "merge": "merge.merge",
    "compose": "merge.merge",
    "recipe": "merge.recipe",
    "strategies": "catalogue",
    "methods": "catalogue",
    "bake": "bake",
    "resize": "merge.merge",
    "convert": "merge.merge",
    "strip": "merge.strip",
    "extract": "bake",
    "calibrate": "merge.calibrate",
    "distil": "merge.distil",
    "search": "merge.search",
    "diff": "merge.compare",
    "plot": "plot",
    "train": "train.train",
    "eval": "train.evaluate",
    "sweep": "sweep",
    "generate": "train.generate",
    "chat": "train.generate",
    "card": "remotes.card",
    "push": "remotes.remotes",
    "pull": "remotes.remotes",
    "remote": "remotes.remotes",
    "mirror": "remotes.remotes",
    "lock": "project",
    "sync": "project",
    "outdated": "project",
    "serve": "serve",
    "preflight": "serve",
    "sign": "remotes.signing",
    "base": "bases",
    "config": "home.config",
    "trust": "home.trust",
    "verify": "home.maintenance",
    "fsck": "home.maintenance",
    "gc": "home.maintenance",
    "info": "home.maintenance",
    "registry": "home.maintenance",
    "plugins": "plugins",
}


class PipeError(Exception):
    """A broken pipe of a command: click would end with code 1 and no word, whatever pipe it was."""

    def __init__(self, error: BrokenPipeError) -> None:
        super().__init__(str(error))
        self.error = error


class App(click.Group):
    """adaptkit's own commands, then those that plugins add; a plugin never replaces one of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _home_first(args))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by task, each with the whole first sentence of its help."""
        for task, names in grouped(self.list_commands(ctx)):
            rows = [
                (name, first_sentence(command))
                for name in names
                if (command := self.get_command(ctx, name)) and not command.hidden
            ]
            with formatter.section(task):
                formatter.write_dl(rows, col_max=12)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(self._from_plugins(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = import_module(f"adaptkit.cli.{COMMANDS[cmd_name]}")
            found = getattr(module, f"{cmd_name}_", None) or getattr(module, cmd_name)
            assert isinstance(found, click.Command)
            if VARIABLE in os.environ:
                _complete_by_name(found)
            return with_examples(with_one_value(found), cmd_name)
        return self._from_plugins(ctx).get(cmd_name)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise PipeError(error) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from adaptkit.errors import nearest

            if (here := CALLED.get(args[0])) is not None:
                raise click.UsageError(
                    f"{error.message} It is called {here}: adaptkit {here} --help", ctx
                ) from error
            near = ", ".join(nearest(args[0], self.list_commands(ctx), show=3)[:3])
            raise click.UsageError(f"{error.message} Nearest are: {near}.", ctx) from error

    def _from_plugins(self, ctx: click.Context) -> dict[str, click.Command]:
        scratch = click.Group("adaptkit", commands={name: click.Command(name) for name in COMMANDS})
        ctx.ensure_object(Session).add_plugin_commands(scratch)
        return {name: command for name, command in scratch.commands.items() if name not in COMMANDS}


def _complete_by_name(command: click.Command) -> None:
    """Offer, for every parameter, what `adaptkit.cli.completion.names` has under its name."""
    from adaptkit.cli.completion import names

    for parameter in command.params:
        own = parameter.shell_complete

        def offered(
            context: click.Context,
            incomplete: str,
            parameter: click.Parameter = parameter,
            own: Callable[..., list[CompletionItem]] = own,
        ) -> list[CompletionItem]:
            found = names.complete(str(command.name), context, parameter, incomplete)
            return own(context, incomplete) if found is None else found

        parameter.shell_complete = offered  # type: ignore[assignment,method-assign]
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _complete_by_name(inner)


def _home_first(args: list[str]) -> list[str]:
    """`--home DIR` may stand anywhere before a `--`: it is moved to where this group reads it; `--json` to its command."""
    end = args.index("--") if "--" in args else len(args)
    home: list[str] = []
    rest: list[str] = []
    skip = False
    for place, word in enumerate(args[:end]):
        if skip:
            skip = False
        elif word == "--home" and place + 1 < end:
            home, skip = [*home, word, args[place + 1]], True
        elif word.startswith("--home="):
            home.append(word)
        else:
            rest.append(word)
    if rest[:1] == ["--json"]:  # an option of the commands: behind the one that is meant
        rest = [*(rest[1:] or ["status"]), "--json"]
    return [*home, *rest, *args[end:]]


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
    cls=App,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="adaptkit COMMAND --help shows the options of a command, and examples.",
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
    cls=OneValue,
    type=click.Path(path_type=Path),
    help="The workspace to use, instead of the one in force; may stand anywhere.",
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
    if context.invoked_subcommand is None:
        from adaptkit.cli.home.status import print_status

        print_status(session)
