"""The `ray` executor: a Ray cluster that is there already, `--on ray://host:10001`.

`ray://host` connects as a Ray client to the head's client server, which `ray start --head` starts. GPUs and memory
that a task needs are Ray's own resources. `?shared=yes` behind the address says that the workers see this machine's
files; where all nodes run on this machine, that is known.
https://docs.ray.io/en/latest/cluster/running-applications/job-submission/ray-client.html
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from adaptkit.errors import ExecutorError, requires_extra
from adaptkit.extend.executor import Call, Capabilities, Executor, Outcome
from adaptkit.extend.executor.cluster_address import ClusterAddress, this_machine
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend.executor import TaskNeeds

PORT = 10001
CONNECTIONS = 3
"""How often a head is asked for a connection."""
TRIES = 3
"""How often a task is done again whose worker died."""


class Ray(Executor):
    """The nodes of a Ray cluster."""

    schemes = ("ray",)
    address = "HOST[:PORT]"
    summary = "the nodes of a Ray cluster: ray://host:10001"

    @classmethod
    def check_url(cls, url: str) -> None:
        ClusterAddress.parse(url, PORT)

    @classmethod
    def open(cls, url: str, *, workers: int | None, needs: TaskNeeds) -> Ray:
        """Connect to the head; refused when it has nothing that could take a task."""
        address = ClusterAddress.parse(url, PORT)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        with requires_extra("ray", "cannot use a Ray cluster"):
            import grpc  # noqa: F401  (the client needs it)
            import ray
        address.check("ray start --head")
        client = _connected(ray, address)
        try:
            with client:
                return cls(ray, client, address, needs)
        except BaseException:
            client.disconnect()
            raise

    def __init__(self, ray: Any, client: Any, address: ClusterAddress, needs: TaskNeeds) -> None:
        self._ray, self._client, self._address = ray, client, address
        self._running: set[Any] = set()
        self._ended = False
        nodes = [node for node in ray.nodes() if node["Alive"]]
        fitting = [
            node["Resources"]
            for node in nodes
            if node["Resources"].get("CPU", 0) >= 1
            and node["Resources"].get("GPU", 0) >= needs.gpus
            and node["Resources"].get("memory", 0) >= needs.memory
        ]
        if not fitting:
            asked = f"{needs.gpus:g} GPUs and " if needs.gpus else ""
            raise ExecutorError(
                f"the cluster at {address.host}:{address.port} has no node for this",
                why=f"a task asks for a core, {asked}{needs.memory / 1e9:.1f} GB of memory",
                fix=f"start one: ray start --address={address.host}:6379",
            )
        wanted = {"num_cpus": 1, "num_gpus": needs.gpus or None, "memory": needs.memory or None}
        options = {key: value for key, value in wanted.items() if value is not None}
        self._task = ray.remote(max_retries=TRIES, **options)(_run)
        shared = address.shared
        if shared is None:
            shared = self._all_here(nodes)
        self._capabilities = Capabilities(
            int(sum(one["CPU"] for one in fitting)),
            shared_files=shared,
            gpus=int(sum(one.get("GPU", 0) for one in fitting)),
            survives_lost_worker=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the nodes had when the head was asked."""
        return self._capabilities

    def start(self, call: Call) -> Future[Outcome]:
        """Have a worker run it; Ray gives it to another when its worker dies."""
        asked: Future[Outcome] = Future()
        with self._client:
            running = self._task.remote(call)
            inner = running.future()
        self._running.add(running)

        def finish(done: Future[Outcome]) -> None:
            self._running.discard(running)
            if not asked.set_running_or_notify_cancel():
                return
            if error := done.exception():
                asked.set_exception(self._explained(error, call))
            else:
                asked.set_result(done.result())

        def cancel(done: Future[Outcome]) -> None:
            if done.cancelled():
                self._cancel(running)

        asked.add_done_callback(cancel)
        inner.add_done_callback(finish)
        return asked

    def close(self, *, cancel: bool) -> None:
        """Close the connection; the cluster stays as it was found."""
        if self._ended:
            return
        self._ended = True
        running, self._running = self._running, set()
        for one in running:
            if cancel:
                self._cancel(one)
            else:
                with suppress(Exception), self._client:  # the one who asked has it in a future
                    self._ray.wait([one])
        self._client.disconnect()

    def _cancel(self, running: Any) -> None:
        with suppress(Exception), self._client:  # it may have ended, or the cluster with it
            self._ray.cancel(running, force=True)

    def _all_here(self, nodes: list[dict[str, Any]]) -> bool:
        """Whether every node of the cluster is this machine."""
        where = self._ray.remote(num_cpus=0, max_retries=TRIES)(_where)
        asked = [
            where.options(resources={f"node:{node['NodeManagerAddress']}": 0.001}).remote()
            for node in nodes
        ]
        try:
            return set(self._ray.get(asked, timeout=30)) == {this_machine()}
        except Exception:  # noqa: BLE001  (not known, then: no file is taken for granted)
            return False

    def _explained(self, error: BaseException, call: Call) -> BaseException:
        """What a failure of the cluster means."""
        errors = self._ray.exceptions
        if isinstance(error, errors.WorkerCrashedError | errors.OutOfMemoryError):
            return ExecutorError(
                f"{call.function} was given up",
                why=f"{TRIES + 1} workers died while it ran: out of memory, most likely",
                fix="look at the nodes' logs, or use nodes with more memory",
            )
        if isinstance(error, errors.RayTaskError):
            return ExecutorError(
                f"a worker cannot take {call.function}",
                why=f"adaptkit is missing or older there: {error.cause}",
                fix="install this version of adaptkit on every node",
            )
        if isinstance(error, errors.RayError | ConnectionError):
            return self._address.unusable(str(error).partition("\n")[0], "head")
        return error


def _run(call: Call) -> Outcome:
    return call.run()


def _connected(ray: Any, address: ClusterAddress) -> Any:
    """A connection of its own; a busy head may fail to start the process for it in time, so it is asked again."""
    for attempt in range(1, CONNECTIONS + 1):
        try:
            return ray.init(
                f"ray://{address.host}:{address.port}",
                allow_multiple=True,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:
            if not isinstance(error, ConnectionAbortedError) or attempt == CONNECTIONS:
                raise address.unusable(str(error), "head") from error
    raise AssertionError


def _where() -> str:
    return this_machine()


@hookimpl
def register_executors(register: Callable[[type[Executor]], None]) -> None:
    register(Ray)
