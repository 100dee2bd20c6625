"""`AdapterMethod`: how one kind of adapter is read and written, and the values it works with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from adaptkit.errors import Unmergeable
from adaptkit.extend.module_names import Names

if TYPE_CHECKING:
    import numpy as np

    from adaptkit.types import TensorInfo

    Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Module:
    """One place in the base that an adapter changes.

    `shape` is m×n of the update as a matrix. `stored` is the shape in which the base keeps the weight
    (transposed for GPT-2's Conv1D, three- to five-dimensional for a convolution); empty where only the base can tell. A grouped
    convolution and a parameter of fused experts count as `parts` independent matrices, `part` saying which; other
    modules have one. `weight` is the base's tensor when it is not called `NAME.weight`; `transposed` says that each
    of its experts is stored n×m.
    """

    name: str
    kind: Literal["linear", "conv1d", "convolution", "embedding", "expert", "other"]
    shape: tuple[int, int]
    rank: int
    stored: tuple[int, ...]
    part: int = 0
    parts: int = 1
    weight: str = ""
    transposed: bool = False

    @property
    def tensor(self) -> str:
        """The base's tensor that the update is added to."""
        return self.weight or f"{self.name}.weight"

    @property
    def saved_rank(self) -> int:
        """The rank as the file and its configuration count it.

        It counts all groups, but one expert.
        """
        return self.saved(self.rank)

    def saved(self, rank: int) -> int:
        """Another rank of this module as the file would count it."""
        return rank if self.kind == "expert" else rank * self.parts

    @property
    def key(self) -> str:
        """The name in reports: unique among the parts as well."""
        return self.name if self.parts == 1 else f"{self.name}#{self.part}"


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """The update `scale · B @ A` (B is m×r, A is r×n), with an optional `bias` of length m."""

    B: Array
    A: Array
    scale: float = 1.0
    bias: Array | None = None

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """The update `W` (m×n) written out, with an optional additive `bias` of length m."""

    W: Array
    bias: Array | None = None


@dataclass(frozen=True, slots=True)
class Translated:
    """An adapter in other words.

    Its configuration, its tensors one at a time, and the file that another tool expects.
    """

    config: Mapping[str, Any]
    layout: Mapping[str, TensorInfo]
    read: Callable[[str], Array]
    file: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What was guessed, or could not be translated."""


Delta = LowRank | Dense
Applier = Callable[["Array", slice], "Array"]
"""Takes rows of a weight (m×n) and which rows they are; returns them updated."""
Rows = tuple[str, tuple[int, ...]]
"""The key of a tensor that is single rows of one of the base's, and which rows."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the base's class says of it: its parameters' shapes in the model's own order.

    `transposed` names the modules that store each expert's matrix in×out. `layers` gives modules their kind: `linear`,
    `conv1d` (transformers' Conv1D, whose weight is in×out), `convolution` or `embedding`; `groups` those convolutions
    that have several groups.
    """

    parameters: Mapping[str, tuple[int, ...]]
    transposed: frozenset[str] = frozenset()
    layers: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    _names: list[Names] = field(default_factory=list, compare=False, repr=False)

    def layer(self, name: str) -> str:
        """The kind of the module that a name means; empty when it has none, or the name means several."""
        found = self._called(name, 0, self.layers)
        return self.layers[found] if found else ""

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of the parameter that a name means."""
        found = self._called(name, 1, self.parameters)
        return self.parameters[found] if found else None

    def _called(self, name: str, at: int, known: Mapping[str, object]) -> str | None:
        if not self._names:
            self._names.extend((Names(self.layers), Names(self.parameters)))
        found = self._names[at].called(name) if name not in known else [name]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class AddLowRank:
    """The `Applier` that adds a low-rank update."""

    delta: LowRank

    def __call__(self, weight: Array, rows: slice) -> Array:
        """The rows, updated, in an array of their dtype."""
        updated: Array = self._left(rows, weight.dtype) @ self._right(weight.dtype)
        updated += weight
        return updated

    def update(self, rows: slice, out: Array) -> None:
        """What is added to these rows, into an array that is at hand."""
        import numpy as np

        np.matmul(self._left(rows, out.dtype), self._right(out.dtype), out=out)

    def _left(self, rows: slice, dtype: np.dtype[Any]) -> Array:
        left: Array = self.delta.B[rows].astype(dtype) * dtype.type(self.delta.scale)
        return left

    def _right(self, dtype: np.dtype[Any]) -> Array:
        return self.delta.A.astype(dtype, copy=False)


class AdapterView(Protocol):
    """One adapter as a method plugin sees it: configuration, header, and tensors one at a time.

    Keys are normalised: stray adapter names and wrapper prefixes are gone, `base_model.model.` stays.
    `base_shapes` maps the base's tensor names to shapes when the base is at hand, and `model()` is then what its
    class says of it (None when no base is at hand; `BadBase` when no library here knows its class).
    """

    @property
    def label(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def header(self) -> Mapping[str, TensorInfo]: ...
    @property
    def base_shapes(self) -> Mapping[str, tuple[int, ...]] | None: ...
    def model(self) -> Model | None: ...
    def read(self, key: str) -> Array: ...


class AdapterMethod(ABC):
    """How one kind of adapter (LoRA, IA3, …) is read, and written where it can hold a merge."""

    name: ClassVar[str]
    """The lower-case name in the registry and in `--method`, such as `lora`."""
    summary: ClassVar[str] = ""
    """One line for `adaptkit plugins`."""
    generic: ClassVar[bool] = False
    """A catch-all: asked only when no other method recognises an adapter."""
    packs: ClassVar[bool] = False
    """Whether `pack` and `merged_config` can hold any low-rank result."""
    closed: ClassVar[bool] = False
    """Whether a weighted sum of such adapters is one: `combine` and `combined_config` make it."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Configuration fields that parents must agree about, or that `--extras` settles."""

    dialects: ClassVar[Mapping[str, str]] = {}
    """Other tools whose files it reads (`add --from`) and writes (`export --to`), described."""

    @abstractmethod
    def recognises(self, view: AdapterView) -> bool:
        """Whether this adapter is of this method.

        The most specific claim is made by the config's peft_type.
        """

    def check(self, view: AdapterView) -> None:
        """Raise `BadAdapter` when configuration and header do not fit.

        Called once, at `add` and before merging.
        """
        return

    def unmergeable(self, view: AdapterView) -> str:
        """Why this adapter cannot be merged, as a clause such as `DoRA rescales the base's rows`.

        Empty if it can: by default, when the class says what a `delta` is or is `closed`.
        """
        if self.closed or type(self).delta is not AdapterMethod.delta:
            return ""
        return f"the method '{self.name}' does not say how its updates combine"

    def rank(self, view: AdapterView) -> int | None:
        """The largest rank over the modules; None when the method has none."""
        return None

    def modules(self, view: AdapterView) -> tuple[Module, ...]:
        """Every module the file changes, in a fixed order.

        Needed by methods that merge, bake or are checked.
        """
        return ()

    def needs(self, view: AdapterView) -> Literal["nothing", "shapes", "weights"]:
        """What `delta` needs of the base: nothing, its tensor shapes, or its weights."""
        return "nothing"

    def delta(self, view: AdapterView, module: Module) -> Delta:
        """The update of one module."""
        raise Unmergeable(f"cannot merge {view.label}", why=self.unmergeable(view))

    def extras(self, view: AdapterView) -> tuple[str, ...]:
        """Keys of tensors that are no deltas: heads, modules_to_save, new tokens."""
        return ()

    def unbakeable(self, view: AdapterView) -> str:
        """Why this adapter cannot become part of its base's weights, as a clause.

        Empty if it can.
        """
        return self.unmergeable(view)

    def applier(self, view: AdapterView, module: Module) -> Applier:
        """What puts one module's update into its weight.

        It is called with some rows of the weight as an m×n matrix and which rows these are, and returns the same
        rows of the updated weight. By default it adds `delta`; methods whose update depends on the weight override it.
        """
        delta = self.delta(view, module)
        if isinstance(delta, Dense):
            return lambda weight, rows: weight + delta.W[rows].astype(weight.dtype)

        return AddLowRank(delta)

    def by_rows(self, view: AdapterView) -> bool:
        """Whether `applier` can be handed a part of the rows.

        Else it is called once, with all of them.
        """
        return True

    def needs_bias(self, view: AdapterView, module: Module) -> bool:
        """Whether the update adds to the module's bias: a layer without one cannot hold it."""
        return False

    def bias_applier(self, view: AdapterView, module: Module) -> Callable[[Array], Array] | None:
        """What updates the bias of the module's part, of length m, in a layer that has one.

        None when it stays.
        """
        return None

    def replacements(self, view: AdapterView) -> Mapping[str, str]:
        """Tensors of the base that the adapter brings whole.

        Their names, each with the key that holds it.
        """
        return {}

    def row_replacements(self, view: AdapterView) -> Mapping[str, Rows]:
        """Tensors of the base of which the adapter brings single rows.

        Their names, each with key and row numbers.
        """
        return {}

    def row_settings(self, rows: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
        """The configuration fields that say which rows the tensors under these keys are."""
        return {}

    def kept_key(self, key: str, modules: Collection[str]) -> str | None:
        """What an extra tensor is called in an adapter that updates these modules; None where it cannot be beside them."""
        return key

    def pack(self, parts: Sequence[tuple[Module, LowRank]]) -> Mapping[str, Array]:
        """The tensors that hold one base module's merged update (all its parts, scale 1).

        May only reshape, transpose and concatenate: the runner also calls it on empty arrays to
        learn names and shapes before any work is done.
        """
        raise NotImplementedError

    def merged_config(
        self,
        views: Sequence[AdapterView],
        parts: Sequence[Module],
        kept: Collection[str],
        settings: Mapping[str, Any],
        bias: bool,
    ) -> dict[str, Any]:
        """The `adapter_config.json` of a merge whose modules, with their new ranks, are `parts`.

        `kept` are the keys of the tensors that are no deltas, `settings` what became of this
        method's `settings`.
        """
        raise NotImplementedError

    def dialect_of(self, view: AdapterView) -> str:
        """Which of its dialects a file without a configuration is written in; empty for none."""
        return ""

    def read_dialect(self, dialect: str, view: AdapterView) -> Translated:
        """The adapter as PEFT would have saved it."""
        raise NotImplementedError

    def write_dialect(self, dialect: str, view: AdapterView) -> Translated:
        """The adapter as another tool reads it."""
        raise NotImplementedError

    def unread(self, made: AdapterView, view: AdapterView) -> tuple[str, ...]:
        """What of an adapter is not found again in the file `made` of it for another tool, in words."""
        return ()

    def combine(self, key: str, tensors: Sequence[Array], weights: Sequence[float]) -> Array:
        """One tensor of the weighted sum, from the adapters that have it.

        For methods that are `closed`.
        """
        raise NotImplementedError

    def combined_config(
        self, views: Sequence[AdapterView], weights: Sequence[float]
    ) -> dict[str, Any]:
        """The configuration of the weighted sum; may refuse what such an adapter cannot say."""
        raise NotImplementedError
