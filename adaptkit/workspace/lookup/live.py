"""Whether a live model is the base that a version was made for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import Adapter
from adaptkit.errors import BadBase, BaseMismatch
from adaptkit.extend.module_names import Names
from adaptkit.types import Sameness
from adaptkit.workspace.lookup.bases import measured_base, same_base

if TYPE_CHECKING:
    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context


def check_model(context: Context, version: Version, folder: Path, model: Any) -> None:
    """`BaseMismatch` when its files, or the shapes of its parameters, are those of another base."""
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
        for module in method.modules(adapter):
            found = names.called(module.tensor)
            if module.kind != "expert" and (
                not found or module.stored not in {shapes[name] for name in found}
            ):
                there = list(shapes[found[0]]) if found else "missing"
                raise BaseMismatch(
                    f"{version.ref} does not fit this {type(plain).__name__}",
                    why=f"'{module.name}' is {list(module.stored)} in it and {there} in the model",
                    fix="load the base it was trained on, or force=True",
                )
