"""Run a plugin's own commands in a test, in a workspace of the test's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.testing import CliRunner

from adaptkit.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from click.testing import Result


@dataclass(frozen=True, slots=True)
class _Run:
    workspace: Workspace


def run_command(plugin: Any, arguments: Sequence[str], home: Path) -> Result:
    """Run one command that the plugin registers, with `home` as the workspace in force.

    What it raises is raised here; the result has its exit code and what it wrote.
    """
    cli = click.Group("adaptkit")
    plugin.register_commands(cli)
    with Workspace.open(home) as workspace:
        return CliRunner().invoke(cli, list(arguments), obj=_Run(workspace), catch_exceptions=False)
