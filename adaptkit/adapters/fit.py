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

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.changes import Change, Tensor
from adaptkit.adapters.heads import class_with_heads
from adaptkit.adapters.tied import settle_ties
from adaptkit.adapters.vocabulary import settle_vocabulary
from adaptkit.bases.architecture import Architecture, architecture_of, library_of
from adaptkit.bases.classes.layer_replication import Layers
from adaptkit.bases.pipeline import component_configs, is_component

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.adapters.adapter import Adapter
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import AdapterMethod, Module


@dataclass(slots=True)
class Fit:
    """Every tensor of the result, what changes in config.json, remarks for the reader, and what does not fit."""

    label: str
    adapter: Adapter
    method: AdapterMethod
    weights: BaseWeights
    architecture: Architecture
    layers: Layers
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    unbakeable: list[str] = field(default_factory=list)
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    """For tied parameters that were touched, by the one they are known by: each one's tensor of the result."""
    names: dict[str, str] = field(default_factory=dict)
    """New names of the base's tensors, where the result is of another class."""
    lacking: list[str] = field(default_factory=list)
    """Components of a pipeline that the adapter changes and the base has not."""
    before: Architecture | None = None
    """What the class that the base itself names says of it."""

    @property
    def advice(self) -> str:
        """What to do about misfits."""
        folder = self.weights.layout.directory
        if self.lacking:
            return (
                "give the pipeline it was trained on, or take that part out: "
                f"adaptkit strip REF --modules '{self.lacking[0]}.*'"
            )
        if not self.architecture.known:
            return (
                f"the model's class is not known ({self.architecture.unknown}), so only the checkpoint's own names "
                "were looked at"
            )
        named = str(self.adapter.config.get("base_model_name_or_path") or "")
        if named and named.rstrip("/") == str(folder):
            return (
                f"it was trained on {folder} loaded as another class or changed after loading; "
                "save that model and give its folder"
            )
        return "give the base it was trained on"

    def result_config(self) -> dict[str, Any]:
        """config.json as it will be."""
        return {**self.weights.layout.config, **self.config}

    def result(self) -> Architecture:
        """What the class of the result says of the planned tensors."""
        return architecture_of(
            self.result_config(),
            {name: tensor.shape for name, tensor in self.tensors.items()},
            cache=self.weights.cache,
        )

    def tensor(self, wanted: str) -> str | None:
        """The tensor of the result that a name means; tied parameters get one each."""
        old = self.layers.old_name(wanted)
        parameter = self._parameter(old)
        if parameter is not None and len(self.architecture.tied_with(parameter)) > 1:
            return self._called(self._own(parameter), wanted)
        found = self.weights.name_of(old)
        if found is None and parameter in self.tensors:
            return parameter
        return self._called(found, wanted) if found is not None else None

    def changes(self, module: Module) -> list[tuple[str, Change]]:
        """Which rows of which tensors a module's update is added to."""
        old = replace(
            module,
            name=self.layers.old_name(module.name),
            weight=self.layers.old_name(module.weight),
        )
        parameter = self._parameter(old.tensor)
        if parameter is not None and len(self.architecture.tied_with(parameter)) > 1:
            pieces = self.weights.pieces(old)
            if len(pieces) <= 1 and not (pieces and pieces[0].expert is not None):
                return [(self._own(parameter), Change(module, 0, 0, module.shape[0], whole=True))]
        pieces = self.weights.pieces(old)
        if len(pieces) == 1 and pieces[0].expert is None:
            name = self._called(pieces[0].tensor, module.tensor)
            shape = self.weights.shapes[pieces[0].tensor]
            if pieces[0].count == (shape or (1,))[0]:
                return [(name, Change(module, 0, 0, module.shape[0], whole=True))]
        return [
            (
                self._called(p.tensor, module.tensor),
                Change(module, p.at, p.row, p.count, whole=False),
            )
            for p in pieces
        ]

    def _called(self, name: str, wanted: str) -> str:
        """The result's name for a tensor of the base that was found for a wanted name."""
        return self.layers.new_name(self.names.get(name, name), wanted)

    def _parameter(self, wanted: str) -> str | None:
        if not self.architecture.known:
            return None
        found = self.architecture.find(wanted)
        return found[0] if len(found) == 1 else None

    def _own(self, parameter: str) -> str:
        """The tensor of the result that is this tied parameter's own."""
        arch = self.architecture
        source = arch.ties[parameter]
        if source not in self.groups:
            stored = {
                name: arch.pieces[name][0].tensor
                for name in arch.tied_with(parameter)
                if arch.pieces.get(name)
            }
            home = stored.get(source) or next(iter(stored.values()), "")
            if not home:
                return parameter
            self.groups[source] = {
                name: stored.get(name, name) for name in arch.tied_with(parameter)
            }
            for name in self.groups[source].values():
                if name not in self.tensors:
                    self.tensors[name] = Tensor(
                        home, self.tensors[home].shape, self.tensors[home].dtype
                    )
        return self.groups[source][parameter]


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
        if not changes:
            absent.append(module)
            continue
        if wrong := _misfit(made, changes):
            made.misfits.append(wrong)
            continue
        if _standardised(made, module):
            made.unbakeable.append(
                f"'{module.name}' computes with its weight standardised, where an update is no longer what it was"
            )
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


def _standardised(made: Fit, module: Module) -> bool:
    parameter = made._parameter(made.layers.old_name(module.tensor))  # noqa: SLF001  (the same module's class)
    layer = (parameter or "").removesuffix(".weight")
    return made.architecture.layers.get(layer) == "standardised"


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
