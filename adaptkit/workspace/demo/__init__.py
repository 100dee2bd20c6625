"""`adaptkit demo`: small trained adapters to try things with.

`fleet/` beside this page holds a two-layer Llama that was trained on a ship's polite reports, and
two LoRA adapters on it (`examples/fleet` trains them), all in float16: under 1 MB together.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from adaptkit.io.files import os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import empty_target, rename_into, staging

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from adaptkit.workspace.context.context import Context


@dataclass(frozen=True, slots=True)
class Demo:
    """Where the demo was written: the base model, and its adapters by name."""

    base: Path
    adapters: tuple[tuple[str, Path], ...]

    def to_json(self) -> dict[str, Any]:
        adapters = [{"name": name, "path": str(path)} for name, path in self.adapters]
        return {"base": str(self.base), "adapters": adapters}


def write_demo(_context: Context, folder: str | os.PathLike[str]) -> Demo:
    """Write a tiny base model and two trained adapters into a new folder."""
    target = empty_target(user_path(folder))
    with staging(target.parent) as work, as_file(files(__package__) / "fleet") as source:
        with os_errors("write", work / "fleet"):
            shutil.copytree(source, work / "fleet")
        rename_into(work / "fleet", target)
    return Demo(target / "ship", tuple((name, target / name) for name in ("medic", "naval")))
