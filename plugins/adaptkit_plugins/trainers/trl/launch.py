"""A run of several processes, one for each device: `accelerate launch …` or `torchrun …` starts this module in each."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.extend.training import TrainJob
from adaptkit.extend.training.process import MARK, RESULT, run_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend.training import TrainResult, TrainStep

_FIX = (
    "run it on one device first, without --launch; commands that work are 'torchrun --nproc-per-node 2' and "
    "'accelerate launch --config_file FILE'"
)


def launched(job: TrainJob, report: Callable[[TrainStep], None]) -> TrainResult:
    """Start the processes and follow the first."""
    return run_worker([*job.launch, "-m", __name__], job, report, fix=_FIX)


def work(file: Path) -> None:
    """One of the processes."""
    from adaptkit_plugins.trainers.trl.run import run

    job = TrainJob.from_json(json.loads(file.read_bytes()))
    first = os.environ.get("RANK", "0") == "0"
    stdout = sys.stdout

    def report(step: TrainStep) -> None:
        if first:
            stdout.write(MARK + json.dumps(asdict(step)) + "\n")
            stdout.flush()

    result = run(job, report)
    if first:
        data = asdict(result) | {"adapter": str(result.adapter)}
        (job.folder / RESULT).write_text(json.dumps(data))


if __name__ == "__main__":
    work(Path(sys.argv[1]))
