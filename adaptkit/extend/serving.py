"""`Engine`: a program that serves adapters on a base."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Engine(ABC):
    """A program of others that serves adapters from the registry (`adaptkit serve --engine NAME`)."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    gateway: ClassVar[bool] = False
    """Whether it has vLLM's `/v1/load_lora_adapter` and `/health`, and calls the base `base`: it then runs on
    loopback, behind the gateway that resolves aliases to versions."""

    def command(
        self, base: str, *, host: str, port: int, slots: int, rank_limit: int
    ) -> tuple[str, ...]:
        """The command line that serves a base with so many adapters at once."""
        raise PluginError(
            f"the engine '{self.name}' cannot be started",
            why="its plugin does not say with which command",
        )

    def environment(self, rank_limit: int) -> Mapping[str, str]:
        """Environment variables that the program needs."""
        return {}
