"""What an adapter changes in a base: decided once, for `add`, merges with a base, bakes and engines alike.

Every name that the adapter uses is found in the model that the base's class describes, and every tensor of the result
is planned. What cannot be right is listed in words: `misfits` where the adapter is for another model, `unbakeable`
where it is for this one and its weights still cannot hold it.

Notable choices:
- parameters that the class ties become tensors of their own where the adapter changes one of them only
- a vocabulary that the adapter brings resized changes embedding, head and `vocab_size` together, or nothing
- a head that the base's class has not is looked for in the class that the adapter's task has for this configuration
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.adapters.fitting.changes import Change, Tensor
from adaptkit.adapters.fitting.fitted import Fit
from adaptkit.adapters.fitting.heads import class_with_heads
from adaptkit.adapters.fitting.tied import settle_ties
from adaptkit.adapters.fitting.vocabulary import settle_vocabulary
from adaptkit.bases.classes.layer_replication import Layers
from adaptkit.bases.classes.peft_names import unloaded
from adaptkit.bases.describe import library_of
from adaptkit.bases.pipeline import component_configs, is_component
from adaptkit.extend import LowRank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.adapters.adapter import Adapter
    from adaptkit.bases.architecture import Architecture
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import AdapterMethod, Module


def fit(
    adapter: Adapter, method: AdapterMethod, weights: BaseWeights, *, shapes: bool = True
) -> Fit:
    """Find a tensor for everything that the adapter changes; without `shapes` (a quantised base) by names only."""
    adapter.attach_base(weights)
    layers = Layers.of(
        adapter.config.get("layer_replication"), weights.layout.config, adapter.label
    )
    tensors = {
        new: Tensor(name, location.entry.shape, location.entry.dtype)
        for name, location in (weights.layout.tensors or {}).items()
        for new in layers.copies(name)
    }
    made = Fit(adapter.label, adapter, method, weights, weights.architecture(), layers, tensors)
    made.before = made.architecture
    made.unbakeable += _unknown_ties(made)
    made.config |= layers.config(weights.layout.config)
    made.remarks.extend(layers.remarks)
    replacements = method.replacements(adapter)
    class_with_heads(made, replacements)
    _replace(made, replacements)
    _replace_rows(made)
    kind = str(weights.layout.config.get("model_type", ""))
    made.passed_over = unloaded(adapter, method, made.architecture, kind)
    if not shapes:
        _only_names(made)
        return made
    _update(made)
    settle_ties(made)
    settle_vocabulary(made)
    if not made.misfits and not made.unbakeable:
        made.unbakeable += unopenable(made.result(), made.before, made.tensors)
    return made


def _unknown_ties(made: Fit) -> list[str]:
    """Without the class it is not known which tensors are tied, which matters where an embedding or head changes."""
    config, arch = made.weights.layout.config, made.architecture
    if arch.known or not library_of(config) or config.get("tie_word_embeddings") is False:
        return []
    keys = [k for k in made.adapter.header if ".lora_embedding_" in k or ".base_layer." in k]
    keys += made.method.replacements(made.adapter).values()
    rows = {config.get("vocab_size")}
    touched = [k for k in keys if rows & set(made.adapter.header[k].shape)]
    if not touched:
        return []
    what = f"it changes an embedding or head ('{touched[0]}')"
    return [f"{what}, and whether others are tied with it is not known: {arch.unknown}"]


def _absent(made: Fit, modules: list[Module]) -> list[str]:
    """Modules that the base has not, in words: whole components of a pipeline that it lacks first."""
    made.lacking = [
        part
        for part in dict.fromkeys(module.name.partition(".")[0] for module in modules)
        if _can_lack(made, part)
    ]
    parts = ", ".join(component_configs(made.weights.layout.config))
    alone = f"this is a {made.architecture.name or 'model'} alone"
    here = f"this pipeline has {parts} only" if parts else alone
    return [f"it changes the {part} of a pipeline, and {here}" for part in made.lacking] + [
        f"'{module.name}' is not in the base"
        for module in modules
        if module.name.partition(".")[0] not in made.lacking
    ]


def _can_lack(made: Fit, part: str) -> bool:
    """Whether a name's first part is that of a component, and the base is a pipeline, or a component, without it."""
    config = made.weights.layout.config
    if parts := component_configs(config):
        return is_component(part) and part not in parts
    if library_of(config) == "diffusers":
        return is_component(part) and part.partition("_")[0] not in made.architecture.name.lower()
    return is_component(part) and part.startswith(("unet", "text_encoder"))


def unopenable(after: Architecture, before: Architecture, tensors: Mapping[str, Any]) -> list[str]:
    """What the class that will load these tensors would miss or refuse, and did not before, in words."""
    if not after.known:
        return []
    excused = set(before.missing()) if before.name == after.name else set()
    wrong = [
        f"{after.name} needs '{name}', which neither the base nor the adapter has"
        for name in after.missing()
        if name not in excused
    ]
    for name, pieces in after.pieces.items():
        stored = tuple(tensors[pieces[0].tensor].shape)
        if len(pieces) == 1 and pieces[0].expert is None and stored != after.parameters[name]:
            as_before = (
                before.pieces.get(name) == pieces
                and before.parameters.get(name) == after.parameters[name]
            )
            whole = pieces[0].count == (stored or (1,))[0]
            if whole and not as_before:
                wrong.append(
                    f"'{name}' would be {list(stored)}, and {after.name} loads {list(after.parameters[name])}"
                )
    wrong += [
        f"'{name}' would be {list(tensors[name].shape)}, and {after.name} loads {list(shape)}"
        for name, shape in after.buffers.items()
        if tensors[name].shape != shape and before.buffers.get(name) != shape
    ]
    new = set(after.unused) - set(before.unused)
    wrong += [f"{after.name} would not load '{name}'" for name in sorted(new)]
    return wrong


def _replace(made: Fit, replacements: Mapping[str, str]) -> None:
    """Tensors that the adapter brings whole."""
    for name, key in sorted(replacements.items()):
        found = made.tensor(name)
        info = made.adapter.header[key]
        if found is None:
            made.misfits.append(f"'{name}' is not in the base")
            continue
        tensor = made.tensors[found]
        rows_only = info.shape[1:] == tensor.shape[1:] and len(info.shape) == len(tensor.shape)
        if info.shape != tensor.shape and not rows_only:
            made.misfits.append(
                f"'{name}' is {list(info.shape)} here and {list(tensor.shape)} in the base"
            )
            continue
        tensor.shape, tensor.replaced_by = info.shape, key
        if ".base_layer." in key:  # what the layers that are tied with it have as well
            for others in made.groups.values():
                for other in others.values() if found in others.values() else ():
                    if not made.tensors[other].replaced_by:
                        made.tensors[other].shape = info.shape
                        made.tensors[other].replaced_by = key


def _replace_rows(made: Fit) -> None:
    """Single rows of an embedding; rows beyond its last are new tokens."""
    for name, rows in sorted(made.method.row_replacements(made.adapter).items()):
        found, shape = made.tensor(name), made.adapter.header[rows[0]].shape
        if found is None:
            made.misfits.append(f"'{name}' is not in the base")
            continue
        tensor = made.tensors[found]
        if len(tensor.shape) != 2 or shape[1:] != tensor.shape[1:]:
            made.misfits.append(
                f"rows of '{name}' are {list(shape[1:])} here and the base has {list(tensor.shape)}"
            )
            continue
        beyond = sorted(row for row in rows[1] if row >= tensor.shape[0])
        if beyond and beyond != list(range(tensor.shape[0], beyond[-1] + 1)):
            made.unbakeable.append(
                f"it brings row {beyond[-1]} of '{name}', the base has {tensor.shape[0]} rows, and "
                "those between are in neither"
            )
            continue
        tensor.rows_from = rows
        tensor.shape = (tensor.shape[0] + len(beyond), *tensor.shape[1:])
        for (
            others
        ) in made.groups.values():  # PEFT ties rows of tokens wherever the weights are tied
            for other in others.values() if found in others.values() else ():
                if not made.tensors[other].rows_from[0]:
                    made.tensors[other].rows_from = rows
                    made.tensors[other].shape = tensor.shape


def _update(made: Fit) -> None:
    view, method = made.adapter, made.method
    meant: dict[tuple[str, int, int, bool], str] = {}
    absent = []
    for module in method.modules(view):
        changes = made.changes(module)
        old = made.layers.old_name(module.name)
        if not changes and (part := made.architecture.computed_from(old)):
            why = f"the weight of '{module.name}' is computed from others, such as '{part}'"
            made.unbakeable += [why] if why not in made.unbakeable else []
            continue
        if not changes:
            absent.append(module)
            continue
        if wrong := _misfit(made, changes):
            made.misfits.append(wrong)
            continue
        if (kind := _kind(made, module)) in _NO_SUM and not _is_zero(made, module):
            made.unbakeable.append(f"'{module.name}' {_NO_SUM[kind]}")
        if not _divisible(changes, by_rows=method.by_rows(view)):
            made.unbakeable.append(
                f"its update of '{module.name}' needs the whole weight, which the base keeps in pieces"
            )
        for name, change in changes:
            key = (name, change.at, module.part, change.whole)
            if meant.setdefault(key, module.name) != module.name:
                made.misfits.append(f"'{meant[key]}' and '{module.name}' both mean '{name}' there")
            made.tensors[name].changes.append(change)
        bias = made.tensor(f"{module.name}.bias")
        if bias is None and method.needs_bias(view, module):
            made.unbakeable.append(
                f"it adds a bias to '{module.name}', a layer that has none in this architecture"
            )
        if bias is not None and method.bias_applier(view, module) is not None:
            made.tensors[bias].biases.append(module)
    made.misfits[:0] = _absent(made, absent)


_NO_SUM = {
    "own": "computes with its weight in a way of its own, where an update is no longer what it was",
    "read": "is not called by its model, or not only: the code reads its weight, where PEFT's update does not act and "
    "a baked one would",
}


def _is_zero(made: Fit, module: Module) -> bool:
    """Whether an update does nothing, as where PEFT trained a layer that is never called."""
    if made.method.needs(made.adapter) == "weights":
        return False
    delta = made.method.delta(made.adapter, module)
    return (
        isinstance(delta, LowRank) and delta.bias is None and not (delta.A.any() and delta.B.any())
    )


def _kind(made: Fit, module: Module) -> str:
    parameter = made.parameter(made.layers.old_name(module.tensor))
    return made.architecture.layers.get((parameter or "").removesuffix(".weight"), "")


def _misfit(made: Fit, changes: list[tuple[str, Change]]) -> str:
    for name, change in changes:
        module, shape = change.module, made.tensors[name].shape
        fits = (
            shape == module.stored
            if change.whole
            else len(shape) == 2 and shape[1] == module.shape[1]
        )
        if not fits:
            return f"'{module.name}' is {list(module.stored)} here and {list(shape)} in the base"
    return ""


def _divisible(changes: list[tuple[str, Change]], *, by_rows: bool) -> bool:
    return not any(
        not c.whole and (c.module.transposed or (c.count < c.module.shape[0] and not by_rows))
        for _, c in changes
    )


def _only_names(made: Fit) -> None:
    """A quantised base keeps its weights in other shapes; its class knows the names."""
    absent = [
        module
        for module in made.method.modules(made.adapter)
        if not made.architecture.find(made.layers.old_name(module.tensor))
        and not made.changes(module)
    ]
    made.misfits += _absent(made, absent)
