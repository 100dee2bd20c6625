"""The command that trains; its options are the fields of `TrainConfig`."""

from __future__ import annotations

import os
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.shell.session import Session, json_option, pass_session
from adaptkit.training.settings.config import TYPES, TrainConfig, read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend.training import TrainStep
    from adaptkit.workspace.results import Trained


def _config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each field; left out, it is None, so that a file's value counts."""
    for field in reversed(fields(TrainConfig)):
        flag, kind = "--" + field.name.replace("_", "-"), TYPES[field.name]
        about = dict(field.metadata)
        options = getattr(kind, "__args__", (kind,)) if "|" in str(kind) else (kind,)
        shown = (
            ""
            if field.default in (None, "", False, (), MISSING)
            else f"  [default: {field.default}]"
        )
        how: dict[str, Any] = {"default": None, "help": about["help"] + shown}
        if kind == tuple[str, ...]:
            how |= {"multiple": True, "metavar": about["metavar"]}
        elif bool in options:
            flag = f"{flag}/--no-{flag[2:]}"
        else:
            how |= {"type": next(o for o in options if o is not type(None))}
            how |= {"metavar": about["metavar"]} if about["metavar"] else {}
        command = click.option(flag, field.name, **how)(command)
    return command


@click.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A train.yaml with the same keys; options on the command line count more.",
)
@_config_options
@click.option("-m", "--message", default="", help="What this version is.")
@click.option("--alias", metavar="ALIAS", help="Point this alias at the new version.")
@click.option(
    "--new-version", is_flag=True, help="Even when the name holds another method or base."
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--fresh", is_flag=True, help="Throw an interrupted run away.")
@click.option(
    "--calibrate/--no-calibrate",
    default=True,
    show_default=True,
    help="Measure the moments of its inputs at the end, for merges such as regmean.",
)
@json_option
@pass_session
def train(
    session: Session,
    file: Path | None,
    message: str,
    alias: str | None,
    *,
    new_version: bool,
    resume: bool,
    fresh: bool,
    calibrate: bool,
    **given: Any,
) -> None:
    """Train an adapter on rows of DATA, and register it with everything needed to repeat that.

    docs/training.md tells the forms of data, and what is looked for before and after.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads cost 4x on busy cores
    choices = {name: value for name, value in given.items() if value not in (None, ())}
    if file is not None:
        choices = read_file(file) | choices
    name = choices.pop("name", "")
    if not name:
        raise click.UsageError("Missing option '--name': what the adapter is to be called.")
    trained = session.workspace.train(
        name,
        message=message,
        alias=alias,
        new_version=new_version,
        resume=resume,
        fresh=fresh,
        calibrate=calibrate,
        report=lambda step: session.out.say(progress_line(step)),
        **choices,
    )
    session.out.data(trained.to_json(), lambda: trained_lines(trained), fit=True)


def progress_line(step: TrainStep) -> str:
    """One line of progress: the loss, the speed, the time left."""
    parts = [f"step {step.step}/{step.steps}"]
    if step.loss is not None:
        parts.append(f"loss {step.loss:.4g}")
    if step.eval_loss is not None:
        parts.append(f"eval loss {step.eval_loss:.4g}")
    if step.rows_per_second is not None:
        parts.append(f"{step.rows_per_second:.0f} rows/s")
    if step.seconds_left is not None:
        minutes, seconds = divmod(round(step.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return "  ".join(parts)


def trained_lines(trained: Trained) -> str:
    """A training, for people."""
    facts, version = trained.facts, trained.version
    files = ", ".join(
        f"{one['label']} ({one['form']}, {one['rows']:,} rows"
        + (f", {one['skipped']:,} passed over)" if one.get("skipped") else ")")
        for one in facts["data"]
    )
    lines = [
        f"{version.ref}  {version.digest[:19]}…" + ("" if trained.created else "  unchanged"),
        f"  {files}",
        (
            f"  {facts['steps']:,} steps, {facts['parameters']:,} parameters, {facts['seconds']:.1f} s, "
            f"seed {facts['seed']}"
        ),
    ]
    if "replay" in facts:
        replay = facts["replay"]
        lines.append(
            f"  replay: {replay['rows']:,} rows of files, {replay['from_base']:,} of the base, "
            f"{replay['ratio']:.0%} of all"
        )
    if facts["metrics"]:
        lines.append(
            "  " + ", ".join(f"{key} {value:.4g}" for key, value in facts["metrics"].items())
        )
    if trained.calibrated is not None:
        found = trained.calibrated
        lines.append(
            f"  moments of {found.modules} modules on {found.rows} rows, {found.size / 1e3:,.0f} kB"
        )
    return "\n".join(lines)
