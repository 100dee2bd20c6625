"""A base's weights on disk, found by the names that adapters use, read a block of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from adaptkit.bases.checkpoint import read_layout
from adaptkit.errors import BadBase, MissingExtra
from adaptkit.extend.module_names import same_name
from adaptkit.io.closing import Closing
from adaptkit.io.safetensors import LARGEST_HEADER, TensorFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.bases.architecture import Piece, Skeleton
    from adaptkit.bases.checkpoint import Layout
    from adaptkit.extend import Array, Model, Module


def tensors_called(name: str, names: Mapping[str, object]) -> list[str]:
    """The base's tensors that a name such as `model.layers.0.mlp.up_proj.weight` may mean.

    A checkpoint may have been saved with one wrapper more or fewer than the model the adapter sat on, so
    names are equal up to leading parts.
    """
    if name in names:
        return [name]
    return [known for known in names if same_name(known, name)]


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
    _skeleton: Skeleton | None = None
    _places: dict[str, tuple[Piece, ...]] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path) -> Self:
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
            {name: place.entry.shape for name, place in layout.tensors.items()},
        )

    def skeleton(self) -> Skeleton:
        """The model that the base's configuration describes, and how these tensors become its parameters."""
        if self._skeleton is None:
            from adaptkit.bases.architecture import skeleton_of

            self._skeleton = skeleton_of(self.layout.directory, self.shapes)
        return self._skeleton

    def model(self) -> Model:
        """As an `AdapterView` hands it to methods."""
        return self.skeleton().model

    def name_of(self, wanted: str) -> str | None:
        """The one tensor that a name means; None when there is none. `BadBase` when there are several."""
        found = tensors_called(wanted, self.layout.tensors or {})
        if len(found) > 1:
            raise BadBase(
                f"'{wanted}' may be several tensors of the base {self.layout.directory}",
                why=", ".join(found[:4]),
                fix="give the base that the adapter was trained on",
            )
        return found[0] if found else None

    def pieces(self, module: Module) -> tuple[Piece, ...]:
        """Where a module's weight lies; empty when the base has none. Usually one tensor, whole.

        A name that no tensor has is looked up in the model that the base's configuration describes.
        """
        if module.tensor not in self._places:
            self._places[module.tensor] = self._find(module.tensor)
        return tuple(p for p in self._places[module.tensor] if p.expert in {None, module.part})

    def _find(self, wanted: str) -> tuple[Piece, ...]:
        from adaptkit.bases.architecture import Piece

        if (found := self.name_of(wanted)) is not None:
            return (Piece(found, 0, 0, self.shapes[found][0] if self.shapes[found] else 1),)
        try:
            skeleton = self.skeleton()
        except (BadBase, MissingExtra):
            return ()  # the base's own names are all there is
        names = tensors_called(wanted, skeleton.model.parameters)
        if len(names) == 1 and names[0] in skeleton.altered:
            raise BadBase(
                f"the base {self.layout.directory} keeps '{names[0]}' in another form than the model",
                why=f"it is loaded through {skeleton.altered[names[0]]}, which adaptkit does not follow",
                fix="save the base again with the installed transformers, or keep the adapter apart",
            )
        return skeleton.pieces.get(names[0], ()) if len(names) == 1 else ()

    def matrix(self, module: Module) -> Array:
        """A module's weight as the m×n matrix that updates are added to; `BadBase` when there is none that fits."""
        import numpy as np

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

    def read(self, name: str) -> Array:
        """One tensor, mapped, not copied: read only."""
        assert self.layout.tensors is not None
        return self._files[self.layout.tensors[name].file].view(name)

    def raw(self, name: str) -> memoryview:
        """The bytes of one tensor, not copied."""
        assert self.layout.tensors is not None
        return self._files[self.layout.tensors[name].file].raw(name)

    def drop_pages(self, name: str) -> None:
        """One tensor has been read: the system may drop its pages."""
        assert self.layout.tensors is not None
        self._files[self.layout.tensors[name].file].drop_pages(name)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
