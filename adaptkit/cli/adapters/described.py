"""One version as `show` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.cli.adapters.bulk import base_shown
from adaptkit.cli.output import times

if TYPE_CHECKING:
    from adaptkit.types.facts import TrainingDataFacts
    from adaptkit.workspace.results import Shown


_CAME = {"a file": "written", "a folder": "written"}
"""How a version came here, where its origin is no verb."""


def _data(file: TrainingDataFacts) -> str:
    """One file of training data; what a foreign manifest leaves out is shown as missing."""
    count = f"{file['rows']:,}" if "rows" in file else "?"
    return f"  data      {file.get('label', '?')}  {count} rows  {file.get('digest', '?')[:19]}…"


def described(shown: Shown) -> list[str]:
    """A version, for people."""
    version, manifest = shown.version, shown.manifest
    lines = [
        f"{version.ref}  {version.message}".rstrip(),
        *([f"  {version.description}"] if version.description else []),
        f"  digest    {version.digest}",
        f"  method    {version.method}, rank {version.rank or '-'}",
        f"  base      {base_shown(version)}",
        *(
            f"            {level.value} ({'measured' if level.measured else 'claimed'})"
            for level in version.base.levels
        ),
        f"  {_CAME.get(version.origin, version.origin):<9} {times.local_and_ago(version.created)} {f'by {version.author}' if version.author else ''}".rstrip(),
    ]
    if version.aliases:
        lines.append(f"  aliases   {' '.join(version.aliases)}")
    if version.tags:
        lines.append(f"  tags      {' '.join(version.tags)}")
    if (training := manifest.facts.get("training")) is not None:
        lines += map(_data, training.get("data", ()))
        lines.append(f"  steps     {training.get('steps', '-')}, seed {training.get('seed', '-')}")
    lines += [f"  metric    {key} = {value:g}" for key, value in version.metrics.items()]
    lines += [
        f"  parent    {parent.label} × {parent.weight:g}  {parent.digest[:19]}…"
        for parent in shown.parents
    ]
    loss = manifest.facts.get("loss")
    if loss is not None and (error := loss.get("error")) is not None:
        of = "merged update" if len(shown.parents) > 1 else "update"
        lines.append(f"  loss      {error:.2g} of the {of}")
    lines += [f"  forced    {text}" for text in manifest.facts.get("forced", ())]
    lines += [f"  place     {placement.place}@{placement.number}" for placement in shown.placements]
    lines += [
        f"  file      {entry.path}  {entry.size:,} bytes"
        for entry in manifest.files + manifest.extras
    ]
    return [line for line in lines if line]
