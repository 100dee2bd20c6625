"""vLLM: a resolver that brings adapters from the registry to its workers.

vLLM calls `register_resolver` in each of its processes (entry-point group `vllm.general_plugins`), so it is
idempotent. vLLM keeps what it once resolved under a name, so only names that never change their meaning are
resolved: `naval@3` and digests. https://docs.vllm.ai/en/latest/design/lora_resolver_plugins.html
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from typing import TYPE_CHECKING, Any, ClassVar

from adaptkit.errors import AdaptkitError, Refused
from adaptkit.extend import Engine
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit import Workspace

RANK_LIMIT = "ADAPTKIT_VLLM_RANK_LIMIT"
"""The environment variable with the rank that vLLM was started with (`--max-lora-rank`)."""
PLUGINS = "VLLM_PLUGINS"
"""The environment variable with the only plugins that vLLM loads, of every kind; unset is all of them."""
_FIXED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*@(?:[1-9][0-9]{0,8}|sha256:[0-9a-f]{8,64})")
_LONGEST = 300  # characters: a team, a name and a digest
log = logging.getLogger("vllm.plugins.adaptkit")  # below vLLM's own: it shows no other


class Vllm(Engine):
    """Starts vLLM with the flags that the resolver needs."""

    name: ClassVar[str] = "vllm"
    summary: ClassVar[str] = "vLLM, with adapters from the registry by name, alias or version"
    gateway: ClassVar[bool] = True

    def command(
        self, base: str, *, host: str, port: int, slots: int, rank_limit: int
    ) -> tuple[str, ...]:
        return (
            *("vllm", "serve", base, "--host", host, "--port", str(port), "--enable-lora"),
            *("--served-model-name", "base"),
            *("--max-loras", str(slots), "--max-lora-rank", str(rank_limit)),
        )

    def environment(self, rank_limit: int) -> Mapping[str, str]:
        needed = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", RANK_LIMIT: str(rank_limit)}
        chosen = os.environ.get(PLUGINS)
        if chosen is None:  # all are loaded, also those that bring vLLM to other accelerators
            return needed
        return needed | {PLUGINS: ",".join(dict.fromkeys([*chosen.split(","), "adaptkit"]))}


@hookimpl
def register_engines(register: Callable[[Engine], None]) -> None:
    """Register vLLM."""
    register(Vllm())


def register_resolver() -> None:
    """Hand vLLM the resolver, once per process."""
    from vllm.lora.resolver import LoRAResolverRegistry

    if "adaptkit" not in LoRAResolverRegistry.get_supported_resolvers():
        LoRAResolverRegistry.register_resolver("adaptkit", make_resolver())


def make_resolver(home: str | None = None) -> Any:
    """A `LoRAResolver` on the workspace in `home`, else the one in force."""
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver

    from adaptkit import Workspace

    class RegistryResolver(LoRAResolver):  # type: ignore[misc]
        """Versions of the registry as vLLM's requests; None for what this base must not load."""

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            try:
                digest, path = await asyncio.to_thread(self._find, base_model_name, lora_name)
            except AdaptkitError as error:
                log.warning("%s", error)
                return None
            number = int(digest.removeprefix("sha256:")[:7], 16) + 1
            return LoRARequest(lora_name=lora_name, lora_int_id=number, lora_path=path)

        def _find(self, base: str, name: str) -> tuple[str, str]:
            check_fixed(name)
            with Workspace.open(home, notify=log.warning) as workspace:
                return found(workspace, base, name)

    return RegistryResolver()


def check_fixed(name: str) -> None:
    """Refuse names that may mean another version tomorrow, and what is no name at all."""
    if len(name) > _LONGEST or ".." in name or not _FIXED.fullmatch(name):
        raise Refused(
            f"cannot hand '{name[:60]}' to vLLM",
            why="vLLM keeps what a name meant first, so an alias would never move",
            fix="ask for a version, such as naval@3",
        )


def found(workspace: Workspace, base: str, name: str) -> tuple[str, str]:
    """Digest and verified folder of a version that vLLM applies as a whole on this base."""
    limit = int(os.environ.get(RANK_LIMIT, "0")) or None
    version, path = workspace.deployable(name, base, "vllm", rank_limit=limit)
    return version.digest, str(path)
