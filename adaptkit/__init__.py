"""adaptkit looks after model adapters for their whole life.

The names below are the public surface. They are loaded when first used (PEP 562), so that
`import adaptkit` costs nothing and loads neither numpy nor SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptkit.errors import AdaptkitError as AdaptkitError
    from adaptkit.hookspecs import hookimpl as hookimpl
    from adaptkit.workspace import Workspace as Workspace

__version__ = "0.1.0"

_HOMES = {
    "AdaptkitError": "adaptkit.errors",
    "Workspace": "adaptkit.workspace",
    "hookimpl": "adaptkit.hookspecs",
}

__all__ = ["AdaptkitError", "Workspace", "__version__", "hookimpl"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'adaptkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
