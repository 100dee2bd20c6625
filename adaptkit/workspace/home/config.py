"""The settings in `config.toml`: list them, read one, write one. A key is written `TABLE.KEY`, as in `review.enable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError, NotFound
from adaptkit.workspace.context.executor import check_executor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.workspace.context.context import Context

Value = str | tuple[str, ...]


def list_config(context: Context) -> Mapping[str, Value]:
    """Every setting that has a value, the environment's included, by key."""
    context.check_home()
    config = context.config
    policy = str(config.policy) if config.policy else ""
    found: dict[str, Value] = {
        "author": config.named_author,
        "registry_url": config.registry_url,
        "executor": config.executor,
        "protected": config.protected,
        "policy.file": policy,
        "review.enable": config.reviews.enable,
        "review.disable": config.reviews.disable,
        **{f"remotes.{name}": url for name, url in config.remotes.items()},
        **{f"quotas.{name}": limit for name, limit in config.quotas.items()},
        **{f"endpoints.{scheme}": url for scheme, url in config.endpoints.items()},
        **{f"gates.{alias}": conditions for alias, conditions in config.gates.items()},
    }
    return {key: value for key, value in found.items() if value}


def get_config(context: Context, key: str) -> Value:
    """The value of one setting; empty when it has none."""
    from adaptkit.workspace.context.config_file import LISTS

    _split(key)
    empty: Value = () if key in LISTS else ""
    return list_config(context).get(key, empty)


def set_config(context: Context, key: str, values: Sequence[str]) -> None:
    """Write one setting; without values, remove it. Comments in the file stay, and a bad value is not written."""
    from adaptkit.workspace.context.config_file import LISTS

    keys = _split(key)
    if len(values) > 1 and key not in LISTS:
        raise AdaptkitError(
            f"cannot set {key} to {len(values)} values",
            why="it takes one",
            fix=f"adaptkit config set {key} '{' '.join(values)}'",
        )
    if key in LISTS:
        context.home.write_config(keys, values or None)
    elif keys[0] == "remotes" and values:
        context.places.open(values[0])
        context.home.set_remote(keys[1], values[0].rstrip("/"))
    elif key == "executor" and values and values[0]:
        check_executor(context.plugins, values[0])
        context.home.write_config(keys, values[0])
    else:
        context.home.write_config(keys, values[0] if values and values[0] else None)
    vars(context).pop("config", None)  # read again when it is next asked for


def _split(key: str) -> tuple[str, ...]:
    """The keys of the tables on the way; `NotFound` lists the known keys."""
    from adaptkit.workspace.context.config_file import OPEN_TABLES, known_keys

    table, dot, name = key.partition(".")
    if dot and name and table in OPEN_TABLES:
        return table, name
    known = known_keys()
    if key not in known or key.endswith(".NAME"):
        raise NotFound("setting", key, known)
    return tuple(key.split("."))
