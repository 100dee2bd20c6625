"""Publishing that is about to happen: an artifact of a few text files, for reviews to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import artifacts

from adaptkit.extend.review import Publish, Reviews
from adaptkit.types import Version

if TYPE_CHECKING:
    from pathlib import Path


def publish(
    folder: Path,
    contents: dict[str, bytes],
    *,
    enable: tuple[str, ...] = (),
    disable: tuple[str, ...] = (),
    message: str = "",
    **more: Any,
) -> Publish:
    bundle = artifacts.bundle(folder, {"adapter_config.json": b"{}"} | contents, **more)
    made = bundle.manifest
    version = Version(
        "naval", 1, made.digest, made.method, made.rank, made.base, "", message=message
    )
    return Publish(version, made, "file:///mnt/team/naval", bundle.paths, Reviews(enable, disable))


def texts(answer: Any) -> list[str]:
    return [objection.text for objection in answer or ()]
