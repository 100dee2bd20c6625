"""`Architecture`: a model's parameters, ties, layers and names, without any weights.

A class that no installed library knows is no error: the checkpoint's own names and shapes are all that is known then,
and `unknown` says why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.bases.pipeline import prefixed, split
from adaptkit.extend import Model
from adaptkit.extend.module_names import Names, same_name

if TYPE_CHECKING:
    from collections.abc import Mapping


_COMPUTED = re.compile(r"(?P<layer>.+)\.(?:parametrizations\.weight\..+|weight_[gv])")


@dataclass(frozen=True, slots=True)
class Piece:
    """`count` rows of a checkpoint's tensor, from `at`, that are rows of a parameter (of one of its experts) from `row`.

    The tensor counts as a matrix; `expert` is None where the parameter has none, or where the tensor holds all of them.
    """

    tensor: str
    at: int
    row: int
    count: int
    expert: int | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model's parameters, and the pieces of the checkpoint that each is made of.

    `layers` gives modules their kind (`linear`, `conv1d` for transformers' transposed Conv1D, `convolution`,
    `embedding`; `own` for a layer that computes otherwise than its plain class, `read` for one whose weight the model
    reads without calling it); `ties` names, for each parameter that is one object with others, the one they are all
    known by;
    `altered` names parameters that the library computes in a way that cannot be written back, with the operation;
    `unused` are tensors of the checkpoint that the class does not load. Where the class is not known, `unknown` says
    why, and `parameters` are the checkpoint's own tensors.
    """

    name: str
    task: str
    parameters: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    transposed: frozenset[str] = frozenset()
    ties: Mapping[str, str] = field(default_factory=dict)
    embedding: str = ""
    head: str = ""
    pieces: Mapping[str, tuple[Piece, ...]] = field(default_factory=dict)
    altered: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    unknown: str = ""
    buffers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Tensors of the checkpoint that are no parameters and are loaded all the same, in the shapes that the class has."""
    looked_into: frozenset[str] = frozenset()
    """Layers of which the model's code reads more than their weight, which PEFT's layers in their place have not."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Of a pipeline: the class of each component."""
    _names: dict[str, Names] = field(default_factory=dict, compare=False, repr=False)
    _model: list[Model] = field(default_factory=list, compare=False, repr=False)

    @property
    def known(self) -> bool:
        """Whether an installed library has the class."""
        return not self.unknown

    def model(self) -> Model:
        """As an `AdapterView` hands it to methods."""
        if not self._model:
            self._model.append(Model(self.parameters, self.transposed, self.layers, self.groups))
        return self._model[0]

    def find(self, wanted: str) -> list[str]:
        """The parameters that a name may mean: itself, else those equal up to leading parts that one of them lacks."""
        if wanted in self.parameters:
            return [wanted]
        part, rest = split(wanted, self.parts)
        if part not in self._names:
            own = (name for name in self.parameters if not part or name.startswith(f"{part}."))
            self._names[part] = Names(
                name.removeprefix(f"{part}.") if part else name for name in own
            )
        return [prefixed(part, name) for name in self._names[part].called(rest)]

    def computed_from(self, layer: str) -> str:
        """A parameter that a layer's weight is computed from, where it is none itself (weight norms); empty otherwise."""
        return next(
            (
                name
                for name in self.parameters
                if (found := _COMPUTED.fullmatch(name)) and same_name(found["layer"], layer)
            ),
            "",
        )

    def tied_with(self, parameter: str) -> tuple[str, ...]:
        """All parameters that are one object with this one, itself included, in the model's order."""
        source = self.ties.get(parameter)
        if source is None:
            return (parameter,)
        return tuple(name for name in self.parameters if self.ties.get(name) == source)

    def missing(self) -> tuple[str, ...]:
        """Parameters for which the checkpoint holds nothing, nor for one that they are tied with."""
        return tuple(
            name
            for name in self.parameters
            if not self.pieces.get(name)
            and name not in self.altered
            and not any(self.pieces.get(other) for other in self.tied_with(name))
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "task": self.task,
            "parameters": [[name, list(shape)] for name, shape in self.parameters.items()],
            "layers": dict(self.layers),
            "groups": dict(self.groups),
            "transposed": sorted(self.transposed),
            "ties": dict(self.ties),
            "embedding": self.embedding,
            "head": self.head,
            "pieces": {
                name: [[p.tensor, p.at, p.row, p.count, p.expert] for p in pieces]
                for name, pieces in self.pieces.items()
            },
            "altered": dict(self.altered),
            "unused": list(self.unused),
            "unknown": self.unknown,
            "buffers": [[name, list(shape)] for name, shape in self.buffers.items()],
            "looked_into": sorted(self.looked_into),
            "parts": dict(self.parts),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """The way back from `to_json`; KeyError, TypeError or ValueError when it is not one."""
        return cls(
            str(data["name"]),
            str(data["task"]),
            {str(name): tuple(map(int, shape)) for name, shape in data["parameters"]},
            dict(data["layers"]),
            dict(data["groups"]),
            frozenset(data["transposed"]),
            dict(data["ties"]),
            str(data["embedding"]),
            str(data["head"]),
            {
                name: tuple(Piece(*piece) for piece in pieces)
                for name, pieces in data["pieces"].items()
            },
            dict(data["altered"]),
            tuple(data["unused"]),
            str(data["unknown"]),
            {str(name): tuple(map(int, shape)) for name, shape in data["buffers"]},
            frozenset(data["looked_into"]),
            dict(data["parts"]),
        )


def unknown(tensors: Mapping[str, tuple[int, ...]], why: str, name: str = "") -> Architecture:
    """All that is known where the class is not: the checkpoint's own names and shapes."""
    whole = {
        tensor: (Piece(tensor, 0, 0, shape[0] if shape else 1),)
        for tensor, shape in tensors.items()
    }
    return Architecture(name, "", dict(tensors), pieces=whole, unknown=why)
