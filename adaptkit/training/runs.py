"""The folder of a run that may be interrupted: what was asked, the rows, the checkpoints; gone once it is registered.

A run is resumed only by the configuration and data it began with: another number of steps would heat the learning
rate up again (measured: 3e-5 → 4.8e-4), and other rows would not be the ones the checkpoint counts.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import Conflict, Refused, TrainingError
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.staging import pretty_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from adaptkit.training.settings.config import TrainConfig

_STATE = "trainer_state.json"  # transformers writes it last, so a checkpoint that has it is whole


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint: its folder, its step, and the last loss before it."""

    folder: Path
    step: int
    loss: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """The run of one name."""

    name: str
    folder: Path

    @property
    def _file(self) -> Path:
        return self.folder / "run.json"

    def recorded(self) -> dict[str, Any] | None:
        """What an earlier run of this name was asked, if it did not finish."""
        try:
            found = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def last_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; one that a full disk cut off is passed over."""
        found = []
        for state in (self.folder / "checkpoints").glob(f"checkpoint-*/{_STATE}"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                data = json.loads(state.read_bytes())
                losses = [entry["loss"] for entry in data["log_history"] if "loss" in entry]
                found.append(
                    Checkpoint(
                        state.parent, int(data["global_step"]), losses[-1] if losses else None
                    )
                )
        return max(found, key=lambda one: one.step, default=None)

    def begin(self, config: TrainConfig, *, fresh: bool) -> None:
        """Make the folder for a new run; what an interrupted one left is kept unless `fresh`."""
        left = self.last_checkpoint()
        if left is not None and not fresh:
            raise Refused(
                f"an interrupted run of {self.name} stands at step {left.step}",
                why="a new run would overwrite it",
                fix=f"go on with it: adaptkit train --name {self.name} --resume; or start anew with --fresh",
            )
        shutil.rmtree(self.folder, ignore_errors=True)
        with os_errors("write", self.folder):
            self.folder.mkdir(parents=True)
        atomic_write(self._file, pretty_json({"config": config.changed()}))

    def record_data(self, digests: Mapping[str, str]) -> None:
        """Remember the data, or refuse to go on with other data."""
        known = self.recorded() or {}
        before = known.get("data")
        if before is None:
            atomic_write(self._file, pretty_json(known | {"data": dict(digests)}))
        elif before != dict(digests):
            changed = sorted(
                label for label in {*before, *digests} if before.get(label) != digests.get(label)
            )
            raise Refused(
                f"cannot resume the run of {self.name}",
                why=f"the data changed since it began: {', '.join(changed)}",
                fix="put the old files back, or start anew with --fresh",
            )

    def to_resume(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], Checkpoint]:
        """The configuration to go on with, and the checkpoint; what is `given` must not differ from it."""
        known, checkpoint = self.recorded(), self.last_checkpoint()
        if known is None or checkpoint is None:
            raise TrainingError(
                f"there is no run of {self.name} to resume",
                why="it finished, or no checkpoint of it was saved",
                fix="start it without --resume",
            )
        config = dict(known["config"])
        for key, value in given.items():
            plain = list(value) if isinstance(value, tuple) else value
            if config.get(key) != plain:
                raise Refused(
                    f"cannot resume the run of {self.name} with another {key.replace('_', ' ')}",
                    why=f"it began with {config.get(key)!r}, now it is {plain!r}, and its schedule would not go on",
                    fix=f"adaptkit train --name {self.name} --resume, or start anew with --fresh",
                )
        return config, checkpoint

    def finish(self) -> None:
        """Remove the folder, once the result is registered."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the name against a second process that trains it."""
        import fcntl

        lock = self.folder.parent / f".{self.folder.name}.lock"
        with os_errors("write", lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"{self.name} is being trained by another process",
                    why="two runs would share its checkpoints",
                    fix="wait for it, or train under another --name",
                ) from error
            yield
