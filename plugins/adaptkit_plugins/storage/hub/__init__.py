"""`hf://org/repo`: the Hugging Face Hub, through huggingface_hub (the extra `hf`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.hookspecs import hookimpl
from adaptkit_plugins.storage.hub.backend import HubBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend import StorageBackend

__all__ = ["HubBackend"]


@hookimpl
def register_storage_backends(register: Callable[[type[StorageBackend]], None]) -> None:
    register(HubBackend)
