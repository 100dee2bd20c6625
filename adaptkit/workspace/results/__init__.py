"""What the operations of `Workspace` return; each part is loaded when one of its names is first used (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adaptkit.workspace.results.names import names

if TYPE_CHECKING:
    from adaptkit.workspace.results.adapters import (
        Added,
        AddedAll,
        Logged,
        Pushed,
        RemovedAll,
        Shown,
    )
    from adaptkit.workspace.results.home import Info, Probed, Signed, Verified
    from adaptkit.workspace.results.made import (
        Baked,
        Calibrated,
        Extracted,
        Merged,
        PlannedBake,
        Stripped,
        Trained,
    )

__all__ = [
    "Added",
    "AddedAll",
    "Baked",
    "Calibrated",
    "Extracted",
    "Info",
    "Logged",
    "Merged",
    "PlannedBake",
    "Probed",
    "Pushed",
    "RemovedAll",
    "Shown",
    "Signed",
    "Stripped",
    "Trained",
    "Verified",
    "names",
]

_PARTS = ("adapters", "home", "made")


def __getattr__(name: str) -> Any:
    for part in _PARTS if name in __all__ else ():
        module = import_module(f"{__name__}.{part}")
        if name in vars(module):
            found = globals()[name] = getattr(module, name)
            return found
    raise AttributeError(f"module '{__name__}' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
