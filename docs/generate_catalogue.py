"""Writes the tables of strategies and methods from the plugins themselves; run by cog inside docs/merging.md."""

from __future__ import annotations

from dataclasses import fields

from adaptkit.plugin.manager import Plugins

PLUGINS = Plugins.from_environment()


def strategies() -> str:
    """Every strategy: its formula, where it works, its parameters, its source."""
    lines = [
        "",
        "| strategy | formula | spaces | takes | parameters | source |",
        "|---|---|---|---|---|---|",
    ]
    for name in PLUGINS.names("strategies"):
        one = PLUGINS.strategy(name)
        low, high = one.arity
        takes = (
            str(low) if low == high else f"{low} or more" if high is None else f"{low} to {high}"
        )
        params = "; ".join(
            f"`{f.name}={f.default}` {f.metadata.get('help', '')}" for f in fields(one.params)
        )
        formula = one.formula.replace("|", "\\|")
        lines.append(
            f"| `{name}` | {formula} | {', '.join(one.spaces)} | {takes} | {params} | [source]({one.reference}) |"
        )
    return "\n".join(lines) + "\n"


def methods() -> str:
    """Every method and what it is for."""
    lines = ["", "| method | what adaptkit does with it |", "|---|---|"]
    lines += [f"| `{name}` | {PLUGINS.method(name).summary} |" for name in PLUGINS.names("methods")]
    return "\n".join(lines) + "\n"
