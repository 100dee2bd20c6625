"""What `adaptkit path --for SERVER` prints: how a server is told to load an adapter."""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from adaptkit.types import Version

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def _vllm(version: Version, path: Path) -> str:
    """Options of `vllm serve` (https://docs.vllm.ai/en/latest/features/lora.html)."""
    enough = next((rank for rank in _VLLM_RANKS if rank >= (version.rank or 0)), version.rank)
    import shlex

    rank = f" --max-lora-rank {enough}" if version.rank else ""
    name = f"{version.name.replace('/', '-')}-{version.number}"
    return f"--enable-lora{rank} --lora-modules {name}={shlex.quote(str(path))}"


def _lorax(_version: Version, path: Path) -> str:
    """The `parameters` of a request (https://loraexchange.ai/models/adapters)."""
    return dumps({"adapter_id": str(path), "adapter_source": "local"})


SERVERS: Mapping[str, Callable[[Version, Path], str]] = {"lorax": _lorax, "vllm": _vllm}
