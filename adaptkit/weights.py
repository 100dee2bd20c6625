"""A base's weights on disk, found by the names that adapters use, read a block of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from adaptkit.errors import BadBase
from adaptkit.identity.layout import read_layout
from adaptkit.tensors import LARGEST_HEADER, TensorFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from adaptkit.extend import Array, Module
    from adaptkit.identity.layout import Layout


def tensors_called(name: str, names: Mapping[str, object]) -> list[str]:
    """The base's tensors that a name such as `model.layers.0.mlp.up_proj.weight` may mean.

    A checkpoint may have been saved with one wrapper more or fewer than the model the adapter sat on, so
    names are equal up to leading parts.
    """
    if name in names:
        return [name]
    return [known for known in names if known.endswith(f".{name}") or name.endswith(f".{known}")]


def as_matrix(stored: Array, module: Module) -> Array:
    """A stored weight as the m×n matrix that updates are added to: a view, rows of one part of a grouped convolution."""
    if module.kind == "conv1d":
        return stored.T
    rows = module.shape[0]
    return stored.reshape(stored.shape[0], -1)[module.part * rows : (module.part + 1) * rows]


@dataclass(slots=True)
class BaseWeights:
    """The tensors of a base's folder. Close it, or use it in a `with`."""

    layout: Layout
    _files: dict[Path, TensorFile]

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Map the safetensors files of a base; `BadBase` for a `.bin` set, which cannot be read in parts."""
        layout = read_layout(directory)
        if layout.tensors is None:
            raise BadBase(f"the base {directory} holds pickles", why="their tensors cannot be read one at a time",
                          fix="save it as safetensors: model.save_pretrained(DIR)")  # fmt: skip
        return cls(layout, {file: TensorFile(file, LARGEST_HEADER) for file in layout.files})

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return {name: place.entry.shape for name, place in (self.layout.tensors or {}).items()}

    def name_of(self, wanted: str) -> str | None:
        """The one tensor that a name means; None when there is none. `BadBase` when there are several."""
        found = tensors_called(wanted, self.layout.tensors or {})
        if len(found) > 1:
            raise BadBase(f"'{wanted}' may be several tensors of the base {self.layout.directory}",
                          why=", ".join(found[:4]), fix="give the base that the adapter was trained on")  # fmt: skip
        return found[0] if found else None

    def weight_of(self, module: Module) -> str:
        """The tensor that holds a module's weight; `BadBase` when there is none, or one of another shape."""
        found = self.name_of(f"{module.name}.weight")
        if found is None or self.shapes[found] != module.stored:
            shown = f"it is {list(self.shapes[found])}, not {list(module.stored)}" if found else "there is none"
            raise BadBase(f"the base {self.layout.directory} has no fitting weight for '{module.name}'", why=shown,
                          fix="give the base that the adapter was trained on")  # fmt: skip
        return found

    def read(self, name: str) -> Array:
        """One tensor, mapped, not copied: read only."""
        assert self.layout.tensors is not None
        return self._files[self.layout.tensors[name].file].view(name)

    def raw(self, name: str) -> memoryview:
        """The bytes of one tensor, not copied."""
        assert self.layout.tensors is not None
        return self._files[self.layout.tensors[name].file].raw(name)

    def forget(self, name: str) -> None:
        """One tensor has been read: the system may drop its pages."""
        assert self.layout.tensors is not None
        self._files[self.layout.tensors[name].file].forget(name)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
