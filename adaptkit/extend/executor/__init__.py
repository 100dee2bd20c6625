"""`Executor`: runs tasks somewhere, in other processes or on a cluster that is there already.

Notable choices:
- shaped as `concurrent.futures.Executor`: `submit` returns a future, `shutdown` ends it, a `with` block does both
- a task is data: the name of a function and small pickled arguments (digests, module names, a recipe, a URL),
  never an open file or a model; more than `LARGEST` bytes are refused where they are submitted
- the versions of what a result may depend on travel with each task, and a worker with others refuses it
- an exception that cannot travel comes back as `TaskError` with its type and its message
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self

from adaptkit.errors import AdaptkitError, ExecutorError, TaskError, distribution, install_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

LARGEST = 1 << 18
"""The most bytes that the arguments of one task may have."""
LIBRARIES = ("numpy", "torch", "transformers", "peft")
"""What a result may depend on besides adaptkit."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the workers of a running executor have; data, so that the core can decide by it."""

    workers: int
    """How many tasks run at a time."""
    shared_files: bool
    """Whether workers see this machine's files under the same paths."""
    gpus: int = 0
    survives_lost_worker: bool = False
    """Whether the task of a worker that dies is done again on another."""


@dataclass(frozen=True, slots=True)
class TaskNeeds:
    """What each task asks of its worker: GPUs (a share of one will do) and bytes of memory."""

    gpus: float = 0.0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One task on its way: what to call, with which arguments, made with which versions."""

    function: str  # "module:name"
    arguments: bytes
    versions: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Self:
        """Pack a call; `ExecutorError` when the function has no name to import or the arguments are too large."""
        name = f"{function.__module__}:{getattr(function, '__qualname__', '')}"
        if name.startswith("__main__:") or _named(name) != function:
            raise ExecutorError(
                f"{name} cannot be a task",
                why="a worker could not import it by its name",
                fix="put the function into a module, at its top",
            )
        packed = pickle.dumps(arguments)
        if len(packed) > LARGEST:
            raise ExecutorError(
                f"the arguments of {name} have {len(packed):,} bytes",
                why=f"a task may have {LARGEST:,}: it names things and does not carry them",
                fix="give a digest, and let the worker fetch the bytes",
            )
        return cls(name, packed, versions())

    def run(self) -> Outcome:
        """Do the task, on a worker. Nothing is raised but an interrupt: what fails is part of the outcome."""
        from adaptkit.io.machine.libraries import quiet_libraries

        try:
            with quiet_libraries():
                check_versions(self.versions)
                function, arguments = _named(self.function), pickle.loads(self.arguments)  # noqa: S301
                return Outcome(value=function(*arguments))
        except Exception as error:  # noqa: BLE001  (whatever a task raises goes back to the one who asked)
            return Outcome(error=_portable(error))


def _named(function: str) -> Any:
    """What "module:name" stands for; None when there is no such thing."""
    module, _, name = function.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: with a value, or with an error."""

    value: Any = None
    error: Exception | None = None


def _hand_over(running: Future[Outcome], asked: Future[Any]) -> None:
    """The outcome of a task to the future that was handed out for it."""
    if running.cancelled():
        asked.cancel()
    if not asked.set_running_or_notify_cancel():
        return
    error = running.exception()
    outcome = Outcome() if error else running.result()
    if error or outcome.error:
        asked.set_exception(error or outcome.error)
    else:
        asked.set_result(outcome.value)


class Executor(ABC):
    """Workers that are ready: one is opened for a job and shut down after it.

    ```python
    with Nodes.open("nodes://10.0.0.1", workers=None, needs=TaskNeeds()) as executor:
        future = executor.submit(measure, "sha256:…")
    ```
    """

    schemes: ClassVar[tuple[str, ...]]
    """The URL schemes of `--on SCHEME://ADDRESS`; an executor without an address is named by the scheme alone."""
    address: ClassVar[str] = ""
    """What an address looks like in error messages, such as `HOST[:PORT]`; empty for an executor without one."""
    summary: ClassVar[str] = ""
    """One line for `adaptkit plugins`."""

    @classmethod  # noqa: B027  (not every executor has an address)
    def check_url(cls, url: str) -> None:
        """Refuse a URL that could never be opened, before any work is done; `ExecutorError` shows the form."""

    @classmethod
    @abstractmethod
    def open(cls, url: str, *, workers: int | None, needs: TaskNeeds) -> Self:
        """Start the workers, or connect to them.

        `workers` is for executors that start their own; a cluster has those it has. Raises `MissingExtra`, or
        `ExecutorError` when no cluster can be reached.
        """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the workers have now."""

    @abstractmethod
    def start(self, call: Call) -> Future[Outcome]:
        """Have a worker run `call.run()`.

        The future's own exception is a failure of the executor, such as a cluster that went away; cancelling it drops
        a task that has not begun.
        """

    @abstractmethod
    def close(self, *, cancel: bool) -> None:
        """Let go of the workers, after what runs and waits; with `cancel`, at once. May be called twice."""

    @cached_property
    def _waited_for(self) -> set[Future[Any]]:
        return set()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Have a worker call a function that it can import, with small arguments; the future has what it returns."""
        running = self.start(Call.of(function, arguments))
        asked: Future[Any] = Future()
        self._waited_for.add(asked)
        running.add_done_callback(lambda done: _hand_over(done, asked))
        asked.add_done_callback(lambda done: done.cancelled() and running.cancel())
        asked.add_done_callback(self._waited_for.discard)
        return asked

    def shutdown(self, *, cancel_futures: bool = False) -> None:
        """Wait for what was submitted and let go of the workers; with `cancel_futures`, every future ends now."""
        if cancel_futures:
            for future in list(self._waited_for):
                future.cancel()
        self.close(cancel=cancel_futures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown(cancel_futures=kind is not None)


# ---------------------------------------------------------------- versions and errors that travel


@cache
def versions() -> tuple[tuple[str, str], ...]:
    """The versions here of what a result may depend on; of what is not installed, none."""
    from importlib.metadata import PackageNotFoundError, version

    found = [("adaptkit", distribution()[1])]
    for name in LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def check_versions(asked: tuple[tuple[str, str], ...]) -> None:
    """Refuse a task whose versions are not those of this worker."""
    here = dict(versions())
    other = [
        f"{name} is {here.get(name, 'missing')} here and {wanted} where the task comes from"
        for name, wanted in asked
        if here.get(name) != wanted
    ]
    if other:
        import platform

        wanted = " ".join(f"{n}=={v}" for n, v in asked if here.get(n) != v and n != "adaptkit")
        line = install_line() if dict(asked)["adaptkit"] != here["adaptkit"] else ""
        raise TaskError(
            f"the worker {platform.node()} refuses the task",
            why="; ".join(other),
            fix="install the same there: "
            + " and ".join(filter(None, (line, wanted and f"pip install {wanted}"))),
        )


def _portable(error: Exception) -> Exception:
    """The error itself, if it arrives as it left; else one that has its type and message."""
    try:
        arrived = pickle.loads(pickle.dumps(error))  # noqa: S301
        if type(arrived) is type(error) and str(arrived) == str(error):
            return error
    except Exception:  # noqa: BLE001, S110  (one that cannot travel says so in many ways)
        pass
    if isinstance(error, AdaptkitError):
        return TaskError(error.what, why=error.why, fix=error.fix)
    return TaskError(f"a task failed with {type(error).__name__}", why=str(error))
