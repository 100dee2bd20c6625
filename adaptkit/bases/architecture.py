"""The model that a base's configuration describes, without weights, and how a checkpoint's tensors become its parameters.

transformers 5 renames and fuses tensors while it loads them (`block_sparse_moe.experts.3.w1.weight` becomes rows of
`mlp.experts.gate_up_proj`), and adapters name what the model has. The library's own conversion mapping is followed
forwards here, for names and places only: which rows of which tensor are which rows of a parameter.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadBase, requires_extra
from adaptkit.extend import Model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Piece:
    """`count` rows of a checkpoint's tensor, from `at`, that are rows of a parameter (of one of its experts) from `row`.

    The tensor counts as a matrix; `expert` is None where the parameter has none, or where the tensor holds all of them.
    """

    tensor: str
    at: int
    row: int
    count: int
    expert: int | None = None


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model's parameters, and the pieces of the checkpoint that each is made of.

    `altered` names parameters that the library computes in a way that cannot be written back, with the operation.
    """

    model: Model
    pieces: Mapping[str, tuple[Piece, ...]]
    altered: Mapping[str, str]


def skeleton_of(directory: Path, tensors: Mapping[str, tuple[int, ...]]) -> Skeleton:
    """Build the model on no device, and follow every tensor of the checkpoint into it.

    Only classes of the installed transformers are used: nothing that the folder brings is run.
    """
    model = _empty_model(directory)
    parameters = {
        name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)
    }
    transposed = frozenset(
        name for name, module in model.named_modules() if getattr(module, "is_transposed", False)
    )
    pieces, altered = _follow(model, parameters, tensors)
    return Skeleton(Model(parameters, transposed), pieces, altered)


def _empty_model(directory: Path) -> Any:
    with requires_extra(
        "torch", f"cannot tell how the tensors of {directory} are named in the model"
    ):
        import torch
        import transformers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = transformers.AutoConfig.from_pretrained(
                directory, trust_remote_code=False, local_files_only=True
            )
            found: Any = next(
                (getattr(transformers, name, None) for name in config.architectures or ()), None
            )
            with torch.device("meta"):
                model = (
                    found._from_config(config)  # noqa: SLF001  (how transformers builds a class it was given)
                    if found
                    else transformers.AutoModel.from_config(config)
                )
    except Exception as error:
        raise BadBase(
            f"cannot tell how the tensors of {directory} are named in the model",
            why=str(error).splitlines()[0],
            fix="use a base that the installed transformers knows",
        ) from error
    return model


def _follow(
    model: Any, parameters: Mapping[str, tuple[int, ...]], tensors: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, tuple[Piece, ...]], dict[str, str]]:
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            dot_natural_key,
            rename_source_key,
        )
    except ImportError:  # transformers 4 loads names as they are
        return {
            name: (_whole(name, shape),) for name, shape in tensors.items() if name in parameters
        }, {}
    mapping = get_model_conversion_mapping(model)
    renamings = [m for m in mapping if isinstance(m, WeightRenaming)]
    converters = [m for m in mapping if isinstance(m, WeightConverter)]
    known = dict.fromkeys(parameters, True)
    gathered: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in sorted(tensors, key=dot_natural_key):
        target, pattern = rename_source_key(
            name, renamings, converters, model.base_model_prefix, known
        )
        gathered[target].append((pattern or "", name))
    pieces: dict[str, tuple[Piece, ...]] = {}
    altered: dict[str, str] = {}
    for target, sources in gathered.items():
        pattern = sources[0][0]
        if not pattern:
            if target in parameters:
                pieces[target] = (_whole(sources[0][1], tensors[sources[0][1]]),)
            continue
        converter = next(c for c in converters if pattern in c.source_patterns)
        found, operation = _converted(target, converter, sources, tensors, parameters)
        pieces |= found
        if operation:
            altered |= dict.fromkeys(_outputs(target, converter), operation)
    return pieces, altered


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
