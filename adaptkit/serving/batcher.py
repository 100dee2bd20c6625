"""`Batcher`: requests of different adapters, run together, token by token.

Notable choices:
- one thread runs the model; a request joins the running batch between two tokens, when there is a row and a slot
- joining pads the shorter cache on the left; architectures whose cache cannot be padded finish their batch first
- an adapter that cannot share a batch waits for one of its own, and others wait for it: first come, first served
- the queue is bounded; who does not fit is refused at once and not kept waiting
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from inspect import signature
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, NoRoom, Refused
from adaptkit.serving import cache as kv
from adaptkit.serving.bank.silent import check_effect
from adaptkit.serving.sampling import Chosen, Sampling, choose, generator_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from adaptkit.serving.bank.bank import Bank

    Finish = str | AdaptkitError | Exception


@dataclass(eq=False, slots=True)
class Job:
    """One row: its prompt, its adapters by key, and whom to call with each token and at the end.

    The callbacks run in the batcher's thread and must not wait. `finish` gets `stop`, `length`,
    `cancelled`, or what went wrong.
    """

    prompt: Sequence[int]
    mixture: Mapping[str, float]
    sampling: Sampling
    token: Callable[[Chosen], bool]
    """Returns False when the row is done, such as after a stop text."""
    finish: Callable[[Finish], None]
    cancelled: bool = False
    came: float = field(default_factory=monotonic)
    made: int = 0
    last: int = 0
    generator: Any = None
    error: Exception | None = None
    """Why no token could be chosen for it."""


class Batcher:
    """Runs a model with its bank in a thread of its own. Close it."""

    def __init__(
        self,
        bank: Bank,
        *,
        rows: int = 16,
        queue: int = 64,
        ends: Sequence[int] = (),
        check: bool = False,
    ) -> None:
        self.bank, self.model = bank, bank.model
        self.limit, self.queue, self.ends = rows, queue, frozenset(ends)
        self.steps = self.tokens = self.widest = 0
        self.heard: set[str] | None = set() if check else None
        """The adapters that were found to have an effect; None where silent ones are served."""
        self._waiting: deque[Job] = deque()
        self._active: list[Job] = []
        self._cache: Any = None
        self._mask: Tensor | None = None
        self._changed = Condition()
        self._closed = False
        self._last_only = "logits_to_keep" in signature(self.model.forward).parameters
        self._thread = Thread(target=self._run, name="adaptkit-batcher", daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """How many rows run, and how many wait."""
        return len(self._active), len(self._waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue rows, all or none; `NoRoom` when the queue is full, `Refused` when they never fit."""
        if len(jobs) > self.queue:
            raise Refused(
                f"a request of {len(jobs)} results",
                why=f"the queue holds {self.queue}",
                fix="fewer prompts, a smaller n, or a server with a longer --queue",
            )
        with self._changed:
            if self._closed:
                raise NoRoom("the server is shutting down", why="it finishes what it has begun")
            if len(self._waiting) + len(jobs) > self.queue:
                raise NoRoom(
                    f"{len(self._waiting)} requests are waiting",
                    why=f"the queue holds {self.queue}",
                    fix="ask again in a moment, or --queue N for a longer one",
                )
            self._waiting.extend(jobs)
            self._changed.notify_all()

    def close(self, wait: float = 30.0) -> None:
        """Finish what runs and what waits, for so many seconds; then cancel the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(wait)
        for job in [*self._active, *self._waiting]:
            job.cancelled = True
        self._thread.join(5)

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        import torch

        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._active or self._closed)
                if not self._waiting and not self._active:
                    return
            try:
                with torch.inference_mode():
                    self._admit()
                    self._steps()
            except Exception as error:  # noqa: BLE001  (one bad batch must not end the server)
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        failed, self._active = self._active, []
        self._cache = self._mask = None
        for job in failed:
            job.finish(error)

    def _admit(self) -> None:
        """Prefill the requests that fit, and let them join."""
        new: list[Job] = []
        with self._changed:
            while self._waiting and self._fits(self._waiting[0], new):
                job = self._waiting.popleft()
                if job.cancelled:
                    job.finish("cancelled")
                else:
                    new.append(job)
        if not new:
            return
        new = [job for job in new if self._has_effect(job)]
        if not new:
            return
        try:
            cache, mask = self._prefill(new)
        except Exception as error:  # noqa: BLE001  (those that run go on)
            for job in new:
                job.finish(error)
            return
        going = [row for row, job in enumerate(new) if self._goes_on(job)]
        if not going:
            return
        if len(going) < len(new):
            mask = kv.keep(cache, mask, going)
        if self._active:
            assert self._mask is not None
            self._mask = kv.join(self._cache, self._mask, cache, mask)
        else:
            self._cache, self._mask = cache, mask
        self._active += [new[row] for row in going]
        self.widest = max(self.widest, len(self._active))

    def _fits(self, job: Job, new: list[Job]) -> bool:
        beside = [*self._active, *new]
        if not beside or job.cancelled:
            return True
        if len(beside) >= self.limit or (self._active and not kv.can_join(self._cache)):
            return False
        keys = {key for other in (*beside, job) for key in other.mixture}
        if self._alone(job) or self._alone(beside[0]):
            return not self._active and all(other.mixture == job.mixture for other in beside)
        return self.bank.can_hold(keys)

    def _has_effect(self, job: Job) -> bool:
        """Compare an adapter's first logits with the base's; a silent one ends its request with an error."""
        if self.heard is None:
            return True
        try:
            for key in job.mixture.keys() - self.heard:
                check_effect(self.bank, key)
                self.heard.add(key)
        except Exception as error:  # noqa: BLE001  (the others go on)
            job.finish(error)
            return False
        return True

    def _alone(self, job: Job) -> bool:
        try:
            return any(self.bank.why_alone(key) for key in job.mixture)
        except AdaptkitError:
            return False  # it fails where it is prefilled, with its reason

    def _prefill(self, new: list[Job]) -> tuple[Any, Tensor]:
        import torch

        length = max(len(job.prompt) for job in new)
        ids = torch.zeros(len(new), length, dtype=torch.long)
        mask = torch.zeros(len(new), length, dtype=torch.long)
        for row, job in enumerate(new):
            ids[row, length - len(job.prompt) :] = torch.tensor(job.prompt)
            mask[row, length - len(job.prompt) :] = 1
        device = self.model.device
        cache, mask = kv.new_cache(self.model), mask.to(device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        with self.bank.rows([job.mixture or None for job in new]):
            logits = self._forward(ids.to(device), mask, positions, cache)
        for job, row in zip(new, logits, strict=True):
            job.generator = generator_for(job.sampling)
            self._choose(job, row)
        return cache, mask

    def _steps(self) -> None:
        """Go on with the same rows until one is done or another can join."""
        import torch

        if not self._active:
            return
        assert self._mask is not None
        with self.bank.rows([job.mixture or None for job in self._active]):
            while True:
                ids = torch.tensor([[job.last] for job in self._active], device=self.model.device)
                self._mask = torch.cat([self._mask, self._mask.new_ones(len(ids), 1)], 1)
                positions = self._mask.sum(1, keepdim=True) - 1
                logits = self._forward(ids, self._mask, positions, self._cache)
                self.steps += 1
                for job, row in zip(self._active, logits, strict=True):
                    self._choose(job, row)
                going = [row for row, job in enumerate(self._active) if self._goes_on(job)]
                if len(going) < len(self._active) or self._someone_fits():
                    break
        if not going:
            self._active, self._cache, self._mask = [], None, None
        elif len(going) < len(self._active):
            self._mask = kv.keep(self._cache, self._mask, going)
            self._active = [self._active[row] for row in going]

    def _someone_fits(self) -> bool:
        with self._changed:
            return bool(self._waiting) and self._fits(self._waiting[0], [])

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """The logits of the last token of each row."""
        more = {"logits_to_keep": 1} if self._last_only else {}
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **more,
        )
        last: Tensor = out.logits[:, -1]
        return last

    def _choose(self, job: Job, logits: Tensor) -> None:
        try:
            chosen = choose(logits, job.sampling, job.generator)
        except Exception as error:  # noqa: BLE001  (the other rows of the batch go on)
            job.error = error
            return
        job.last, job.made = chosen.token, job.made + 1
        self.tokens += 1
        if chosen.token not in self.ends and not job.cancelled and not job.token(chosen):
            job.made = -1

    def _goes_on(self, job: Job) -> bool:
        """Whether a row needs another token; else its `finish` is called."""
        if job.cancelled:
            job.finish("cancelled")
        elif job.error:
            job.finish(job.error)
        elif job.made < 0 or job.last in self.ends:
            job.finish("stop")
        elif job.made >= job.sampling.max_tokens:
            job.finish("length")
        else:
            return True
        return False
