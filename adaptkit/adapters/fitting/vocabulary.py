"""A vocabulary that an adapter brings resized: embedding, head and `vocab_size` agree, or the result is refused."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from adaptkit.bases.describe import architecture_of
from adaptkit.bases.pipeline import COMPONENTS, component_configs, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adaptkit.adapters.fitting.fitted import Fit

    Path = tuple[str, ...]

_KEY = "vocab_size"
_CLASSES = "num_classes"  # what timm's config.json says of the head


def settle_vocabulary(made: Fit) -> None:
    """Write the new number of tokens into the configuration where embeddings or heads changed their rows.

    Of a pipeline into that of the component which has them; timm's config.json counts classes instead.
    """
    config = made.result_config()
    parts = component_configs(config)
    resized: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for name, tensor in made.tensors.items():
        before = made.weights.shapes.get(tensor.source)
        if before and tensor.shape != before and tensor.shape[1:] == before[1:]:
            resized[split(name, parts)[0]][name] = (before[0], tensor.shape[0])
    changed = {}
    for part, rows in resized.items():
        new = max(count for _, count in rows.values())
        changed[part] = _resized(made, part, parts.get(part, config), rows, new)
        made.remarks.append(
            "; ".join(
                f"'{name}' has {new} rows instead of {old}" for name, (old, new) in rows.items()
            )
        )
    if parts and changed:
        made.config[COMPONENTS] = {**parts, **changed}
    elif changed:
        made.config |= {key: v for key, v in changed[""].items() if config.get(key) != v}
    if changed:
        _pad_buffers(made)


def _pad_buffers(made: Fit) -> None:
    """What the class holds beside parameters for each token (BART's bias of the logits) gets zeros for the new ones."""
    for name, shape in made.result().buffers.items():
        tensor = made.tensors[name]
        longer = len(shape) == len(tensor.shape) and all(
            new >= old for new, old in zip(shape, tensor.shape, strict=True)
        )
        if longer and shape != tensor.shape:
            tensor.shape, tensor.padded = shape, True


def _resized(
    made: Fit, part: str, config: Mapping[str, Any], rows: Mapping[str, tuple[int, int]], new: int
) -> dict[str, Any]:
    """The configuration with the new count: in all of its places if the class then has the planned shapes, else in one."""
    key = _CLASSES if isinstance(config.get("architecture"), str) and _CLASSES in config else _KEY
    counts = {_declared(config, key)} | {old for old, _ in rows.values()}
    places = list(_places(config, key, counts))
    everywhere = _with(config, places, new)
    options = [everywhere, *(_with(config, [place], new) for place in places)]
    if len(places) > 1:  # such as an encoder and a decoder with vocabularies of their own
        return next((one for one in options if _agrees(made, part, one)), everywhere)
    return everywhere if places else {**config, key: new}


def _declared(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) else -1


def _places(config: Mapping[str, Any], key: str, counts: set[int]) -> Iterator[Path]:
    """Where a configuration and its parts say one of these counts under a key."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from ((name, *rest) for rest in _places(value, key, counts))
        elif name == key and isinstance(value, int) and value in counts:
            yield (name,)


def _with(config: Mapping[str, Any], places: list[Path], new: int) -> dict[str, Any]:
    """The configuration with another number in these places."""
    return {
        name: _with(value, [place[1:] for place in places if place[0] == name and place[1:]], new)
        if isinstance(value, dict)
        else new
        if (name,) in places
        else value
        for name, value in config.items()
    }


def _agrees(made: Fit, part: str, config: Mapping[str, Any]) -> bool:
    """Whether the class has the shapes that are planned."""
    start = f"{part}." if part else ""
    shapes = {
        name.removeprefix(start): tensor.shape
        for name, tensor in made.tensors.items()
        if name.startswith(start)
    }
    after = architecture_of(config, shapes, cache=made.weights.cache)
    return after.known and all(
        pieces[0].count == after.parameters[name][0]
        for name, pieces in after.pieces.items()
        if after.parameters[name] and len(pieces) == 1 and pieces[0].expert is None
    )
