"""Real processes: several let go at once, or one killed at work. Forked, so that they start at the same instant."""

from __future__ import annotations

import sys
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FORK = get_context("fork")


def at_once(works: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run each in a process of its own, all released together; their results in order, an exception as itself."""
    works = list(works)
    barrier = FORK.Barrier(len(works), timeout=60)

    def run(work: Callable[[], Any], end: Any) -> None:
        use_one_thread()
        barrier.wait()
        try:
            end.send(work())
        except Exception as error:
            end.send(error)

    running = []
    for work in works:
        here, there = FORK.Pipe(duplex=False)
        process = FORK.Process(target=run, args=(work, there))
        process.start()
        there.close()
        running.append((process, here))
    results = [here.recv() for _, here in running]
    for process, here in running:
        process.join()
        here.close()
        process.close()
    return results


def exit_code(work: Callable[[], Any]) -> int | None:
    """How a process ended that did some work, unless it was killed by what it did."""

    def run() -> None:
        use_one_thread()
        work()

    process = FORK.Process(target=run)
    process.start()
    process.join()
    code = process.exitcode
    process.close()
    return code


def use_one_thread() -> None:
    """In a forked process: the threads that torch has do not cross a fork, and it would wait for them."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


def killed(work: Callable[[], Any], after: float) -> bool:
    """Run it in a process and `kill -9` that after some seconds; whether it was still at work."""
    process = FORK.Process(target=work)
    process.start()
    process.join(after)
    was_working = process.is_alive()
    process.kill()
    process.join()
    process.close()
    return was_working
