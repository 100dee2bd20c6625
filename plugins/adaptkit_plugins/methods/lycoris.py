"""LoHa and LoKr: updates that are a Hadamard or a Kronecker product of small matrices.

Both are low rank themselves: rows of a Khatri-Rao product for LoHa (rank r₁·r₂), factor by factor
for LoKr, so they merge without their base and without the m×n matrix wherever that is smaller.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from adaptkit.errors import BadConfig, BadWeights
from adaptkit.extend import AdapterMethod, Dense, LowRank, Module
from adaptkit.extend.layers import linear_kind, stored_shape
from adaptkit.extend.module_names import PREFIX, base_name, matches, may_never_end
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit.extend import AdapterView, Array, Delta


class Lycoris(AdapterMethod):
    """What LoHa and LoKr have in common: how their keys look, alpha, and the shape of a module."""

    peft_type: ClassVar[str]
    mark: ClassVar[str]

    def recognises(self, view: AdapterView) -> bool:
        return view.config.get("peft_type") == self.peft_type

    def unmergeable(self, view: AdapterView) -> str:
        return ""

    def check(self, view: AdapterView) -> None:
        for field in ("r", "alpha"):
            value = view.config.get(field)
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not 0 < value < float("inf")
            ):
                raise BadConfig(
                    f"{view.label}: {field} is {value!r}",
                    why="it must be a positive number",
                    fix="correct adapter_config.json, or train again",
                )
        for pattern in view.config.get("alpha_pattern") or {}:
            if may_never_end(pattern):
                raise BadConfig(
                    f"{view.label}: alpha_pattern has the pattern '{pattern[:60]}'",
                    why="matching it could take for ever: it repeats a group, or repeats too often",
                    fix="write the module names out in adapter_config.json",
                )
        self.modules(view)

    def rank(self, view: AdapterView) -> int | None:
        return int(view.config["r"])

    def modules(self, view: AdapterView) -> tuple[Module, ...]:
        found = [
            self._module(view, name, tensors)
            for name, tensors in sorted(self._tensors(view).items())
        ]
        if not found:
            raise BadWeights(
                f"{view.label} changes no module",
                why=f"its file holds no {self.mark}… tensors",
                fix="save the adapter again with model.save_pretrained(DIR)",
            )
        return tuple(found)

    def extras(self, view: AdapterView) -> tuple[str, ...]:
        return tuple(key for key in view.header if f".{self.mark}" not in key)

    def replacements(self, view: AdapterView) -> Mapping[str, str]:
        return {base_name(key): key for key in self.extras(view)}

    def _tensors(self, view: AdapterView) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shapes by module and by the tensor's own name."""
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for key, info in view.header.items():
            module, mark, tail = key.removeprefix(PREFIX).rpartition(f".{self.mark}")
            if mark:
                found.setdefault(module, {})[tail] = info.shape
        return found

    def _module(
        self, view: AdapterView, name: str, tensors: Mapping[str, tuple[int, ...]]
    ) -> Module:
        raise NotImplementedError

    def _read(self, view: AdapterView, module: Module, tail: str) -> Array:
        import numpy as np

        return view.read(f"{PREFIX}{module.name}.{self.mark}{tail}").astype(np.float64)

    def _has(self, view: AdapterView, module: Module, tail: str) -> bool:
        return f"{PREFIX}{module.name}.{self.mark}{tail}" in view.header

    def _scale(self, view: AdapterView, name: str, rank: int) -> float:
        patterns = view.config.get("alpha_pattern") or {}
        alpha = next(
            (value for pattern, value in patterns.items() if matches(pattern, name)),
            view.config["alpha"],
        )
        return float(alpha) / rank

    def needs(self, view: AdapterView) -> Literal["nothing", "shapes", "weights"]:
        """Only the base tells a convolution, whose factors look like a linear layer's.

        The task types that PEFT has are those of language models, which are adapted in linear layers.
        """
        if view.config.get("task_type"):
            return "nothing"
        return (
            "shapes"
            if any(self._may_be_convolution(t) for t in self._tensors(view).values())
            else "nothing"
        )

    def _may_be_convolution(self, tensors: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether the file alone does not tell the kind of layer."""
        raise NotImplementedError

    def _described(self, view: AdapterView, name: str, shape: tuple[int, int], rank: int) -> Module:
        """A module whose factors tell m×n only: a convolution is known from the base."""
        stored = stored_shape(view, name)
        if stored is not None and len(stored) > 2:
            return Module(name, "convolution", shape, rank, stored)
        kind = linear_kind(view, name, *shape)
        return Module(name, kind, shape, rank, shape if kind == "linear" else shape[::-1])


class LoHa(Lycoris):
    """Hadamard products of two low-rank matrices (https://arxiv.org/abs/2108.06098)."""

    name: ClassVar[str] = "loha"
    summary: ClassVar[str] = "LoHa; merges as the low-rank update it is"
    peft_type: ClassVar[str] = "LOHA"
    mark: ClassVar[str] = "hada_"

    def _module(
        self, view: AdapterView, name: str, tensors: Mapping[str, tuple[int, ...]]
    ) -> Module:
        needed = {"w1_a", "w1_b", "w2_a", "w2_b"}
        if missing := needed - tensors.keys():
            raise BadWeights(
                f"{view.label}: '{name}' has no hada_{min(missing)}",
                why="its product is incomplete",
                fix="save the adapter again",
            )
        w1_a, w1_b, w2_a = tensors["w1_a"], tensors["w1_b"], tensors["w2_a"]
        if (
            "t1" in tensors
        ):  # a convolution through its core (Tucker), outputs in the second dimension of w1_a
            kernel = tensors["t1"][2:]
            shape = (w1_a[1], w1_b[1] * math.prod(kernel))
            stored = stored_shape(view, name) or (w1_a[1], w1_b[1], *kernel)
            return Module(name, "convolution", shape, min(shape), stored)
        shape = (w1_a[0], w1_b[1])
        return self._described(view, name, shape, min(w1_a[1] * w2_a[1], *shape))

    def _may_be_convolution(self, tensors: Mapping[str, tuple[int, ...]]) -> bool:
        return "t1" not in tensors

    def delta(self, view: AdapterView, module: Module) -> Delta:
        import numpy as np

        w1_a, w1_b, w2_a, w2_b = (
            self._read(view, module, tail) for tail in ("w1_a", "w1_b", "w2_a", "w2_b")
        )
        if self._has(view, module, "t1"):
            halves = [
                np.einsum("ijkl,jr,ip->prkl", self._read(view, module, t), wb, wa)
                for t, wa, wb in (("t1", w1_a, w1_b), ("t2", w2_a, w2_b))
            ]
            scale = self._scale(view, module.name, w1_b.shape[0])
            return Dense((halves[0] * halves[1]).reshape(module.shape) * scale)
        scale = self._scale(view, module.name, w1_b.shape[0])
        rank = w1_a.shape[1] * w2_a.shape[1]
        if rank >= min(module.shape):
            return Dense((w1_a @ w1_b) * (w2_a @ w2_b) * scale)
        B = (w1_a[:, :, None] * w2_a[:, None, :]).reshape(module.shape[0], rank)
        A = (w1_b[:, None, :] * w2_b[None, :, :]).reshape(rank, module.shape[1])
        return LowRank(B, A, scale)


class LoKr(Lycoris):
    """Kronecker products of two matrices, whole or low rank (https://arxiv.org/abs/2309.14859)."""

    name: ClassVar[str] = "lokr"
    summary: ClassVar[str] = (
        "LoKr; merges as the low-rank update it is, where one factor is low rank"
    )
    peft_type: ClassVar[str] = "LOKR"
    mark: ClassVar[str] = "lokr_"

    def _module(
        self, view: AdapterView, name: str, tensors: Mapping[str, tuple[int, ...]]
    ) -> Module:
        try:
            left = tensors["w1"] if "w1" in tensors else (tensors["w1_a"][0], tensors["w1_b"][1])
            if "w2" in tensors:
                right = tensors["w2"]
            elif "t2" in tensors:
                right = (tensors["w2_a"][1], tensors["w2_b"][1], *tensors["t2"][2:])
            else:
                right = (tensors["w2_a"][0], *tensors["w2_b"][1:])
        except KeyError as error:
            raise BadWeights(
                f"{view.label}: '{name}' has no lokr_{error.args[0]}",
                why="its product is incomplete",
                fix="save the adapter again",
            ) from error
        kernel = right[2:]
        shape = (left[0] * right[0], left[1] * right[1] * math.prod(kernel))
        ranks = [
            tensors["w1_b"][0] if "w1_b" in tensors else min(left),
            tensors["w2_b"][0] if "w2_b" in tensors and not kernel else min(right[:2]),
        ]
        if kernel:
            stored = stored_shape(view, name) or (shape[0], left[1] * right[1], *kernel)
            return Module(name, "convolution", shape, min(shape), stored)
        return self._described(view, name, shape, min(ranks[0] * ranks[1], *shape))

    def _may_be_convolution(self, tensors: Mapping[str, tuple[int, ...]]) -> bool:
        return "w2" not in tensors and "t2" not in tensors

    def delta(self, view: AdapterView, module: Module) -> Delta:
        import numpy as np

        rank = next(
            (
                self._read(view, module, tail).shape[0]
                for tail in ("w1_b", "w2_b")
                if self._has(view, module, tail)
            ),
            None,
        )
        # PEFT divides by r, whatever became of the two factors.
        scale = self._scale(view, module.name, rank or int(view.config["r"]))
        left = self._factor(view, module, "w1")
        if self._is_kernel(view, module):
            right = self._whole_conv(view, module)
            whole = left[0] @ left[1]
            # PEFT leaves a three-dimensional factor to torch.kron, which puts the new axis first.
            kernel = np.kron(whole[:, :, None, None] if right.ndim == 4 else whole, right)
            return Dense(kernel.reshape(module.shape) * scale)
        right_b, right_a = self._factor(view, module, "w2")
        if left[0].shape[1] * right_b.shape[1] >= min(module.shape):
            return Dense(np.kron(left[0] @ left[1], right_b @ right_a) * scale)
        return LowRank(np.kron(left[0], right_b), np.kron(left[1], right_a), scale)

    def _is_kernel(self, view: AdapterView, module: Module) -> bool:
        key = f"{PREFIX}{module.name}.{self.mark}w2"
        return self._has(view, module, "t2") or (
            key in view.header and len(view.header[key].shape) > 2
        )

    def _factor(self, view: AdapterView, module: Module, name: str) -> tuple[Array, Array]:
        """One side of the product as B·A; a whole matrix with an identity beside it."""
        import numpy as np

        if not self._has(view, module, name):
            return self._read(view, module, f"{name}_a"), self._read(view, module, f"{name}_b")
        whole = self._read(view, module, name)
        if whole.shape[0] <= whole.shape[1]:
            return np.eye(whole.shape[0]), whole
        return whole, np.eye(whole.shape[1])

    def _whole_conv(self, view: AdapterView, module: Module) -> Array:
        import numpy as np

        if self._has(view, module, "w2"):
            return self._read(view, module, "w2")
        a, b = self._read(view, module, "w2_a"), self._read(view, module, "w2_b")
        return np.asarray(np.einsum("ijkl,jr,ip->prkl", self._read(view, module, "t2"), b, a))


@hookimpl
def register_adapter_methods(register: Callable[[AdapterMethod], None]) -> None:
    for method in (LoHa(), LoKr()):
        register(method)
