"""What every merge strategy must hold to."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import pytest

from adaptkit.extend import MergeStrategy, Space
from adaptkit.merge.recipe import read_params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.extend import Array

# One module's tensors, as each space shows them.
_SHAPES = {"core": (6, 6), "knots": (6, 9), "dense": (9, 7), "factors": (4, 9)}


class StrategyConformance:
    """Inherit, and give the fixture `strategy`.

    Override `params` to try other parameters than the defaults.
    """

    tolerance: ClassVar[float] = 1e-12
    """Largest relative difference where two ways of computing must agree."""

    @pytest.fixture
    def strategy(self) -> MergeStrategy[Any]:
        """The strategy on trial."""
        raise NotImplementedError(
            "give your test class a fixture `strategy` that returns your MergeStrategy object"
        )

    @pytest.fixture
    def params(self, strategy: MergeStrategy[Any]) -> Any:
        """The parameters it is tried with."""
        return strategy.params()

    def test_it_says_what_it_is(self, strategy: MergeStrategy[Any]) -> None:
        assert isinstance(strategy, MergeStrategy), "the fixture returns a MergeStrategy object"
        assert strategy.name, "a strategy has a name"
        assert strategy.name == strategy.name.lower().strip(), "a name is lower-case"
        assert strategy.formula.strip(), "the formula says in one line what is made"
        assert "\n" not in strategy.formula, "the formula is one line"
        assert strategy.reference.startswith(("https://", "http://")), (
            "the reference is the URL of a paper or source"
        )
        assert strategy.spaces, "the first of its spaces is the default"
        assert not isinstance(strategy.spaces, str), "spaces are a tuple, such as ('dense',)"
        assert not (unknown := [one for one in strategy.spaces if one not in get_args(Space)]), (
            f"there is no space {unknown}: known are {', '.join(get_args(Space))}"
        )
        low, high = strategy.arity
        assert low >= 1, "the fewest adapters are at least one"
        assert high is None or high >= low, "the most adapters are no fewer than the fewest"

    def test_every_parameter_is_documented_and_can_be_typed(
        self, strategy: MergeStrategy[Any]
    ) -> None:
        assert dataclasses.is_dataclass(strategy.params), "parameters are a frozen dataclass"
        assert strategy.params.__dataclass_params__.frozen, "parameters are a frozen dataclass"  # type: ignore[attr-defined]
        for field in dataclasses.fields(strategy.params):
            assert field.metadata.get("help"), (
                f"the parameter '{field.name}' needs metadata={{'help': …}}"
            )
        defaults = dataclasses.asdict(strategy.params())  # every field has a default
        typed = {name: str(value) for name, value in defaults.items()}
        assert read_params(strategy, typed) == defaults, (
            "`--param NAME=TEXT` takes int, float, bool and str"
        )

    def test_the_result_has_the_tensors_shape_and_is_finite(
        self, strategy: MergeStrategy[Any], params: Any
    ) -> None:
        import numpy as np

        for space, count in _cases(strategy):
            tensors, weights = _tensors(space, count), _weights(count)
            merged = _merge(strategy, tensors, weights, params)
            assert merged.shape == tensors[0].shape, (
                f"merge returns another shape than its tensors', in the space '{space}', of {count}"
            )
            assert np.issubdtype(merged.dtype, np.floating), "the result is of floats"
            assert merged.dtype.itemsize >= tensors[0].dtype.itemsize, "no precision is lost"
            assert np.isfinite(merged).all(), f"NaN or infinity in the space '{space}', of {count}"

    def test_inputs_are_left_as_they_were(self, strategy: MergeStrategy[Any], params: Any) -> None:
        for space, count in _cases(strategy):
            tensors, weights = _tensors(space, count), _weights(count)
            before, weights_before = [tensor.tobytes() for tensor in tensors], list(weights)
            _merge(strategy, tensors, weights, params)
            assert [tensor.tobytes() for tensor in tensors] == before, (
                f"merge changed its tensors, in the space '{space}', of {count}"
            )
            assert list(weights) == weights_before, "merge changed its weights"

    def test_the_same_seed_gives_the_same_bytes(
        self, strategy: MergeStrategy[Any], params: Any
    ) -> None:
        import numpy as np

        state = np.random.get_state()  # noqa: NPY002  (the global generator is what must not matter)
        try:
            for space, count in _cases(strategy):
                found = set()
                for seed in (1, 2):
                    np.random.seed(seed)  # noqa: NPY002
                    found.add(
                        _merge(strategy, _tensors(space, count), _weights(count), params).tobytes()
                    )
                assert len(found) == 1, "randomness comes from `rngs` alone"
        finally:
            np.random.set_state(state)  # noqa: NPY002

    def test_zeros_give_zeros(self, strategy: MergeStrategy[Any], params: Any) -> None:
        import numpy as np

        for space, count in _cases(strategy):
            zeros = [np.zeros_like(tensor) for tensor in _tensors(space, count)]
            assert not _merge(strategy, zeros, _weights(count), params).any(), (
                f"adapters of zeros do not give zeros, in the space '{space}', of {count}"
            )

    def test_one_adapter_at_its_identity_weight_comes_back(
        self, strategy: MergeStrategy[Any], params: Any
    ) -> None:
        if strategy.identity_at is None or strategy.arity[0] > 1:
            return  # it says that one adapter does not come back, or takes none alone
        for space in dict.fromkeys(space for space, _ in _cases(strategy)):
            tensors = _tensors(space, 1)
            merged = _merge(strategy, tensors, [strategy.identity_at], params)
            assert _apart(merged, tensors[0]) <= self.tolerance, (
                f"one adapter of the weight {strategy.identity_at} does not come back as it was, in the space "
                f"'{space}': `identity_at = None` says that it does not"
            )

    def test_order_does_not_matter_where_it_says_so(
        self, strategy: MergeStrategy[Any], params: Any
    ) -> None:
        if not strategy.symmetric:
            return  # order may matter to it
        for space, count in _cases(strategy):
            tensors, weights = _tensors(space, count), _weights(count)
            merged = _merge(strategy, tensors, weights, params)
            order = [*range(1, count), 0]
            turned = _merge(
                strategy, [tensors[i] for i in order], [weights[i] for i in order], params, order
            )
            assert _apart(turned, merged) <= _close(self.tolerance, tensors[0]), (
                f"another order of the adapters gives another result, in the space '{space}', of {count}: "
                "`symmetric = False` says so"
            )

    def test_coefficients_tell_the_truth(self, strategy: MergeStrategy[Any], params: Any) -> None:
        for space, count in _cases(strategy):
            tensors, weights = _tensors(space, count), _weights(count)
            coefficients = strategy.coefficients(weights, params)
            if coefficients is None or space == "factors":
                continue  # no weighted sum of updates
            assert len(coefficients) == count, "there is a coefficient for each adapter"
            exact = sum(
                (c * tensor for c, tensor in zip(coefficients, tensors, strict=True)),
                start=0 * tensors[0],
            )
            assert _apart(_merge(strategy, tensors, weights, params), exact) <= self.tolerance, (
                f"merge does not give Σ cᵢ·Dᵢ of what `coefficients` returns, in the space '{space}', of {count}"
            )


def _cases(strategy: MergeStrategy[Any]) -> list[tuple[str, int]]:
    """Each of its spaces with the fewest adapters it takes, and with some more."""
    low, high = strategy.arity
    counts = sorted({low, min(low + 1, high or low + 1), min(low + 3, high or low + 3)})
    known = [space for space in strategy.spaces if space in _SHAPES]  # a test names the others
    return [(space, count) for space in known for count in counts]


def _tensors(space: str, count: int) -> list[Array]:
    """Tensors of many sizes and signs, with exact zeros and equal entries among them."""
    import numpy as np

    rng = np.random.default_rng([count, *_SHAPES[space]])
    tensors = [rng.standard_normal(_SHAPES[space]) * 10.0**-i for i in range(count)]
    for tensor in tensors:
        tensor[0, :2] = 0.0
        tensor[1, :3] = tensor[1, 0]
    return [tensor.astype(np.float32) for tensor in tensors] if space == "factors" else tensors


def _weights(count: int) -> list[float]:
    return [1.0 - (i + 1) / (count + 2) for i in range(count)]  # none is 1, no two are equal


def _merge(
    strategy: MergeStrategy[Any],
    tensors: Sequence[Array],
    weights: Sequence[float],
    params: Any,
    order: Sequence[int] | None = None,
) -> Array:
    """Merge with a generator for each adapter, the same at every call."""
    import numpy as np

    keys = range(len(tensors)) if order is None else order
    merged: object = strategy.merge(
        tensors, weights, params, [np.random.Generator(np.random.Philox(key=7 + k)) for k in keys]
    )
    assert isinstance(merged, np.ndarray), (
        f"merge returns a numpy array, not an object of the type {type(merged).__name__}"
    )
    return merged


def _apart(one: Array, other: Array) -> float:
    """How far two tensors are from each other, relative to the second."""
    import numpy as np

    size = float(np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / size if size else float(np.linalg.norm(one))


def _close(tolerance: float, tensor: Array) -> float:
    """Sums in another order agree as far as the precision goes."""
    import numpy as np

    return max(tolerance, 8 * float(np.finfo(tensor.dtype).eps))
