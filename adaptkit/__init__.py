"""adaptkit looks after model adapters for their whole life.

The names below are the public surface. They are loaded when first used (PEP 562), so that
`import adaptkit` costs nothing and loads neither numpy nor SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptkit.errors import AdaptkitError as AdaptkitError
    from adaptkit.extend import AdapterMethod as AdapterMethod
    from adaptkit.extend import Engine as Engine
    from adaptkit.extend import MergeStrategy as MergeStrategy
    from adaptkit.extend import StorageBackend as StorageBackend
    from adaptkit.extend import Trainer as Trainer
    from adaptkit.hookspecs import hookimpl as hookimpl
    from adaptkit.workspace import Workspace as Workspace

    __version__: str

_HOMES = {
    "AdapterMethod": "adaptkit.extend",
    "AdaptkitError": "adaptkit.errors",
    "Engine": "adaptkit.extend",
    "MergeStrategy": "adaptkit.extend",
    "StorageBackend": "adaptkit.extend",
    "Trainer": "adaptkit.extend",
    "Workspace": "adaptkit.workspace",
    "hookimpl": "adaptkit.hookspecs",
}

__all__ = [
    "AdapterMethod",
    "AdaptkitError",
    "Engine",
    "MergeStrategy",
    "StorageBackend",
    "Trainer",
    "Workspace",
    "__version__",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from adaptkit.errors import distribution

        return distribution()[1]
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'adaptkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
