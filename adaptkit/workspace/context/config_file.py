"""What `config.toml` may hold. Imported when there is such a file: it takes msgspec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct, field

from adaptkit.errors import AdaptkitError
from adaptkit.io.struct_mistakes import tables_of
from adaptkit.io.toml_file import BadToml, line_at, misplaced, parse
from adaptkit.refs import check_alias, check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Text = Annotated[str, Meta(min_length=1)]


class PolicyTable(Struct, frozen=True, forbid_unknown_fields=True):
    """`[policy]`: the file that says who must have signed what is pulled."""

    file: Text = ""


class ReviewTable(Struct, frozen=True, forbid_unknown_fields=True):
    """`[review]`: reviews that are made or left out."""

    enable: tuple[Text, ...] = ()
    disable: tuple[Text, ...] = ()


class ConfigFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; every part may be missing."""

    author: str = ""
    registry_url: str = ""
    executor: str = ""
    protected: tuple[Text, ...] = ()
    remotes: dict[str, str] = field(default_factory=dict)
    policy: PolicyTable = PolicyTable()
    review: ReviewTable = ReviewTable()
    quotas: dict[str, str | int] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    gates: dict[str, Text | tuple[Text, ...]] = field(default_factory=dict)


OPEN_TABLES = ("remotes", "quotas", "endpoints", "gates")
"""Tables whose keys the user chooses."""
TOP = ("author", "registry_url", "executor", "protected")
"""What stands above every table: TOML takes a line below `[remotes]` for a remote."""
LISTS = ("protected", "review.enable", "review.disable")


def known_keys() -> tuple[str, ...]:
    """Every key as the command line writes it; `remotes.NAME` for a table whose keys are free."""
    named = [
        f"{table}.{key}" for table, kind in tables_of(ConfigFile).items() for key in tables_of(kind)
    ]
    return (*TOP, *named, *(f"{table}.NAME" for table in OPEN_TABLES))


def parse_config(text: str) -> ConfigFile:
    """The file's text, checked; `BadToml` says what is wrong, and where."""
    found = parse(text, ConfigFile)
    for table in OPEN_TABLES:
        for key in TOP:
            if key in getattr(found, table):
                raise BadToml(
                    line_at(text, (table, key)), misplaced((table, key), ""), "move that line; "
                )
    for name, url in found.remotes.items():
        _checked(check_name, [name], text, ("remotes", name))
        if "://" not in url:
            raise BadToml(
                line_at(text, ("remotes", name)),
                f"the remote '{name}' is '{url}', which is no URL",
                f'for example {name} = "s3://bucket/adapters"; ',
            )
    _checked(check_alias, found.protected, text, ("protected",))
    for alias in found.gates:
        _checked(check_alias, [alias], text, ("gates", alias))
    return found


def _checked(
    check: Callable[[str], str], values: Iterable[str], text: str, where: tuple[str, ...]
) -> None:
    for value in values:
        try:
            check(value)
        except AdaptkitError as error:
            raise BadToml(line_at(text, where), error.summary) from error
