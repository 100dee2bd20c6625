"""Writes the command reference from the commands themselves; run by cog inside docs/cli.md."""

from __future__ import annotations

import os

import click

os.environ["ADAPTKIT_DISABLE_PLUGINS"] = ""


def render() -> str:
    """Every command with its help, as Markdown."""
    from adaptkit.cli.app import app

    return "\n".join(_section(app, ("adaptkit",)))


def _section(command: click.Command, path: tuple[str, ...]) -> list[str]:
    context = click.Context(command, info_name=" ".join(path), max_content_width=100)
    context.terminal_width = 100
    lines = [
        "",
        f"{'#' * (len(path) + 1)} {' '.join(path)}",
        "",
        "```text",
        command.get_help(context),
        "```",
    ]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            lines += _section(child, (*path, name))
    return lines
