"""Commands that show what can be chosen: merge strategies and adapter methods."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.shell.session import Session, json_option, pass_session, table_options

if TYPE_CHECKING:
    from dataclasses import Field

    from adaptkit.extend import AdapterMethod, MergeStrategy

_STRATEGIES = ("STRATEGY", "PARAMETERS", "FORMULA", "WHEN")
_METHODS = ("METHOD", "MERGES", "READS", "WHAT IT IS")


@click.command()
@click.argument("name", required=False)
@table_options(*_STRATEGIES)
@json_option
@pass_session
def strategies(session: Session, name: str | None) -> None:
    """List the merge strategies, or explain one: formula, parameters, paper, and when to use it."""
    if name is not None:
        one = session.plugins.strategy(name)
        session.out.data(_strategy_json(one), lambda: _strategy_text(one), fit=True)
        return
    found = session.plugins.strategies()
    session.out.table(
        [_strategy_json(one) for one in found],
        _STRATEGIES,
        [
            (one.name, " ".join(f.name for f in fields(one.params)), one.formula, _when(one))
            for one in found
        ],
        "no plugin has a strategy: adaptkit plugins doctor",
        drop=("PARAMETERS", "FORMULA"),
    )


@click.command()
@click.argument("name", required=False)
@table_options(*_METHODS)
@json_option
@pass_session
def methods(session: Session, name: str | None) -> None:
    """List the adapter methods that can be read, or show one."""
    if name is not None:
        one = session.plugins.method(name)
        session.out.data([_method_json(one)], lambda: _method_text(one), fit=True)
        return
    found = session.plugins.methods()
    session.out.table(
        [_method_json(one) for one in found],
        _METHODS,
        [(one.name, _merges(one), " ".join(one.dialects), one.summary) for one in found],
        "no plugin has a method: adaptkit plugins doctor",
        drop=("READS", "MERGES"),
    )


def _strategy_json(one: MergeStrategy[Any]) -> dict[str, Any]:
    low, high = one.arity
    return {
        "name": one.name,
        "formula": one.formula,
        "when": _when(one),
        "reference": one.reference,
        "spaces": list(one.spaces),
        "adapters": {"least": low, "most": high},
        "params": [
            {
                "name": field.name,
                "default": _default(field),
                "range": list(field.metadata.get("range", ())),
                "help": field.metadata.get("help", ""),
            }
            for field in fields(one.params)
        ],
    }


def _strategy_text(one: MergeStrategy[Any]) -> list[str]:
    low, high = one.arity
    count = f"{low} or more" if high is None else f"{low}" if low == high else f"{low} to {high}"
    lines = [
        one.name,
        f"  formula   {one.formula}",
        *([f"  when      {_when(one)}"] if _when(one) else []),
        f"  adapters  {count}",
        f"  space     {one.spaces[0]}"
        + (f" (or {', '.join(one.spaces[1:])}: --space)" if one.spaces[1:] else ""),
        f"  paper     {one.reference}",
    ]
    for field in fields(one.params):
        low_high = field.metadata.get("range")
        bounds = f", {low_high[0]:g} to {low_high[1]:g}" if low_high else ""
        lines.append(f"  --param {field.name}={_default(field)}{bounds}")
        if field.metadata.get("help"):
            lines.append(f"            {field.metadata['help']}")
    example = f"  adaptkit merge naval medic --name bridge --strategy {one.name}"
    return [*lines, "", example]


def _when(one: MergeStrategy[Any]) -> str:
    return one.when


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return None if field.default_factory is MISSING else field.default_factory()


def _method_json(one: AdapterMethod) -> dict[str, Any]:
    return {
        "name": one.name,
        "summary": one.summary,
        "merges": _merges(one),
        "dialects": [{"name": key, "what": what} for key, what in one.dialects.items()],
    }


def _method_text(one: AdapterMethod) -> list[str]:
    return [
        one.name,
        f"  what      {one.summary}",
        f"  merges    {_merges(one)}",
        *(f"  reads     {name}: {what}" for name, what in one.dialects.items()),
    ]


def _merges(one: AdapterMethod) -> str:
    """How its merges are kept: in its own form, as its own weighted sums, or as LoRA."""
    if one.packs:
        return "as itself"
    return "as weighted sums" if one.closed else "-" if one.generic else "as LoRA"
