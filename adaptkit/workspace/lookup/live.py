"""Whether a live model is the base that a version was made for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import Adapter
from adaptkit.bases.architecture import Architecture
from adaptkit.bases.classes.layer_replication import Layers
from adaptkit.bases.classes.peft_names import unloaded
from adaptkit.bases.classes.transformers_classes import without_place
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BadBase, BaseMismatch
from adaptkit.extend.module_names import Names
from adaptkit.types import Sameness
from adaptkit.workspace.lookup.bases import folder_here, measured_base, same_base

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import AdapterMethod, Array
    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context


_SAMPLED, _VALUES = 12, 64  # parameters, and values of each, that are compared


def check_model(context: Context, version: Version, folder: Path, model: Any) -> None:
    """`BaseMismatch` when its files, the shapes of its parameters or a sample of their values are of another base."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    source = Path(str(getattr(getattr(plain, "config", None), "_name_or_path", "") or "-"))
    if source.is_dir() and version.base.levels:
        try:
            verdict = same_base(context, version.base, measured_base(context, source).identity)
        except BadBase:  # a folder that holds no model (any more): its shapes tell what they can
            verdict = None
        if verdict is not None and verdict.sameness is Sameness.DIFFERENT:
            raise BaseMismatch(
                f"{version.ref} is not for the model from {source}",
                why=verdict.reason,
                fix="load the base it was trained on, or force=True",
            )
    others = {} if plain is model else getattr(model, "peft_config", {})
    _check_shapes(context, version, folder, plain, others)
    if plain is model:  # under adapters, a method may have taken a part out of the weights
        _check_values(context, version, plain)


def _check_shapes(
    context: Context, version: Version, folder: Path, plain: Any, others: Mapping[str, Any]
) -> None:
    """Every module of the version must be there, in its shape."""
    shapes = {
        name.replace(".base_layer.", "."): tuple(parameter.shape)
        for name, parameter in plain.named_parameters(remove_duplicate=False)
    }
    names = Names(shapes)
    with Adapter.open(folder, version.ref) as adapter:
        adapter.base_shapes = shapes
        method = context.plugins.method_for(adapter)
        if method.unmergeable(adapter) or method.generic:
            return
        layers = _layers(version, adapter, plain, others)
        architecture = Architecture(type(plain).__name__, "", shapes)
        apart = {}
        for module in method.modules(adapter):
            found = names.called(layers.old_name(module.tensor))
            if module.kind == "expert" or architecture.computed_from(module.name):
                continue
            if module.stored not in map(shapes.get, found):
                apart[module.tensor] = (module, found)
        lacking = {tensor: one.stored for tensor, (one, found) in apart.items() if not found}
        elsewhere = lacking.keys() - without_place(plain, shapes, lacking)
        for tensor, (module, found) in apart.items():
            if tensor not in elsewhere:  # PEFT loads what the class itself would rename or fuse
                there = list(shapes[found[0]]) if found else "missing"
                raise BaseMismatch(
                    f"{version.ref} does not fit this {type(plain).__name__}",
                    why=f"'{module.name}' is {list(module.stored)} in it and {there} in the model",
                    fix="load the base it was trained on, or force=True",
                )
        _check_loaded(version, adapter, plain, architecture, method)


def _layers(version: Version, adapter: Adapter, plain: Any, others: Mapping[str, Any]) -> Layers:
    """Which layers of the model PEFT will repeat for this version; it does that again for each adapter that says so."""
    declared = adapter.config.get("layer_replication")
    repeated = any(getattr(other, "layer_replication", None) for other in others.values())
    if others and (declared or repeated):
        raise BaseMismatch(
            f"cannot load {version.ref} beside another adapter",
            why="PEFT repeats layers once more for each adapter that asks for it, and the model would be another one",
            fix="load it onto a model of its own",
        )
    config: Any = getattr(plain, "config", None)
    as_dict = config.to_dict() if hasattr(config, "to_dict") else {}
    return Layers.of(declared, as_dict, version.ref)


def _check_loaded(
    version: Version,
    adapter: Adapter,
    plain: Any,
    architecture: Architecture,
    method: AdapterMethod,
) -> None:
    """Refuse what PEFT would load in part only, without a word."""
    kind = str(getattr(getattr(plain, "config", None), "model_type", ""))
    if lost := unloaded(adapter, method, architecture, kind):
        raise BaseMismatch(
            f"PEFT would not load {version.ref} as it was trained",
            why="; ".join(lost[:2]) + (f"; and {len(lost) - 2} more" if len(lost) > 2 else ""),
            fix="bake it (adaptkit bake), which has all of it, or force=True",
        )


def _check_values(context: Context, version: Version, model: Any) -> None:
    """Compare a few values of some parameters with those in the base's folder, where that is on this machine."""
    folder = folder_here(context, version.base)
    if folder is None:
        return
    parameters = {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and ".lora_" not in name
    }
    names = sorted(parameters)
    with suppress(BadBase), BaseWeights.open(folder, context.home.cache) as weights:
        for name in names[:: max(1, len(names) // _SAMPLED)]:
            if not weights.find(name):
                continue
            stored, live = weights.parameter(name), parameters[name].detach()
            if stored.shape != tuple(live.shape):
                continue
            if (wrong := _first_apart(stored, live)) is not None:
                raise BaseMismatch(
                    f"{version.ref} is not for this {type(model).__name__}",
                    why=f"'{name}' holds other values than in {folder}, such as {wrong[1]:.6g} for {wrong[0]:.6g}",
                    fix="load the base it was trained on, or force=True",
                )


def _first_apart(stored: Array, live: Any) -> tuple[float, float] | None:
    """The first of some values, spread over a tensor, that differ by more than the coarser dtype rounds."""
    import torch

    step = max(1, stored.size // _VALUES)
    ours = torch.from_numpy(stored.reshape(-1)[::step].astype("float64"))
    theirs = live.reshape(-1)[::step].double().cpu()
    coarse = 2**-7 if live.dtype in {torch.bfloat16, torch.float16} else 2**-20
    apart = (ours - theirs).abs() > coarse * ours.abs().clamp(min=2**-14)
    if not bool(apart.any()):
        return None
    at = int(apart.nonzero()[0])
    return float(ours[at]), float(theirs[at])
