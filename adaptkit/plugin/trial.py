"""Calls each object that a plugin registered with a tiny input: what `plugins doctor` finds wrong.

A plugin can be imported and registered and still fail at its first use: a method with another
signature, a space that there is not, a library that it imports only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from adaptkit.extend.strategy import Space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit.extend import AdapterMethod, MergeStrategy, StorageBackend
    from adaptkit.extend.method import Model
    from adaptkit.types import TensorInfo


class _Stranger:
    """An adapter of a method that there is not."""

    label = "an adapter made up for a trial"
    config: Mapping[str, Any] = {"peft_type": "NONE_OF_THESE"}
    header: Mapping[str, TensorInfo] = {}
    base_shapes = None

    def model(self) -> Model | None:
        return None

    def read(self, key: str) -> Any:
        raise KeyError(key)


def try_out(kind: str, value: Any) -> str:
    """What is wrong with one object of a kind, as a clause; empty when nothing was found."""
    trial = _TRIALS.get(kind)
    if trial is None:
        return ""
    try:
        return trial(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  (whatever a plugin does is what is reported)
        return " ".join(f"{type(error).__name__}: {error}".split())


def _strategy(strategy: MergeStrategy[Any]) -> str:
    import numpy as np

    unknown = [space for space in strategy.spaces if space not in get_args(Space)]
    if unknown or not strategy.spaces:
        known = ", ".join(get_args(Space))
        return f"its space '{unknown[0]}' is none of {known}" if unknown else "it has no space"
    count = max(2, strategy.arity[0])
    tensors = [np.arange(1.0, 7.0).reshape(2, 3) + number for number in range(count)]
    rngs = [np.random.default_rng(number) for number in range(count)]
    found = strategy.merge(tensors, [1.0] * count, strategy.params(), rngs)
    if not isinstance(found, np.ndarray) or found.shape != (2, 3):
        shape = getattr(found, "shape", type(found).__name__)
        return f"merge returned {shape} where every tensor was (2, 3)"
    return ""


def _method(method: AdapterMethod) -> str:
    found = method.recognises(_Stranger())
    if not isinstance(found, bool):
        return f"recognises returned {found!r}, which is neither True nor False"
    if found and not method.generic:
        return "it recognises an adapter whose peft_type is of no method"
    return ""


def _backend(backend: type[StorageBackend]) -> str:
    odd = [scheme for scheme in backend.schemes if not scheme.isalnum() or not scheme.islower()]
    return f"the scheme '{odd[0]}' is not lower-case letters and digits" if odd else ""


_TRIALS: Mapping[str, Callable[[Any], str]] = {
    "backends": _backend,
    "methods": _method,
    "strategies": _strategy,
}
