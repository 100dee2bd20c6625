"""For trainers that run in processes of their own: the job goes over as a file, progress comes back line by line.

A worker reads the job (`TrainJob.to_json`) from the file it is given, prints a line for each logged step (`MARK` and
the fields of a `TrainStep` as JSON), and writes the fields of its `TrainResult` to `result.json` in the job's folder.
It runs in a process group of its own, so that Ctrl-C reaches it once, from here: it finishes its step, saves a
checkpoint and writes a result that is `interrupted`. A second Ctrl-C ends it at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit.errors import TrainingError
from adaptkit.extend.training import TrainResult, TrainStep
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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
    last, asked = "", list[int]()
    try:
        with _running(
            [*command, str(file)],
            asked,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "OMP_WAIT_POLICY": "passive", **(environment or {})},
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                other, mark, step = line.partition(MARK)  # a progress bar ends no line
                if mark and (logged := _step(step)):
                    report(logged)
                else:
                    last = (last + other)[-_SHOWN:]
    except OSError as error:
        raise TrainingError(
            f"cannot start '{command[0]}'", why=error.strerror or str(error), fix=fix
        ) from error
    if asked and not out.is_file():
        raise KeyboardInterrupt
    if (process.returncode and not asked) or not out.is_file():
        lines = [line for line in last.splitlines() if line.strip()]
        raise TrainingError(
            f"the training that '{command[0]}' started ended with {process.returncode}",
            why=lines[-1].strip() if lines else "it wrote nothing",
            fix=fix,
        )
    data = json.loads(out.read_bytes())
    losses = tuple((int(step), float(loss)) for step, loss in data["losses"])
    return TrainResult(**data | {"adapter": Path(data["adapter"]), "losses": losses})


def _step(text: str) -> TrainStep | None:
    """A step as a worker printed it; None of a line that was cut off or mixed with another's."""
    try:
        return TrainStep(**json.loads(text))
    except (ValueError, TypeError):
        return None


@contextmanager
def _running(
    command: Sequence[str], asked: list[int], **how: Any
) -> Iterator[subprocess.Popen[str]]:
    """A worker, to which the signals that this process gets (`asked`) are passed on; none is left behind."""

    def pass_on(number: int, _frame: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt
        process.send_signal(signal.SIGINT)

    handlers = {}
    with subprocess.Popen(command, process_group=0, **how) as process:
        try:
            with suppress(ValueError):  # not the main thread
                for number in (signal.SIGINT, signal.SIGTERM):
                    handlers[number] = signal.signal(number, pass_on)
            yield process
            process.wait()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if asked or process.poll() is None:  # a launcher that ends may leave its own behind
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
