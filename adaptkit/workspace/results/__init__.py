"""What the operations of `Workspace` return."""

from adaptkit.workspace.results.adapters import Added, AddedAll, Logged, Pushed, RemovedAll, Shown
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
from adaptkit.workspace.results.names import names

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
