"""Calls each object that a plugin registered with a tiny input: what `plugins doctor` finds wrong.

A plugin can be imported and registered and still fail at its first use: a method with another
signature, a space that there is not, a library that it imports only then.
"""

from __future__ import annotations

from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, get_args

from adaptkit import extend
from adaptkit.extend.strategy import Space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import click

    from adaptkit.extend import AdapterMethod, Engine, Executor, MergeStrategy, StorageBackend
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
    try:
        return _signatures(kind, value) or (_TRIALS[kind](value) if kind in _TRIALS else "")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  (whatever a plugin does is what is reported)
        return " ".join(f"{type(error).__name__}: {error}".split())


_CLASSES: Mapping[str, type] = {
    "backends": extend.StorageBackend,
    "engines": extend.Engine,
    "executors": extend.Executor,
    "methods": extend.AdapterMethod,
    "strategies": extend.MergeStrategy,
    "trainers": extend.Trainer,
}


def _signatures(kind: str, value: Any) -> str:
    """Which function of a plugin's class cannot be called as its base class says, as a clause."""
    base = _CLASSES.get(kind)
    own = value if isinstance(value, type) else type(value)
    if base is None or not issubclass(own, base):
        return ""
    for name, declared in vars(base).items():
        meant = getattr(declared, "__func__", declared)
        given = next((vars(one)[name] for one in own.__mro__ if name in vars(one)), declared)
        given = getattr(given, "__func__", given)
        if name.startswith("_") or not callable(meant) or not callable(given) or given is meant:
            continue
        asked, has = signature(meant), signature(given)
        if not _takes(has, asked):
            return f"its {name}{_shown(has)} is called as {name}{_shown(asked)}"
    return ""


def _takes(has: Signature, asked: Signature) -> bool:
    """Whether a function takes what another is called with: each argument by place, or by name where it only has one."""
    by_place = [one for one in asked.parameters.values() if one.kind is not Parameter.KEYWORD_ONLY]
    by_name = [one.name for one in asked.parameters.values() if one.kind is Parameter.KEYWORD_ONLY]
    fewest = [one for one in by_place if one.default is Parameter.empty]
    try:
        for places in (by_place, fewest):
            has.bind(*places, **dict.fromkeys(by_name))
    except TypeError:
        return False
    return True


def _shown(found: Signature) -> str:
    """`(self, job, report)`: names alone."""
    stars = [one for one in found.parameters.values() if one.kind is Parameter.KEYWORD_ONLY][:1]
    names = [f"*, {one.name}" if one in stars else one.name for one in found.parameters.values()]
    return f"({', '.join(names)})"


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


def _engine(engine: Engine) -> str:
    line = engine.command("models/ship", host="127.0.0.1", port=8000, slots=1, rank_limit=16)
    words = line if isinstance(line, tuple | list) else ()
    if not words or not all(isinstance(word, str) for word in words):
        return f"command returned {line!r}, which is no tuple of the words of a command line"
    variables = engine.environment(16)
    texts = [*variables, *variables.values()] if hasattr(variables, "values") else [None]
    if not all(isinstance(text, str) for text in texts):
        return f"environment returned {variables!r}, which is no mapping of texts to texts"
    return ""


def _command(command: click.Command) -> str:
    names = [one.name for one in command.params if one.expose_value and one.name]
    has = signature(command.callback or (lambda: None), follow_wrapped=False)
    try:
        has.bind(**dict.fromkeys(names))
    except TypeError as error:
        return f"its function cannot be called with {', '.join(names) or 'nothing'}: {error}"
    return ""


def _executor(executor: type[Executor]) -> str:
    odd = [scheme for scheme in executor.schemes if not scheme.isalnum() or not scheme.islower()]
    return f"the scheme '{odd[0]}' is not lower-case letters and digits" if odd else ""


_TRIALS: Mapping[str, Callable[[Any], str]] = {
    "backends": _backend,
    "commands": _command,
    "engines": _engine,
    "executors": _executor,
    "methods": _method,
    "strategies": _strategy,
}
