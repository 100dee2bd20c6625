"""What a run reports while it goes: loss, speed, time left; and how it stops on Ctrl-C or on a loss that is no number."""

from __future__ import annotations

import math
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any, Self

from transformers import TrainerCallback

from adaptkit.errors import TrainingError
from adaptkit.extend.training import TrainStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend.training import TrainJob


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Collects the losses, and ends a step cleanly when asked to stop."""

    def __init__(self, job: TrainJob, report: Callable[[TrainStep], None]) -> None:
        self.losses: list[tuple[int, float]] = []
        self.eval_losses: list[tuple[int, float]] = []
        self.first_step = 0
        self.interrupted = False
        self._options, self._report = job.options, report
        self._checkpoints = job.folder / "checkpoints"
        self._started = 0.0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._handlers[number] = signal.signal(number, self._stop)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._started, self.first_step = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        logs = logs or {}
        done, seconds = state.global_step - self.first_step, time.monotonic() - self._started
        if (loss := logs.get("loss")) is not None:
            if not math.isfinite(float(loss)):
                shutil.rmtree(self._checkpoints, ignore_errors=True)  # they lead there again
                raise TrainingError(
                    f"the loss is {float(loss)} at step {state.global_step}",
                    why=f"training diverged at a learning rate of {self._options.lr:g}",
                    fix=f"try a lower one: --lr {self._options.lr / 10:g}",
                )
            self.losses.append((state.global_step, float(loss)))
        elif (eval_loss := logs.get("eval_loss")) is not None:
            self.eval_losses.append((state.global_step, float(eval_loss)))
        else:
            return
        world = max(1, args.world_size)
        rows = done * args.per_device_train_batch_size * args.gradient_accumulation_steps * world
        self._report(
            TrainStep(
                step=state.global_step,
                steps=state.max_steps,
                loss=None if loss is None else float(loss),
                lr=logs.get("learning_rate"),
                rows_per_second=rows / seconds if seconds else None,
                seconds_left=(state.max_steps - state.global_step) * seconds / done
                if done
                else None,
                eval_loss=logs.get("eval_loss"),
            )
        )
