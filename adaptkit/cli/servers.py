"""What `adaptkit path --for SERVER` prints: how a server is told to load an adapter."""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from adaptkit.types import Version


def _vllm(version: Version, path: Path) -> str:
    """Options of `vllm serve` (https://docs.vllm.ai/en/latest/features/lora.html)."""
    import shlex

    from adaptkit.serving.engines.layouts import served_name, vllm_rank

    rank = f" --max-lora-rank {vllm_rank(version.rank)}" if version.rank else ""
    name = served_name(version)
    return f"--enable-lora{rank} --lora-modules {name}={shlex.quote(str(path))}"


def _lorax(_version: Version, path: Path) -> str:
    """The `parameters` of a request (https://loraexchange.ai/models/adapters)."""
    return dumps({"adapter_id": str(path), "adapter_source": "local"})


SERVERS: Mapping[str, Callable[[Version, Path], str]] = {"lorax": _lorax, "vllm": _vllm}
