"""`adaptkit config`: the settings of the workspace, in `config.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptkit.cli.shell.session import Session, json_option, pass_session, table_options
from adaptkit.types.passwords import without_passwords

if TYPE_CHECKING:
    from adaptkit.workspace.home.config import Value

_SETTINGS = ("KEY", "VALUE")


@click.group()
def config() -> None:
    """List, read and write the settings in config.toml."""


@config.command("list")
@table_options(*_SETTINGS)
@json_option
@pass_session
def list_(session: Session) -> None:
    """Show every setting that has a value, the environment's included; of passwords in URLs three stars."""
    found = {key: _shown(value) for key, value in session.workspace.list_config().items()}
    rows = [(key, _text(value)) for key, value in found.items()]
    session.out.table(
        [{"key": key, "value": value} for key, value in found.items()],
        _SETTINGS,
        rows,
        "nothing is set: docs/configuration.md shows every key",
    )


@config.command("get")
@click.argument("key")
@json_option
@pass_session
def get_(session: Session, key: str) -> None:
    """Print the value of KEY, such as author or review.enable; a list is printed one entry a line."""
    value = session.workspace.get_config(key)
    if not value:
        session.out.say(f"{key} is not set: adaptkit config set {key} VALUE")
    session.out.data(value, [value] if isinstance(value, str) else value)


@config.command("set")
@click.argument("key")
@click.argument("values", metavar="VALUE...", nargs=-1)
@json_option
@pass_session
def set_(session: Session, key: str, values: tuple[str, ...]) -> None:
    """Write KEY; a list, such as protected, takes several values."""
    if not values:
        raise click.UsageError(
            f"Missing argument 'VALUE...': adaptkit config unset {key} takes a setting away."
        )
    session.workspace.set_config(key, values)
    shown = _shown(values)
    session.out.done({"key": key, "value": list(shown)}, [f"{key} = {_text(shown)}"])


@config.command("unset")
@click.argument("key")
@json_option
@pass_session
def unset(session: Session, key: str) -> None:
    """Remove KEY from the file, so that it has its default."""
    session.workspace.set_config(key, ())
    session.out.done({"key": key, "value": None}, [f"{key} is not set any more"])


def _shown(value: Value) -> Value:
    """A setting as lists and logs may hold it: `config get` alone prints a password."""
    if not isinstance(value, str):
        return tuple(map(without_passwords, value))
    return without_passwords(value)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ", ".join(value)
