"""`Fit`: what an adapter changes in a base, as it is being decided."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.fitting.changes import Change, Tensor
from adaptkit.bases.describe import architecture_of

if TYPE_CHECKING:
    from adaptkit.adapters.adapter import Adapter
    from adaptkit.bases.architecture import Architecture
    from adaptkit.bases.classes.layer_replication import Layers
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
    passed_over: list[str] = field(default_factory=list)
    """What the installed PEFT would leave out of the adapter, or would not load, on this base."""
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
        parameter = self.parameter(old)
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
        parameter = self.parameter(old.tensor)
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

    def parameter(self, wanted: str) -> str | None:
        """The parameter of the class that a name means; None where it is none, or may be several."""
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
