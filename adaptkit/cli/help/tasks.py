"""The commands, grouped by what a person wants to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TASKS = {
    "Get started": "init demo status doctor config trust completion",
    "Keep adapters": "add list show log lineage path note rm restore export",
    "Name versions": "alias rollback rename",
    "Combine and compare": "merge compose recipe diff plot resize convert strip strategies methods",
    "Train and judge": "train generate chat eval calibrate distil search sweep",
    "Make full models": "bake extract",
    "Serve": "serve preflight",
    "Share": "push pull remote mirror sign card",
    "Pin a project's adapters": "lock sync outdated",
    "Know base models": "base",
    "Look after it all": "verify fsck gc info registry plugins",
}
MORE = "More commands"
CALLED = {
    "delete": "rm",
    "remove": "rm",
    "undelete": "restore",
    "register": "add",
    "import": "add",
    "inspect": "show",
    "ls": "list",
    "versions": "log",
    "history": "log",
    "tag": "note",
    "promote": "alias",
    "compare": "diff",
    "fuse": "bake",
    "upload": "push",
    "publish": "push",
    "download": "pull",
    "fetch": "pull",
    "clone": "pull",
    "install": "sync",
    "evaluate": "eval",
    "finetune": "train",
    "run": "generate",
}
"""What other tools call a command, and what it is called here."""


def grouped(names: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """The commands under the headings of their tasks; those without a task come last."""
    left = list(names)
    for task, members in TASKS.items():
        if found := [name for name in members.split() if name in left]:
            yield task, found
            left = [name for name in left if name not in found]
    if left:
        yield MORE, left
