"""A base's weights on disk, found by the names that adapters use, read a block of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from adaptkit.bases.files.checkpoint import read_layout
from adaptkit.bases.files.quantised import why_quantised
from adaptkit.errors import BadBase
from adaptkit.extend.module_names import Names
from adaptkit.io.closing import Closing
from adaptkit.io.safetensors.reader import LARGEST_HEADER, TensorFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.bases.architecture import Architecture, Piece
    from adaptkit.bases.files.checkpoint import Layout, TensorLocation
    from adaptkit.extend import Array, Model, Module


def as_matrix(stored: Array, module: Module) -> Array:
    """A stored weight as the m×n matrix that updates are added to: a view of one group, or of one expert."""
    if module.kind == "conv1d":
        return stored.T
    if module.kind == "expert":
        slab = stored[module.part] if stored.ndim == 3 else stored
        return slab.T if module.transposed else slab
    rows = module.shape[0]
    return stored.reshape(stored.shape[0], -1)[module.part * rows : (module.part + 1) * rows]


@dataclass(slots=True)
class BaseWeights(Closing):
    """The tensors of a base's folder. Close it, or use it in a `with`."""

    layout: Layout
    _files: dict[Path, TensorFile]
    shapes: Mapping[str, tuple[int, ...]]
    """Every tensor's shape."""
    cache: Path | None = None
    """Where what the class says is remembered by content."""
    _pieces: dict[str, tuple[Piece, ...]] = field(default_factory=dict)
    _names: Names | None = None
    _architecture: Architecture | None = None
    _quantised: str | None = None

    @classmethod
    def open(cls, directory: Path, cache: Path | None = None) -> Self:
        """Map the safetensors files of a base; `BadBase` for a `.bin` set, which cannot be read in parts."""
        layout = read_layout(directory)
        if layout.tensors is None:
            raise BadBase(
                f"the base {directory} holds pickles",
                why="their tensors cannot be read one at a time",
                fix="save it as safetensors: model.save_pretrained(DIR)",
            )
        return cls(
            layout,
            {file: TensorFile(file, LARGEST_HEADER) for file in layout.files},
            {name: location.entry.shape for name, location in layout.tensors.items()},
            cache,
        )

    def architecture(self) -> Architecture:
        """What the class that the base's configuration names says of it."""
        from adaptkit.bases.describe import architecture_of

        if self._architecture is None:
            self._architecture = architecture_of(self.layout.config, self.shapes, cache=self.cache)
        return self._architecture

    def load_as(self, architecture: Architecture) -> None:
        """Look names up in another class than the configuration names: the one that has an adapter's head."""
        self._architecture = architecture
        self._pieces.clear()

    def model(self) -> Model:
        """As an `AdapterView` hands it to methods; `BadBase` says why the class is not known."""
        found = self.architecture()
        if not found.known:
            raise BadBase(
                f"cannot tell how the tensors of {self.layout.directory} are named in the model",
                why=found.unknown,
                fix="install the version of transformers that knows it",
            )
        return found.model()

    def name_of(self, wanted: str) -> str | None:
        """The one tensor that a name means; None when there is none. `BadBase` when there are several."""
        pieces = self.find(wanted)
        return pieces[0].tensor if self._is_whole(pieces) else None

    def pieces(self, module: Module) -> tuple[Piece, ...]:
        """Where a module's weight is stored; empty when the base has none. Usually one tensor, whole."""
        found = self.find(module.tensor)
        return tuple(p for p in found if p.expert in {None, module.part})

    def find(self, wanted: str) -> tuple[Piece, ...]:
        """Where a parameter of the model is stored: its own tensors, or those of one that it is tied with.

        Where the class is not known, or does not have the name, the checkpoint's own names are all there is.
        """
        if wanted not in self._pieces:
            self._pieces[wanted] = self._find(wanted)
        return self._pieces[wanted]

    def _find(self, wanted: str) -> tuple[Piece, ...]:
        from adaptkit.bases.architecture import Piece

        found = self.architecture()
        if found.known and (parameter := self._one(wanted, found.find(wanted))) is not None:
            if parameter in found.altered:
                raise BadBase(
                    f"the base {self.layout.directory} keeps '{parameter}' in another form than the model",
                    why=f"it is loaded through {found.altered[parameter]}, which adaptkit does not follow",
                    fix="save the base again with the installed transformers, or keep the adapter apart",
                )
            group = (parameter, *found.tied_with(parameter))
            if pieces := next((p for name in group if (p := found.pieces.get(name))), ()):
                return pieces
        if self._names is None:
            self._names = Names(self.shapes)
        tensor = self._one(wanted, self._names.called(wanted))
        if tensor is None or (found.known and tensor in found.unused and tensor != wanted):
            return ()
        shape = self.shapes[tensor]
        return (Piece(tensor, 0, 0, shape[0] if shape else 1),)

    def _one(self, wanted: str, found: list[str]) -> str | None:
        if len(found) > 1:
            raise BadBase(
                f"'{wanted}' may be several tensors of the base {self.layout.directory}",
                why=", ".join(found[:4]),
                fix="give the base that the adapter was trained on",
            )
        return found[0] if found else None

    def matrix(self, module: Module) -> Array:
        """A module's weight as the m×n matrix that updates are added to; `BadBase` when there is none that fits."""
        import numpy as np

        if self._quantised is None:
            self._quantised = why_quantised(self.layout)
        if why := self._quantised:
            raise BadBase(
                f"an update that depends on weights cannot be computed with {self.layout.directory}",
                why=why,
                fix="give the full-precision model it was made from",
            )
        pieces = self.pieces(module)
        whole = (
            len(pieces) == 1
            and pieces[0].expert is None
            and self.shapes[pieces[0].tensor] == module.stored
        )
        if whole:
            return as_matrix(self.read(pieces[0].tensor), module)
        rows = [
            self.read(p.tensor)[p.at : p.at + p.count]
            for p in pieces
            if len(self.shapes[p.tensor]) == 2
        ]
        if (
            len(rows) != len(pieces)
            or sum(map(len, rows)) != module.shape[0]
            or {r.shape[1] for r in rows} != {module.shape[1]}
        ):
            shown = (
                f"it is {[list(self.shapes[p.tensor]) for p in pieces]}, not {list(module.stored)}"
                if pieces
                else "there is none"
            )
            raise BadBase(
                f"the base {self.layout.directory} has no fitting weight for '{module.name}'",
                why=shown,
                fix="give the base that the adapter was trained on",
            )
        return np.concatenate(rows) if len(rows) > 1 else rows[0]

    def shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A parameter's shape as it is stored; where it is made of pieces, that of the class."""
        pieces = self.find(name)
        return self.shapes[pieces[0].tensor] if self._is_whole(pieces) else shape

    def parameter(self, name: str) -> Array:
        """One parameter of the model, put together from its pieces where it has several."""
        import numpy as np

        pieces = self.find(name)
        if self._is_whole(pieces):
            return self.read(pieces[0].tensor)
        shape = self.architecture().parameters[name]
        made = np.empty(shape, self.read(pieces[0].tensor).dtype)
        for p in pieces:
            rows = self.read(p.tensor)[p.at : p.at + p.count]
            if p.expert is None:
                made[p.row : p.row + p.count] = rows
            else:
                made[p.expert, p.row : p.row + p.count] = rows
        return made

    def _is_whole(self, pieces: tuple[Piece, ...]) -> bool:
        return (
            len(pieces) == 1
            and pieces[0].expert is None
            and pieces[0].count == (self.shapes[pieces[0].tensor] or (1,))[0]
        )

    def location(self, name: str) -> TensorLocation:
        """The file that holds one tensor, and where in it."""
        assert self.layout.tensors is not None
        return self.layout.tensors[name]

    def read(self, name: str) -> Array:
        """One tensor, mapped, not copied: read only."""
        return self._files[self.location(name).file].view(self.layout.stored(name))

    def raw(self, name: str) -> memoryview:
        """The bytes of one tensor, not copied."""
        return self._files[self.location(name).file].raw(self.layout.stored(name))

    def drop_pages(self, name: str) -> None:
        """One tensor has been read: the system may drop its pages."""
        self._files[self.location(name).file].drop_pages(self.layout.stored(name))

    def close(self) -> None:
        for file in self._files.values():
            file.close()
