"""What plugins subclass and may import.

Small abstract classes, and the values that pass between them and the core.

Subclasses set the documented class attributes, implement the abstract methods (one to five), and
may override the rest; every other method has a default, so an old plugin keeps working when a new
method is added here.

The names are loaded when first used (PEP 562): what reads a configuration needs one of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptkit.extend.commands import pass_workspace as pass_workspace
    from adaptkit.extend.executor import Executor as Executor
    from adaptkit.extend.method import AdapterMethod as AdapterMethod
    from adaptkit.extend.method import AdapterView as AdapterView
    from adaptkit.extend.method import AddLowRank as AddLowRank
    from adaptkit.extend.method import Applier as Applier
    from adaptkit.extend.method import Array as Array
    from adaptkit.extend.method import Delta as Delta
    from adaptkit.extend.method import Dense as Dense
    from adaptkit.extend.method import LowRank as LowRank
    from adaptkit.extend.method import Model as Model
    from adaptkit.extend.method import Module as Module
    from adaptkit.extend.method import Rows as Rows
    from adaptkit.extend.method import Translated as Translated
    from adaptkit.extend.serving import Engine as Engine
    from adaptkit.extend.storage import Bundle as Bundle
    from adaptkit.extend.storage import Promise as Promise
    from adaptkit.extend.storage import PushOptions as PushOptions
    from adaptkit.extend.storage import StorageBackend as StorageBackend
    from adaptkit.extend.strategy import MergeStrategy as MergeStrategy
    from adaptkit.extend.strategy import Moment as Moment
    from adaptkit.extend.strategy import NoParams as NoParams
    from adaptkit.extend.strategy import P as P
    from adaptkit.extend.strategy import Space as Space
    from adaptkit.extend.training import Trainer as Trainer
    from adaptkit.io.progress.progress import Progress as Progress
    from adaptkit.io.progress.progress import no_progress as no_progress
    from adaptkit.types import TensorInfo as TensorInfo

_HOMES = {
    "AdapterMethod": "adaptkit.extend.method",
    "AdapterView": "adaptkit.extend.method",
    "AddLowRank": "adaptkit.extend.method",
    "Applier": "adaptkit.extend.method",
    "Bundle": "adaptkit.extend.storage",
    "Delta": "adaptkit.extend.method",
    "Dense": "adaptkit.extend.method",
    "Engine": "adaptkit.extend.serving",
    "Executor": "adaptkit.extend.executor",
    "LowRank": "adaptkit.extend.method",
    "MergeStrategy": "adaptkit.extend.strategy",
    "Model": "adaptkit.extend.method",
    "Module": "adaptkit.extend.method",
    "Moment": "adaptkit.extend.strategy",
    "NoParams": "adaptkit.extend.strategy",
    "P": "adaptkit.extend.strategy",
    "Progress": "adaptkit.io.progress.progress",
    "Promise": "adaptkit.extend.storage",
    "PushOptions": "adaptkit.extend.storage",
    "Rows": "adaptkit.extend.method",
    "Space": "adaptkit.extend.strategy",
    "StorageBackend": "adaptkit.extend.storage",
    "TensorInfo": "adaptkit.types",
    "Trainer": "adaptkit.extend.training",
    "Translated": "adaptkit.extend.method",
    "no_progress": "adaptkit.io.progress.progress",
    "pass_workspace": "adaptkit.extend.commands",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found
    raise AttributeError(f"module 'adaptkit.extend' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
