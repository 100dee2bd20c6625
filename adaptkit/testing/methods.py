"""What every adapter method must hold to."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from adaptkit.adapters.adapter import Adapter
from adaptkit.algebra.lowrank import add
from adaptkit.extend import AdapterMethod, LowRank, Module
from adaptkit.types import TensorInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from adaptkit.extend import AdapterView, Array, Delta, Model


class MethodConformance:
    """Inherit, and give the fixtures `method` and `adapter_dir`, a saved adapter's folder."""

    tolerance: ClassVar[float] = 1e-6
    """Largest relative difference between an update and the same update packed and read again."""

    @pytest.fixture
    def method(self) -> AdapterMethod:
        """The method on trial."""
        raise NotImplementedError(
            "give your test class a fixture `method` that returns your AdapterMethod object"
        )

    @pytest.fixture
    def adapter_dir(self) -> Path:
        """A saved adapter of this method."""
        raise NotImplementedError(
            "give your test class a fixture `adapter_dir` that returns a saved adapter's folder"
        )

    @pytest.fixture
    def view(self, adapter_dir: Path) -> Iterator[AdapterView]:
        """The saved adapter, opened as adaptkit opens it."""
        with Adapter.open(adapter_dir) as adapter:
            yield adapter

    def test_it_says_what_it_is(self, method: AdapterMethod) -> None:
        assert isinstance(method, AdapterMethod)
        assert method.name
        assert method.name == method.name.lower().strip(), "a name is lower-case"
        assert method.summary, "one line for `adaptkit plugins`"

    def test_its_adapter_is_recognised_and_passes(
        self, method: AdapterMethod, view: AdapterView
    ) -> None:
        config = deepcopy(dict(view.config))
        assert method.recognises(view) is True
        method.check(view)
        assert view.config == config, "reading changes nothing"

    def test_an_adapter_of_another_type_is_left_to_others(
        self, method: AdapterMethod, view: AdapterView
    ) -> None:
        stranger = _Memory(dict(view.config) | {"peft_type": "NOBODYS"}, {})
        assert method.recognises(stranger) is method.generic

    def test_why_it_cannot_be_merged_is_a_clause(
        self, method: AdapterMethod, view: AdapterView
    ) -> None:
        why = method.unmergeable(view)
        assert isinstance(why, str)
        assert not why.endswith("."), "it becomes the middle of an error message"

    def test_modules_are_unique_and_in_a_fixed_order(
        self, method: AdapterMethod, view: AdapterView
    ) -> None:
        modules = _modules(method, view)
        assert len({module.key for module in modules}) == len(modules)
        assert modules == _modules(method, view)
        for module in modules:
            assert min(module.shape) > 0, module.key
            assert 0 <= module.part < module.parts, module.key
            assert not module.name.startswith("base_model."), "a module has the base's name for it"
        if not method.unmergeable(view):
            assert modules, "an adapter that can be merged changes something"

    def test_every_delta_has_its_modules_shape_and_is_finite(
        self, method: AdapterMethod, view: AdapterView
    ) -> None:
        import numpy as np

        for module in _readable(method, view):
            delta = method.delta(view, module)
            m, n = module.shape
            if isinstance(delta, LowRank):
                assert delta.B.shape == (m, module.rank), module.key
                assert delta.A.shape == (module.rank, n), module.key
            else:
                assert delta.W.shape == (m, n), module.key
            assert delta.bias is None or delta.bias.shape == (m,), module.key
            assert np.isfinite(_dense(delta)).all(), module.key
        ranks = [module.saved_rank for module in _readable(method, view)]
        rank = method.rank(view)
        assert rank is None or not ranks or rank == max(ranks), (
            "the rank of an adapter is its modules' largest"
        )

    def test_what_can_be_merged_is_merged_with_itself(
        self, method: AdapterMethod, view: AdapterView
    ) -> None:
        import numpy as np

        for module in _readable(method, view):
            twice = add([method.delta(view, module)] * 2, [0.5, 0.5])
            assert np.isfinite(_dense(twice)).all(), module.key
            assert _apart(_dense(twice), _dense(method.delta(view, module))) <= self.tolerance

    def test_each_tensor_is_of_a_delta_or_an_extra_and_never_both(
        self, method: AdapterMethod, view: AdapterView
    ) -> None:
        extras = method.extras(view)
        assert len(set(extras)) == len(extras)
        assert set(extras) <= set(view.header)
        modules = _readable(method, view)
        if not modules:
            return  # nothing that a merge could lose
        watched = _Watched(view)
        for module in modules:
            method.delta(watched, module)
        assert not watched.asked & set(extras)
        assert watched.asked | set(extras) == set(view.header), "a merge would lose the rest"

    def test_what_it_packs_reads_as_the_same_update(
        self, method: AdapterMethod, view: AdapterView
    ) -> None:
        if not method.packs or method.unmergeable(view):
            return  # it holds no merge
        extras = method.extras(view)
        packed, tensors, parts, before = _packed(method, view)
        assert not set(tensors) & set(extras)
        bias = any(delta.bias is not None for delta in before.values())
        settings = {name: view.config.get(name) for name in method.settings}
        config = method.merged_config([view], parts, extras, settings, bias)
        config = json.loads(
            json.dumps(config, allow_nan=False)
        )  # it is written as adapter_config.json
        again = _Memory(config, tensors | {key: view.read(key) for key in extras})

        assert method.recognises(again)
        method.check(again)
        assert set(method.extras(again)) == set(extras)
        found = {module.key: module for module in method.modules(again)}
        assert {key: module.rank for key, module in found.items()} == {
            part.key: part.rank for part in parts
        }
        for key, module in found.items():
            assert module.shape == packed[key].shape
            delta = method.delta(again, module)
            assert _apart(_dense(delta), _dense(before[key])) <= self.tolerance, key
            if (old := before[key].bias) is not None:
                assert delta.bias is not None
                assert _apart(delta.bias, old) <= self.tolerance, key

    def test_packing_empty_arrays_tells_names_and_shapes(
        self, method: AdapterMethod, view: AdapterView
    ) -> None:
        import numpy as np

        if not method.packs or method.unmergeable(view):
            return  # it holds no merge
        for _, group in groupby(method.modules(view), key=lambda module: module.name):
            deltas = [(module, _low_rank(method.delta(view, module))) for module in group]
            zero = np.zeros((), np.int8)
            empty = [
                (
                    module,
                    LowRank(
                        np.broadcast_to(zero, d.B.shape),
                        np.broadcast_to(zero, d.A.shape),
                        1.0,
                        None if d.bias is None else np.broadcast_to(zero, d.bias.shape),
                    ),
                )
                for module, d in deltas
            ]
            shapes = {key: array.shape for key, array in method.pack(deltas).items()}
            assert {key: array.shape for key, array in method.pack(empty).items()} == shapes


class _Memory:
    """An adapter that was never saved."""

    label, base_shapes = "the adapter in memory", None

    def model(self) -> Model | None:
        return None

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        self.config, self._tensors = config, tensors
        self.header = {
            key: TensorInfo(f"F{8 * array.dtype.itemsize}", tuple(array.shape), array.nbytes)
            for key, array in sorted(tensors.items())
        }

    def read(self, key: str) -> Array:
        return self._tensors[key]


class _Watched:
    """A view that remembers which tensors were read."""

    def __init__(self, view: AdapterView) -> None:
        self._view, self.asked = view, set[str]()
        self.label, self.config, self.header, self.base_shapes = (
            view.label,
            view.config,
            view.header,
            view.base_shapes,
        )
        self.model = view.model

    def read(self, key: str) -> Array:
        self.asked.add(key)
        return self._view.read(key)


def _modules(method: AdapterMethod, view: AdapterView) -> tuple[Module, ...]:
    return () if method.unmergeable(view) else method.modules(view)


def _readable(method: AdapterMethod, view: AdapterView) -> tuple[Module, ...]:
    """The modules whose update needs nothing that is not at hand."""
    return _modules(method, view) if method.needs(view) == "nothing" else ()


def _packed(
    method: AdapterMethod, view: AdapterView
) -> tuple[dict[str, Module], dict[str, Array], list[Module], dict[str, LowRank]]:
    """The adapter's modules, packed as a merge does.

    Scale 1, and every second one with twice the rank.

    A merge gives modules different ranks, which is where configurations go wrong.
    """
    import numpy as np

    packed: dict[str, Module] = {}
    tensors: dict[str, Array] = {}
    before: dict[str, LowRank] = {}
    for number, (_, group) in enumerate(
        groupby(method.modules(view), key=lambda module: module.name)
    ):
        parts = []
        for module in group:
            delta = _low_rank(method.delta(view, module))
            before[module.key] = delta
            if number % 2 and 2 * module.rank <= min(module.shape):
                wide = LowRank(
                    np.hstack([delta.B, delta.B]) / 2,
                    np.vstack([delta.A, delta.A]),
                    1.0,
                    delta.bias,
                )
                parts.append((replace(module, rank=2 * module.rank), wide))
            else:
                parts.append((module, delta))
        packed |= {module.key: module for module, _ in parts}
        tensors |= method.pack(parts)
    return packed, tensors, list(packed.values()), before


def _low_rank(delta: Delta) -> LowRank:
    """The update with its scale multiplied in."""
    import numpy as np

    assert isinstance(delta, LowRank), "a method that packs low-rank updates has low-rank updates"
    return LowRank(
        np.asarray(delta.B, np.float64) * delta.scale,
        np.asarray(delta.A, np.float64),
        1.0,
        delta.bias,
    )


def _dense(delta: Delta) -> Array:
    import numpy as np

    if isinstance(delta, LowRank):
        product: Array = (
            np.asarray(delta.B, np.float64) @ np.asarray(delta.A, np.float64) * delta.scale
        )
        return product
    return np.asarray(delta.W, np.float64)


def _apart(one: Array, other: Array) -> float:
    import numpy as np

    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    size = float(np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / size if size else float(np.linalg.norm(one))
