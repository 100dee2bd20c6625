"""Where tasks run, as `--on`, ADAPTKIT_EXECUTOR or `config.toml` say: checked where it is read, before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import ExecutorError, NotFound

if TYPE_CHECKING:
    from adaptkit.plugin.manager import Plugins
    from adaptkit.workspace.context.context import Context


def executor_url(context: Context, on: str | None) -> str | None:
    """The URL of the executor in force, which is known and whose address has the right form; None for this process."""
    if on:
        check_executor(context.plugins, on)
        return on
    config = context.config
    if config.executor:
        check_executor(context.plugins, config.executor, config.executor_from)
    return config.executor or None


def check_executor(plugins: Plugins, url: str, said_by: str = "") -> None:
    """Refuse an executor that no plugin has, or an address that it cannot have.

    `said_by` names what says so, where that is not an option of the command.
    """
    scheme = url.partition("://")[0]
    at = f" (as {said_by} says)" if said_by else ""
    try:
        plugins.executor_for(url).check_url(url)
    except NotFound as error:
        written = {
            one: f"{one}://{kind.address}" if kind.address else one
            for kind in plugins.executors()
            for one in kind.schemes
        }
        raise NotFound(f"executor{at}", scheme, written, written=written, fix=error.fix) from error
    except ExecutorError as error:
        raise ExecutorError(f"{error.what}{at}", why=error.why, fix=error.fix) from error
