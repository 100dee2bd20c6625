"""For trainers that run in processes of their own: the job goes over as a file, progress comes back line by line.

A worker reads the job (`TrainJob.to_json`) from the file it is given, prints a line for each logged step (`MARK` and
the fields of a `TrainStep` as JSON), and writes the fields of its `TrainResult` to `result.json` in the job's folder.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import TrainingError
from adaptkit.extend.training import TrainResult, TrainStep
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.extend.training import TrainJob

MARK = "adaptkit-step "
JOB, RESULT = "job.json", "result.json"
_SHOWN = 4000  # characters of what a failed worker wrote last


def run_worker(
    command: Sequence[str],
    job: TrainJob,
    report: Callable[[TrainStep], None],
    environment: Mapping[str, str] | None = None,
    *,
    fix: str = "",
) -> TrainResult:
    """Start `command` with the job's file as its last argument, follow it, and read what came out."""
    file, out = job.folder / JOB, job.folder / RESULT
    out.unlink(missing_ok=True)
    with os_errors("write", file):
        file.write_text(json.dumps(job.to_json()))
    last = ""
    try:
        with subprocess.Popen(
            [*command, str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "OMP_WAIT_POLICY": "passive", **(environment or {})},
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(MARK):
                    report(TrainStep(**json.loads(line[len(MARK) :])))
                else:
                    last = (last + line)[-_SHOWN:]
    except OSError as error:
        raise TrainingError(
            f"cannot start '{command[0]}'", why=error.strerror or str(error), fix=fix
        ) from error
    if process.returncode or not out.is_file():
        lines = [line for line in last.splitlines() if line.strip()]
        raise TrainingError(
            f"the training that '{command[0]}' started ended with {process.returncode}",
            why=lines[-1].strip() if lines else "it wrote nothing",
            fix=fix,
        )
    data = json.loads(out.read_bytes())
    losses = tuple((int(step), float(loss)) for step, loss in data["losses"])
    return TrainResult(**data | {"adapter": Path(data["adapter"]), "losses": losses})
