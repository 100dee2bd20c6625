"""A written adapter as PEFT will open it: which modules its configuration targets, at which rank, and what its file holds.

PEFT makes its layers from the configuration and then fills in what the file has: a module that one of them names and
the other does not would be missing or unexpected there, and a rank that differs would not load at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.bases.classes.peft_names import PEFT_HEADS, modules_of, saved_whole, unloaded
from adaptkit.errors import MergeError
from adaptkit.extend.module_names import PREFIX, base_name, matches, targeted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.adapters.adapter import Adapter
    from adaptkit.bases.architecture import Architecture
    from adaptkit.extend import AdapterMethod, Module


def check_reload(
    adapter: Adapter,
    method: AdapterMethod,
    architecture: Architecture | None = None,
    model_type: str = "",
) -> None:
    """`MergeError` where PEFT would not find what was written; the base's class, if known, says what else is there."""
    if wrong := unreadable(adapter, method, architecture):
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise MergeError(
            f"PEFT could not load what was written for {adapter.label}",
            why="; ".join(wrong[:3]) + more,
            fix="please report this with the configurations of the adapters",
        )
    if architecture is None or not method.packs:
        return
    if lost := unloaded(adapter, method, architecture, model_type):
        more = f"; and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise MergeError(
            f"PEFT would not load {adapter.label} as it is",
            why="; ".join(lost[:3]) + more,
            fix="take that part out first (adaptkit strip REF --modules GLOB), or bake the adapters instead",
        )


def unreadable(
    adapter: Adapter,
    method: AdapterMethod,
    architecture: Architecture | None = None,
) -> list[str]:
    """What PEFT would miss, not expect or refuse, in words. Only methods that say their modules are looked at."""
    config = adapter.config
    if not method.packs or config.get("peft_type") != "LORA":
        return []
    modules = {module.name: module for module in method.modules(adapter)}
    plain = {name: module for name, module in modules.items() if module.kind != "expert"}
    wrong = [
        f"the file has '{name}', which target_modules does not name"
        for name in sorted(plain)
        if not targeted(config, name)
    ]
    for name, module in sorted(modules.items()):
        asked = _rank(config, module)
        if module.saved_rank != asked:
            wrong.append(
                f"'{name}' has rank {module.saved_rank}, and the configuration says {asked}"
            )
    wrong += _unsaved(adapter)
    heads = PEFT_HEADS.get(str(config.get("task_type")), ())
    wrong += [
        f"'{name}' has an update, and is or is in what PEFT saves whole in an adapter for {config['task_type']}"
        for name in sorted(plain)
        if heads and any(part.endswith(heads) for part in name.split("."))
    ]
    wrong += [
        f"'{key}' is not what PEFT calls the bias of a layer that it updates"
        for key in adapter.header
        if key.endswith(".bias") and key.removeprefix(PREFIX).removesuffix(".bias") in plain
    ]
    if architecture is not None and architecture.known:
        there = {n for n in architecture.layers if targeted(config, n)}
        known = {found[0] for n in plain if len(found := _layers(architecture, n)) == 1}
        wrong += [
            f"target_modules names '{name}' too, for which the file has nothing"
            for name in sorted(there - known)
            if known
        ]
        wrong += _saved_by_their_ends(adapter, architecture)
    return wrong


def _saved_by_their_ends(adapter: Adapter, architecture: Architecture) -> list[str]:
    """Modules that PEFT would look for in the file, or inside of another, because an entry is the end of their names."""
    meant = saved_whole(
        adapter.config.get("modules_to_save") or (), modules_of(architecture.parameters)
    )
    keys = [base_name(key) for key in adapter.header] if meant else []
    there = {module for module in meant if any(key.startswith(f"{module}.") for key in keys)}
    return [
        f"PEFT takes '{entry}' of modules_to_save for '{module}' too, "
        + ("which is in what it saves whole" if inside else "for which the file has nothing")
        for module, entry in meant.items()
        if (inside := any(module.startswith(f"{other}.") for other in meant))
        or (there and module not in there)
    ]


def _layers(architecture: Architecture, name: str) -> list[str]:
    found = architecture.find(f"{name}.weight")
    computed = architecture.computed_from(name).partition(".parametrizations.")[0]
    return [parameter.removesuffix(".weight") for parameter in found] or [computed]


def _rank(config: Mapping[str, object], module: Module) -> int:
    patterns = config.get("rank_pattern")
    table = patterns if isinstance(patterns, dict) else {}
    found = next(
        (rank for pattern, rank in table.items() if matches(pattern, module.weight or module.name)),
        config.get("r"),
    )
    return found if isinstance(found, int) else -1


def _unsaved(adapter: Adapter) -> list[str]:
    saved = adapter.config.get("modules_to_save")
    return [
        f"modules_to_save names '{name}', for which the file has nothing"
        for name in (saved if isinstance(saved, list) else [])
        if not any(f".{name}." in f".{key}" for key in adapter.header)
    ]
