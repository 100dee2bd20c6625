"""The gateway that resolves aliases before vLLM, on the adapters of a workspace."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from adaptkit.serving.api.keys import Keys
from adaptkit.serving.engines.gateway import make_gateway
from adaptkit.workspace.lookup.artifacts import find_version
from adaptkit.workspace.lookup.bases import find_base
from adaptkit.workspace.serving.serve import (
    WorkspaceAdapters,
    deployable,
    key_table,
    say_taken_names,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.applications import Starlette

    from adaptkit.serving.composition import Reference
    from adaptkit.workspace.context.context import Context


class EngineVersions:
    """Versions that an engine applies as a whole, each checked once."""

    def __init__(self, context: Context, base: str, engine: str, rank_limit: int) -> None:
        self._context, self._base, self._engine, self._limit = context, base, engine, rank_limit
        self._adapters = WorkspaceAdapters(context, find_base(context, base).identity)
        self._lock = Lock()
        self._folders: dict[str, Path] = {}

    def folder(self, ref: Reference) -> tuple[str, Path]:
        """The version that a reference means now, and its verified folder; `Refused` when the engine would not apply it."""
        with self._lock:
            version = find_version(self._context, ref)
            if version.digest not in self._folders:
                _, self._folders[version.digest] = deployable(
                    self._context, version.ref, self._base, self._engine, rank_limit=self._limit
                )
        return version.ref, self._folders[version.digest]

    def names(self) -> Sequence[str]:
        """Each adapter of the registry as a request names it, followed by its aliases."""
        return self._adapters.names()


def gateway_app(
    context: Context,
    base: str,
    url: str,
    *,
    engine: str = "vllm",
    rank_limit: int = 16,
    keys: str | os.PathLike[str] | None = None,
) -> Starlette:
    """The HTTP application before the engine at `url`, which serves `base` with ranks up to `rank_limit`.

    A request's alias becomes the version that it means now, loaded before the request goes on. `keys` is a TOML file
    whose table `[keys]` gives each API key its namespaces.
    """
    allowed = Keys({}) if keys is None else Keys.from_table(key_table(keys), str(keys))
    say_taken_names(context)
    return make_gateway(url, EngineVersions(context, base, engine, rank_limit), allowed)
