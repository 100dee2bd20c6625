"""Work on several items at a time: transfers of files, and numerical work over modules.

Numerical work has one BLAS thread per module, so that the bytes of a result do not depend on how many workers there are.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def module_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose work runs on one BLAS thread per worker; what has not begun is dropped on an exception."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_modules(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Iterator[Result]:
    """The results of `work` on each item, in the order of the items."""
    with module_pool(workers) as pool:
        yield from pool.map(work, items)


def run_transfers(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> list[Result]:
    """The results of `work` on each item, in their order; the first failure drops what has not begun."""
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in running]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
