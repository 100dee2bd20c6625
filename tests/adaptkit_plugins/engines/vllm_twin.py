"""The part of vLLM's interface that the resolver touches, with the signatures of vLLM 0.33.

`ADAPTKIT_VLLM_WHEEL` names a folder with vLLM's unpacked wheel: `test_vllm.py` then compares the two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


class LoRAResolver(ABC):
    @abstractmethod
    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None: ...


class _Registry:
    def __init__(self) -> None:
        self.resolvers: dict[str, LoRAResolver] = {}

    def get_supported_resolvers(self):
        return self.resolvers.keys()

    def register_resolver(self, resolver_name: str, resolver: LoRAResolver) -> None:
        assert resolver_name not in self.resolvers, "vLLM warns of a second registration"
        self.resolvers[resolver_name] = resolver


LoRAResolverRegistry = _Registry()
