"""Open the executor that was asked for, and have it do tasks in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.extend.executor import TaskNeeds
from adaptkit.workspace.context.executor import executor_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from adaptkit.extend import Executor
    from adaptkit.workspace.context.context import Context


def open_executor(
    context: Context,
    on: str | None,
    *,
    workers: int | None = None,
    gpus: float = 0.0,
    memory: int = 0,
) -> Executor | None:
    """The executor of `--on`, else that of ADAPTKIT_EXECUTOR or config.toml; None when the work stays in this process."""
    url = executor_url(context, on)
    if url is None:
        return None
    return context.plugins.executor_for(url).open(
        url, workers=workers, needs=TaskNeeds(gpus, memory)
    )


def in_order(
    executor: Executor,
    function: Callable[..., Any],
    arguments: Iterable[Sequence[Any]],
    done: Callable[[int], Any] = lambda index: None,
) -> Iterator[Any]:
    """What each task returned, in the order of the arguments; the first error drops the rest.

    `done` is called with each index as its result is taken.
    """
    futures = [executor.submit(function, *one) for one in arguments]
    try:
        for index, future in enumerate(futures):
            yield future.result()
            done(index)
    finally:
        for future in futures:
            future.cancel()
