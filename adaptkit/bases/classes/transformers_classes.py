"""transformers' own classes, built on no device, and how a checkpoint's tensors become their parameters.

transformers 5 renames and fuses tensors while it loads them (`block_sparse_moe.experts.3.w1.weight` becomes rows of
`mlp.experts.gate_up_proj`), and adapters name what the model has. The library's own conversion mapping is followed
forwards here, for names and places only: which rows of which tensor are which rows of a parameter.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

from adaptkit.bases.architecture import Architecture, Piece, unknown
from adaptkit.bases.classes.layers import Described, described

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_AUTO = {  # PEFT's task types, and the auto classes that PEFT's own AutoPeftModel uses for them
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}


def build(
    config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]], task: str
) -> Architecture:
    """The architecture of a transformers configuration; one that says why it is unknown where there is no class."""
    try:
        import transformers
    except ImportError:
        return unknown(tensors, "transformers is not installed: pip install 'adaptkit-peft[train]'")
    try:
        model = _empty_model(transformers, config, task)
    except Exception as error:  # noqa: BLE001  (a configuration of somebody else's may break a class in any way)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return unknown(tensors, f"transformers {transformers.__version__} cannot build it: {first}")
    found = described(model)
    followed = _follow(model, found, tensors)
    return Architecture(
        type(model).__name__,
        task or _task(transformers, model),
        found.parameters,
        found.layers,
        found.groups,
        found.transposed,
        found.ties,
        found.embedding,
        found.head,
        followed.pieces,
        followed.altered,
        tuple(followed.unused),
        buffers=followed.buffers,
        looked_into=found.looked_into,
    )


def _empty_model(transformers: Any, declared: Mapping[str, Any], task: str) -> Any:
    """The model that the configuration names, or that a task has for it, on no device."""
    import torch

    kind = str(declared["model_type"])
    if kind not in transformers.CONFIG_MAPPING:
        raise ValueError(f"it has no model_type '{kind}'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity_error()  # of the configuration's odd values, which are the owner's
        try:
            whole = {
                key: _floats(value)
                for key, value in declared.items()
                if key not in {"auto_map", "quantization_config"}
            }
            config = transformers.CONFIG_MAPPING[kind].from_dict(whole)
            named = [
                found
                for name in config.architectures or ()
                if (found := getattr(transformers, str(name), None)) is not None
                and hasattr(found, "_from_config")
            ]
            with torch.device("meta"):
                if task:
                    model = getattr(transformers, _AUTO[task]).from_config(config)
                elif named:
                    model = named[0]._from_config(config)  # noqa: SLF001  (how transformers builds a class it was given)
                else:
                    model = transformers.AutoModel.from_config(config)
                model.tie_weights()
        finally:
            transformers.logging.set_verbosity(level)
    return model


def _floats(value: Any) -> Any:
    """A value of config.json with the numbers that JSON has not, which transformers 5 writes as `{"__float__": …}`."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {key: _floats(one) for key, one in value.items()}
    return [_floats(one) for one in value] if isinstance(value, list) else value


def _task(transformers: Any, model: Any) -> str:
    """PEFT's name for what the class is for; empty where PEFT has none."""
    name = type(model).__name__
    for task, auto in _AUTO.items():
        mapping = getattr(transformers, auto)._model_mapping  # noqa: SLF001  (the table behind the public class)
        names = mapping._model_mapping.get(model.config.model_type, ())  # noqa: SLF001
        if name in ((names,) if isinstance(names, str) else tuple(names)):
            return task if _takes_text(model) else ""
    return ""


def _takes_text(model: Any) -> bool:
    """Whether the class can stand in PEFT's wrapper of a task, which hands `input_ids` and `inputs_embeds` on by name."""
    return {"input_ids", "inputs_embeds"} <= set(signature(model.forward).parameters)


@dataclass(slots=True)
class _Followed:
    """The pieces of every parameter, what is computed beyond following, what is not loaded, and what are buffers."""

    pieces: dict[str, tuple[Piece, ...]] = field(default_factory=dict)
    altered: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    buffers: dict[str, tuple[int, ...]] = field(default_factory=dict)


def without_place(
    model: Any,
    parameters: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, tuple[int, ...]],
) -> list[str]:
    """The tensors that a live model of these parameters would not load, under the names of a checkpoint of its class."""
    try:
        found = Described(parameters, {}, {}, frozenset(), {}, "", "", {})
        followed = _follow(model, found, tensors)
    except (AttributeError, KeyError):  # no model of transformers
        return list(tensors)
    kept = {piece.tensor for pieces in followed.pieces.values() for piece in pieces}
    return [name for name in tensors if name not in kept]


def _follow(model: Any, found: Described, tensors: Mapping[str, tuple[int, ...]]) -> _Followed:
    """Where the library's own loading would take every tensor of the checkpoint."""
    parameters, buffers = found.parameters, found.buffers
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            dot_natural_key,
            rename_source_key,
        )
    except (
        ImportError
    ):  # transformers 4 loads names as they are, less or more the prefix of the inner model
        return _as_they_are(model, found, tensors)
    mapping = get_model_conversion_mapping(model)
    renamings = [m for m in mapping if isinstance(m, WeightRenaming)]
    converters = [m for m in mapping if isinstance(m, WeightConverter)]
    known = dict.fromkeys([*parameters, *buffers], True)
    gathered: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in sorted(tensors, key=dot_natural_key):
        target, pattern = rename_source_key(
            name, renamings, converters, model.base_model_prefix, known
        )
        gathered[target].append((pattern or "", name))
    followed = _Followed()
    for target, sources in gathered.items():
        pattern = sources[0][0]
        if not pattern:
            if target in parameters:
                followed.pieces[target] = (_whole(sources[0][1], tensors[sources[0][1]]),)
            elif target in buffers:
                followed.buffers |= {name: buffers[target] for _, name in sources}
            else:
                followed.unused += [name for _, name in sources]
            continue
        converter = next(c for c in converters if pattern in c.source_patterns)
        made, operation = _converted(target, converter, sources, tensors, parameters)
        followed.pieces |= made
        if operation:
            followed.altered |= dict.fromkeys(_outputs(target, converter), operation)
    return followed


def _as_they_are(model: Any, found: Described, tensors: Mapping[str, tuple[int, ...]]) -> _Followed:
    prefix = f"{model.base_model_prefix}."
    followed = _Followed()
    for name, shape in tensors.items():
        names = (name, prefix + name, name.removeprefix(prefix))
        target = next((n for n in names if n in found.parameters or n in found.buffers), None)
        if target is None:
            followed.unused.append(name)
        elif target in found.parameters:
            followed.pieces[target] = (_whole(name, shape),)
        else:
            followed.buffers[name] = found.buffers[target]
    return followed


def _converted(
    target: str,
    converter: Any,
    sources: Sequence[tuple[str, str]],
    tensors: Mapping[str, tuple[int, ...]],
    parameters: Mapping[str, tuple[int, ...]],
) -> tuple[dict[str, tuple[Piece, ...]], str]:
    """The pieces of what one conversion makes, or the operation that has none."""
    operations = [(type(op).__name__, getattr(op, "dim", None)) for op in converter.operations]
    by_pattern = {
        pattern: [name for p, name in sources if p == pattern]
        for pattern in converter.source_patterns
    }
    if operations in ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)]):
        found, row = [], 0
        for names in by_pattern.values():
            count = tensors[names[0]][0] if names else 0
            found += [Piece(name, 0, row, count, expert) for expert, name in enumerate(names)]
            row += count
        return {target: tuple(found)}, ""
    if operations == [("Concatenate", 0)]:
        found, row = [], 0
        for names in by_pattern.values():
            for name in names:
                found.append(Piece(name, 0, row, tensors[name][0]))
                row += tensors[name][0]
        return {target: tuple(found)}, ""
    if operations in ([("Chunk", 0)], [("Split", 0)]) and len(sources) == 1:
        at = 0
        split: dict[str, tuple[Piece, ...]] = {}
        for output in _outputs(target, converter):
            count = parameters[output][0]
            split[output] = (Piece(sources[0][1], at, 0, count),)
            at += count
        return split, ""
    return {}, " and ".join(name for name, _ in operations)


def _outputs(target: str, converter: Any) -> list[str]:
    """Every parameter that one conversion makes; `target` is the first."""
    first = converter.target_patterns[0]
    return [target.replace(first, pattern) for pattern in converter.target_patterns]


def _whole(name: str, shape: tuple[int, ...]) -> Piece:
    return Piece(name, 0, 0, shape[0] if shape else 1)
