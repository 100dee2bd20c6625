"""How other engines want an adapter laid out on disk, and what is typed to load it.

Every layout names its source. An adapter is called NAME-VERSION there, as `adaptkit path --for` calls it, since
a name without its version would mean another adapter tomorrow.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from json import dumps
from typing import TYPE_CHECKING

from adaptkit.errors import NotFound
from adaptkit.serving.engines.rules import rules_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from adaptkit.types import Version


@dataclass(frozen=True, slots=True)
class Exported:
    """One version as it was written: its name there, its folder or file, its rank and its base's name."""

    name: str
    path: Path
    rank: int | None
    base: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How one engine wants adapters: by whose rules they are judged, and what loads them."""

    name: str
    rules: str
    """The engine of `adaptkit preflight` that reads the files."""
    source: str
    load: Callable[[Exported], str]

    @property
    def rank_limit(self) -> int | None:
        """The largest rank that the engine can be started with; None is any."""
        ranks = rules_of(self.rules).ranks
        return ranks[-1] if ranks else None


def served_name(version: Version) -> str:
    """What a version is called in an engine: unique, fixed, and without characters that engines give a meaning."""
    return f"{version.name.replace('/', '-')}-{version.number}"


def vllm_rank(rank: int | None) -> int:
    """The least `--max-lora-rank` that is enough, else vLLM's largest."""
    rules = rules_of("vllm")
    return rules.limit_for(rank or rules.rank_limit or 1) or rules.ranks[-1]


def _vllm(made: Exported) -> str:
    path = shlex.quote(str(made.path))
    return f"vllm serve BASE --enable-lora --max-lora-rank {vllm_rank(made.rank)} --lora-modules {made.name}={path}"


def _sglang(made: Exported) -> str:
    path = shlex.quote(str(made.path))
    return f"python -m sglang.launch_server --model-path BASE --lora-paths {made.name}={path}"


def _lorax(made: Exported) -> str:
    return dumps({"adapter_id": str(made.path), "adapter_source": "local"})


def _ollama(made: Exported) -> str:
    modelfile = shlex.quote(str(made.path / "Modelfile"))
    return f"ollama create {made.name.lower()} -f {modelfile}"


def _gguf(made: Exported) -> str:
    return f"llama-server -m BASE.gguf --lora {shlex.quote(str(made.path))}"


def _ray(made: Exported) -> str:
    config = {
        "lora_config": {"dynamic_lora_loading_path": str(made.path.parent)},
        "engine_kwargs": {"enable_lora": True, "max_lora_rank": vllm_rank(made.rank)},
    }
    return f"LLMConfig(…, **{dumps(config)}), and ask for the model BASE_ID:{made.name}"


def _llm_d(made: Exported) -> str:
    return f"kubectl apply -f {shlex.quote(str(made.path.parent / REWRITE))}"


REWRITE = "rewrite.yaml"
LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("vllm", "vllm", "https://docs.vllm.ai/en/latest/features/lora.html", _vllm),
        Layout("lorax", "lorax", "https://loraexchange.ai/models/adapters", _lorax),
        Layout("sglang", "sglang", "https://docs.sglang.ai/advanced_features/lora.html", _sglang),
        Layout("ollama", "ollama", "https://docs.ollama.com/import", _ollama),
        Layout(
            "gguf",
            "llamacpp",
            "https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py",
            _gguf,
        ),
        Layout(
            "llm-d",
            "vllm",
            "https://llm-d.ai/docs/api-reference/inferencemodelrewrite",
            _llm_d,
        ),
        Layout(
            "ray",
            "vllm",
            "https://docs.ray.io/en/latest/serve/llm/user-guides/multi-lora.html",
            _ray,
        ),
    )
}


def layout_of(engine: str) -> Layout:
    """An engine's layout; an unknown engine lists those that are known."""
    if engine not in LAYOUTS:
        raise NotFound("engine", engine, LAYOUTS)
    return LAYOUTS[engine]


def modelfile(base: str) -> str:
    """Ollama's Modelfile beside an adapter (https://docs.ollama.com/import)."""
    return f"FROM {base}\nADAPTER .\n"
