"""A version as others read it: a verified directory, or loaded onto a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import read_config
from adaptkit.adapters.members import as_file, with_paths
from adaptkit.bases.known import declared_base
from adaptkit.errors import BadReference, requires_extra
from adaptkit.extend.artifact_files import CONFIG
from adaptkit.store.variant import variant
from adaptkit.workspace.lookup.artifacts import (
    find_version,
    verified_tree,
)
from adaptkit.workspace.lookup.bases import folder_here

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.types import BaseIdentity
    from adaptkit.workspace.context.context import Context


def path_of(context: Context, ref: str) -> Path:
    """A verified PEFT directory of a version, for `from_pretrained`, vLLM or diffusers.

    Its configuration names the base's folder where that is on this machine, so that `AutoPeftModel` finds it. Only read
    from it.
    """
    version = find_version(context, ref)
    tree = _with_members(verified_tree(context, version.digest), ref)
    config = read_config(tree, ref)
    if declared_base(config, tree)[0] is not None:
        return tree  # a repository on the Hub: it can be followed from everywhere
    reference = folder_here(context, version.base) or _repository(version.base)
    if reference is None:
        return tree
    text = json.dumps(config | {"base_model_name_or_path": str(reference)}, indent=2)
    return variant(tree, {CONFIG: text + "\n"})


def _with_members(tree: Path, ref: str) -> Path:
    """The same tree, or one whose configuration says where the adapters are that it mixes."""
    config = read_config(tree, ref)
    placed = with_paths(config, tree)
    return tree if placed == config else variant(tree, {CONFIG: as_file(placed).decode()})


def _repository(base: BaseIdentity) -> str | None:
    """The Hub's name of a base that was given by it; what a folder is called is no such name."""
    measured = any(level.measured for level in base.levels)
    return base.name if base.name and "/" in base.name and not measured else None


def load(context: Context, ref: str, model: Any, *, force: bool = False, **how: Any) -> Any:
    """The version loaded by PEFT onto `model`; onto a PEFT model, as one adapter more.

    A model that is another base than the version's is refused (unless `force`): by the files it was loaded from where
    they are here, and by the shapes of its parameters.
    """
    with requires_extra("torch", f"cannot load '{ref}' onto a model"):
        from peft import PeftModel
    from adaptkit.workspace.lookup.live import check_model

    version = find_version(context, ref)
    if not hasattr(model, "named_parameters"):
        raise BadReference(
            f"cannot load {version.ref} onto {model!r}",
            why=f"it is no model, but a {type(model).__name__}",
            fix='for example AutoModelForCausalLM.from_pretrained("models/ship")',
        )
    folder = _with_members(verified_tree(context, version.digest), ref)
    if not force:
        check_model(context, version, folder, model)
    if isinstance(model, PeftModel):
        name = how.pop("adapter_name", version.ref.replace("@", "-"))
        model.load_adapter(str(folder), name, **how)
        model.set_adapter(name)
        return model
    return PeftModel.from_pretrained(model, folder, **how)
