"""The `dask` executor: the workers of a Dask cluster that is there already, `--on dask://host:port`.

`?shared=yes` behind the address says that the workers see this machine's files; where all of them run on this
machine, that is known. GPUs are the resource `GPU` of workers (`dask worker --resources GPU=1`).
https://distributed.dask.org/en/stable/client.html
"""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from adaptkit.errors import ExecutorError, requires_extra
from adaptkit.extend.executor import Call, Capabilities, Executor, Outcome
from adaptkit.extend.executor.cluster_address import WAIT, ClusterAddress, this_machine
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend.executor import TaskNeeds

PORT = 8786
TRIES = 3
"""How many workers may die with a task before it is given up."""


class Dask(Executor):
    """The workers of a Dask cluster."""

    schemes = ("dask",)
    address = "HOST[:PORT]"
    summary = "the workers of a Dask cluster: dask://host:8786"

    @classmethod
    def check_url(cls, url: str) -> None:
        ClusterAddress.parse(url, PORT)

    @classmethod
    def open(cls, url: str, *, workers: int | None, needs: TaskNeeds) -> Dask:
        """Connect to the scheduler; refused when it has no worker that could take a task."""
        address = ClusterAddress.parse(url, PORT)
        with requires_extra("dask", "cannot use a Dask cluster"):
            from distributed import Client
        address.check("dask scheduler")
        try:
            client = Client(
                f"tcp://{address.host}:{address.port}", timeout=WAIT, set_as_default=False
            )
        except Exception as error:
            raise address.unusable(str(error), "scheduler") from error
        try:
            return cls(client, address, needs)
        except BaseException:
            client.close(timeout=WAIT)
            raise

    def __init__(self, client: Any, address: ClusterAddress, needs: TaskNeeds) -> None:
        self._client, self._address, self._needs = client, address, needs
        self._running: set[Any] = set()
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=WAIT)
        found = list(client.scheduler_info(n_workers=-1)["workers"].values())
        if needs.gpus:
            found = [w for w in found if w.get("resources", {}).get("GPU", 0) >= needs.gpus]
        if needs.memory:
            found = [w for w in found if w["memory_limit"] >= needs.memory]
        if not found:
            asked = f"{needs.gpus:g} GPUs and " if needs.gpus else ""
            raise ExecutorError(
                f"the cluster at {address.host}:{address.port} has no worker for this",
                why=f"a task asks for {asked}{needs.memory / 1e9:.1f} GB of memory",
                fix=f"start one: dask worker {address.host}:{address.port}",
            )
        shared = address.shared
        if shared is None:
            machines = client.run(this_machine, on_error="return")
            shared = set(machines.values()) == {this_machine()}
        self._capabilities = Capabilities(
            sum(worker["nthreads"] for worker in found),
            shared_files=shared,
            gpus=int(sum(worker.get("resources", {}).get("GPU", 0) for worker in found)),
            survives_lost_worker=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the workers had when the scheduler was asked."""
        return self._capabilities

    def start(self, call: Call) -> Future[Outcome]:
        """Have a worker run it; Dask gives it to another when its worker dies."""
        asked: Future[Outcome] = Future()
        more = {"resources": {"GPU": self._needs.gpus}} if self._needs.gpus else {}
        running = self._client.submit(call.run, pure=False, retries=TRIES, **more)
        self._running.add(running)

        def finish(done: Any) -> None:
            self._running.discard(done)
            if not asked.set_running_or_notify_cancel():
                return
            try:
                asked.set_result(self._result(done))
            except BaseException as error:  # noqa: BLE001  (whatever it is, the one who waits gets it)
                asked.set_exception(self._explained(error, call))

        asked.add_done_callback(lambda done: done.cancelled() and running.cancel())
        running.add_done_callback(finish)
        return asked

    def _result(self, done: Any) -> Outcome:
        """What a task returned. The worker that has it may have died since: then another one does the task again."""
        for _ in range(TRIES):
            with suppress(TimeoutError):
                outcome: Outcome = done.result(timeout=WAIT)
                return outcome
            if self._client.status != "running":
                break
        raise TimeoutError

    def close(self, *, cancel: bool) -> None:
        """Close the connection; the cluster stays as it was found."""
        running, self._running = self._running, set()
        if self._client.status == "closed":
            return
        if running and cancel:
            self._client.cancel(list(running), force=True)
        elif running:
            from distributed import wait as wait_for

            with suppress(Exception):  # what failed is in the future of the one who asked
                wait_for(list(running))
        self._client.close(timeout=WAIT)

    def _explained(self, error: BaseException, call: Call) -> BaseException:
        """What a failure of the cluster means."""
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return ExecutorError(
                f"{call.function} was given up",
                why="several workers died while it ran: out of memory, most likely",
                fix="look at the workers' logs, or use workers with more memory",
            )
        if isinstance(error, ImportError | AttributeError):
            return ExecutorError(
                f"a worker cannot take {call.function}",
                why=f"adaptkit is missing or older there: {error}",
                fix="install this version of adaptkit on every worker",
            )
        if isinstance(error, CancelledError | TimeoutError):
            return self._address.unusable(
                "the scheduler went away, or dropped the task", "scheduler"
            )
        return error


@hookimpl
def register_executors(register: Callable[[type[Executor]], None]) -> None:
    register(Dask)
