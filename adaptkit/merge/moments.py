"""The moments of an adapter's inputs as files beside a version: written by `calibrate`, read by merges that need them.

    about.json              of which artifact, how much was measured, and which module has which moment
    moments-00.safetensors  tensors `G.diagonal` (n) and `G.factor` (n×k) for each moment G; further files follow

Modules that are fed the same tensor (q, k and v) share a moment. What is read may come from anybody: sizes are bounded
where it arrives (`extend.attachments`), and everything is checked against the artifact and the module before use.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from adaptkit.algebra.moments import with_diagonal
from adaptkit.errors import AdaptkitError, BadWeights, Unmergeable
from adaptkit.extend import Moment
from adaptkit.extend.attachments import LARGEST, MOST
from adaptkit.io.files import os_errors
from adaptkit.io.safetensors.reader import TensorFile, dtype_name
from adaptkit.io.safetensors.writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from adaptkit.extend import Array

ABOUT = "about.json"
SCHEMA = 1
RECENT = 4  # moments that stay in memory: modules that share one come soon after each other
_ROOM = 64 << 10  # bytes of a file that are left for its header


@dataclass(frozen=True, slots=True)
class About:
    """What was measured: of which artifact, over how many rows and tokens of which data, for which modules.

    `modules` says which moment each module's inputs have; those in `unmeasured` have inputs that are no vectors.
    """

    adapter: str
    rows: int
    tokens: int
    data: str
    modules: Mapping[str, str]
    unmeasured: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "adapter": self.adapter,
            "rows": self.rows,
            "tokens": self.tokens,
            "data": self.data,
            "modules": dict(self.modules),
            "unmeasured": list(self.unmeasured),
        }

    @classmethod
    def parse(cls, data: bytes) -> About:
        """Read an `about.json`; KeyError, TypeError or ValueError when it is not one."""
        found = json.loads(data)
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']!r} is not one this version reads")
        numbers, texts = (found["rows"], found["tokens"]), (found["adapter"], found["data"])
        modules, unmeasured = found["modules"], found["unmeasured"]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("rows and tokens are whole numbers")
        if not isinstance(modules, dict) or not isinstance(unmeasured, list):
            raise TypeError("modules is a table and unmeasured is a list")
        if not all(isinstance(t, str) for t in (*texts, *modules.values(), *unmeasured)):
            raise TypeError("a name in it is no text")
        return cls(texts[0], *numbers, texts[1], modules, tuple(unmeasured))


def write(about: About, moments: Mapping[str, Moment], folder: Path) -> dict[str, bytes]:
    """The files to attach, the last of which makes the attachment appear; `folder` is for work."""
    files: dict[str, bytes] = {}
    tensors: dict[str, Array] = {}
    for name, moment in sorted(moments.items()):
        stored = _stored(moment)
        size = sum(array.nbytes for array in stored.values())
        if size + _ROOM > LARGEST:
            raise AdaptkitError(
                f"cannot keep the moment {name} of {moment.diagonal.shape[0]:,} inputs",
                why=f"at rank {moment.factor.shape[1]} it takes {size:,} bytes, more than {LARGEST:,}",
                fix="measure at a smaller rank: --rank 16",
            )
        if tensors and sum(a.nbytes for a in tensors.values()) + size + _ROOM > LARGEST:
            files |= _file(len(files), tensors, folder)
            tensors = {}
        tensors |= {f"{name}.{part}": array for part, array in stored.items()}
    if tensors:
        files |= _file(len(files), tensors, folder)
    if len(files) >= MOST:
        raise AdaptkitError(
            "cannot keep these moments",
            why=f"they take {len(files)} files of {LARGEST:,} bytes, and an attachment has at most {MOST}",
            fix="measure at a smaller rank: --rank 16",
        )
    about_bytes = json.dumps(about.to_json(), sort_keys=True, ensure_ascii=False).encode()
    return {**files, ABOUT: about_bytes}


def _file(number: int, tensors: Mapping[str, Array], folder: Path) -> dict[str, bytes]:
    name = f"moments-{number:02}.safetensors"
    layout = {key: (dtype_name(array.dtype), array.shape) for key, array in tensors.items()}
    with TensorWriter(folder / name, layout, {}) as writer:
        for key, array in tensors.items():
            writer.write(key, array)
        writer.commit()
    return {name: (folder / name).read_bytes()}


def _stored(moment: Moment) -> dict[str, Array]:
    """In half precision where it fits; the diagonal makes up for what the factor loses by it."""
    whole = moment.diagonal + np.einsum("ij,ij->i", moment.factor, moment.factor)
    with np.errstate(over="ignore"):
        factor = moment.factor.astype(np.float16)
    if not np.isfinite(factor).all():
        factor = moment.factor.astype(np.float32)
    return {
        "diagonal": with_diagonal(whole, factor).diagonal.astype(np.float32),
        "factor": np.ascontiguousarray(factor),
    }


@dataclass(frozen=True, slots=True)
class Moments:
    """The moments of one adapter, read one at a time. Close it, or use it in a `with`."""

    label: str
    id: str
    about: About
    _tensors: Mapping[str, TensorFile]
    _stack: ExitStack = field(default_factory=ExitStack)
    _recent: dict[str, Moment] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, adapter: str, label: str) -> Self:
        """What was attached to the artifact `adapter`, in a folder named by its id; `Unmergeable` when it is not sound."""
        stack, tensors = ExitStack(), dict[str, TensorFile]()
        try:
            with os_errors("read", folder):
                about = About.parse((folder / ABOUT).read_bytes())
            if about.adapter != adapter:
                raise ValueError(f"they are of {about.adapter[:19]}…")  # noqa: TRY301
            for path in sorted(folder.glob("moments-*.safetensors")):
                file = TensorFile(path)
                stack.callback(file.close)
                tensors |= dict.fromkeys(file.header.tensors, file)
        except (KeyError, TypeError, ValueError, RecursionError, AdaptkitError) as error:
            stack.close()
            raise _unsound(label, str(error).partition("\n")[0]) from error
        return cls(label, folder.name, about, tensors, stack)

    def of(self, module: str, size: int) -> Moment | None:
        """The moment of a module's `size` inputs; None where its inputs are no vectors."""
        if module in self.about.unmeasured:
            return None
        name = self.about.modules.get(module)
        if name is None:
            raise _unsound(self.label, f"they lack the module '{module}'")
        moment = self._recent.get(name) or self._checked(name, module)
        if moment.diagonal.shape != (size,):
            raise _unsound(
                self.label,
                f"'{module}' has {size} inputs, its moment is of {list(moment.diagonal.shape)}",
            )
        while len(self._recent) >= RECENT:
            self._recent.pop(next(iter(self._recent)), None)
        self._recent[name] = moment
        return moment

    def _checked(self, name: str, module: str) -> Moment:
        """Read one moment; whoever made it, it is the second moment of something."""
        try:
            diagonal, factor = (self._read(f"{name}.{part}") for part in ("diagonal", "factor"))
        except (KeyError, BadWeights) as error:
            raise _unsound(self.label, f"the moment of '{module}' cannot be read") from error
        if diagonal.ndim != 1 or factor.ndim != 2 or len(factor) != len(diagonal):
            raise _unsound(self.label, f"the moment of '{module}' has the wrong shape")
        if not np.isfinite(diagonal).all() or not np.isfinite(factor).all() or diagonal.min() < 0:
            raise _unsound(self.label, f"the moment of '{module}' holds NaN, Inf or negatives")
        return Moment(diagonal, factor)

    def _read(self, key: str) -> Array:
        return self._tensors[key].read(key).astype(np.float64)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def _unsound(label: str, why: str) -> Unmergeable:
    return Unmergeable(
        f"cannot use the moments of {label}",
        why=why,
        fix=f"measure them again: adaptkit calibrate {label} --base DIR --data FILE",
    )


def missing(labels: list[str], strategy: str) -> Unmergeable:
    """The error for adapters that have no moments."""
    return Unmergeable(
        f"'{strategy}' needs the moments of {' and '.join(labels)}",
        why="they were not measured, or did not come along",
        fix="; ".join(f"adaptkit calibrate {label} --base DIR --data FILE" for label in labels),
    )
