"""The `local` executor: processes of this machine, each with one BLAS thread.

Notable choices:
- processes are spawned, so that a task finds the same clean process here as on a cluster
- one thread for each process: what waits can be cancelled, and a process that dies takes no task of another with it;
  its own task is done again in a new one
- workers end with their parent, however that ended, and leave Ctrl-C to it
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TYPE_CHECKING, Any

from adaptkit.errors import ExecutorError
from adaptkit.extend.executor import Call, Capabilities, Executor, Outcome
from adaptkit.hookspecs import hookimpl
from adaptkit.io.machine.collection import put_off_collection
from adaptkit.io.machine.hardware import available_memory, cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend.executor import TaskNeeds

TRIES = 3
"""How many workers may die with a task before it is given up."""


class Local(Executor):
    """Processes of this machine."""

    schemes = ("local",)
    summary = "processes of this machine, one BLAS thread each"

    @classmethod
    def check_url(cls, url: str) -> None:
        if url.partition("://")[2]:
            raise ExecutorError(
                f"{url} has an address", why="local is this machine", fix="--on local"
            )

    @classmethod
    def open(cls, url: str, *, workers: int | None, needs: TaskNeeds) -> Local:
        """As many processes as there are cores, or as fit into memory."""
        cls.check_url(url)
        count = workers or cores()
        if needs.memory:
            count = max(1, min(count, available_memory() // needs.memory))
        return cls(count)

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="adaptkit-local")
        self._context = _Context()
        self._own = threading.local()
        self._lock = threading.Lock()
        self._pools: list[ProcessPoolExecutor] = []
        self._ended = False

    @property
    def capabilities(self) -> Capabilities:
        """Workers see this machine's files; a lost one is replaced."""
        return Capabilities(self._workers, shared_files=True, survives_lost_worker=True)

    def start(self, call: Call) -> Future[Outcome]:
        """Run it in a process; in a new one when its process died."""
        return self._threads.submit(self._run, call)

    def close(self, *, cancel: bool) -> None:
        """End the processes; with `cancel`, those that work on something too."""
        if cancel:
            with self._lock:
                self._ended = True
                self._context.end()
        self._threads.shutdown(cancel_futures=cancel)
        for pool in self._pools:
            pool.shutdown()
        self._pools.clear()

    def _run(self, call: Call) -> Outcome:
        """In a thread that has a process of its own."""
        for _ in range(TRIES):
            try:
                return self._process().submit(call.run).result()
            except BrokenProcessPool:
                self._own.pool = None
        raise ExecutorError(
            f"{call.function} was given up",
            why=f"{TRIES} workers died while it ran: out of memory, most likely",
            fix="leave out --on, or use a machine with more memory",
        )

    def _process(self) -> ProcessPoolExecutor:
        """The process of this thread; a new one where it has none, or where it died."""
        with self._lock:
            if self._ended:
                raise CancelledError
            pool: ProcessPoolExecutor | None = getattr(self._own, "pool", None)
            if pool is None:
                pool = ProcessPoolExecutor(1, mp_context=self._context, initializer=_begin_worker)
                self._own.pool = pool
                self._pools.append(pool)
            return pool


class _Context(SpawnContext):
    """Remembers the processes it starts, so that they can be ended."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        process = SpawnProcess(*args, **kwargs)
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in self._started:
            if process.pid is not None and process.is_alive():
                process.kill()


def _begin_worker() -> None:
    """In a new process: one BLAS thread, no Ctrl-C of its own, and no life without its parent.

    What its first task imports is not looked through for garbage: with torch and PEFT that is a quarter of the time.
    """
    put_off_collection()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel, os._exit), daemon=True).start()


def _end_with(sentinel: int, end: Callable[[int], Any]) -> None:
    connection.wait([sentinel])
    end(1)


@hookimpl
def register_executors(register: Callable[[type[Executor]], None]) -> None:
    register(Local)
