"""timm's own models, built on no device from what their config.json says of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from adaptkit.bases.architecture import Architecture, unknown
from adaptkit.bases.classes.layers import by_its_own_names, on_no_device

if TYPE_CHECKING:
    from collections.abc import Mapping

# a name of timm's registry, with the tag of its weights; others would be looked up on the Hub or in a folder
_NAME = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)?", re.IGNORECASE)
# arguments of `timm.create_model` itself, some of which read files; those of the model come from the configuration
_NOT_OF_THE_MODEL = frozenset(
    """pretrained pretrained_cfg pretrained_cfg_overlay pretrained_model_args checkpoint_path cache_dir scriptable
    exportable no_jit features_only out_indices""".split()
)


def build(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The architecture of a model of timm; its checkpoint has the names of its parameters."""
    name = str(config["architecture"])
    try:
        import timm
        import torch  # noqa: F401
    except ImportError:
        return unknown(
            tensors,
            f"it is timm's '{name}', and timm is not installed: pip install timm",
            name,
        )
    except Exception as error:  # noqa: BLE001  (a torchvision for another torch fails in ways of its own)
        return unknown(
            tensors, f"it is timm's '{name}', and timm cannot be imported: {error}", name
        )
    if not _NAME.fullmatch(name) or not timm.is_model(name):
        return unknown(tensors, f"timm {timm.__version__} has no model '{name}'", name)
    try:
        model = on_no_device(
            lambda: timm.create_model(name, pretrained=False, **_arguments(config))
        )
    except Exception as error:  # noqa: BLE001  (a configuration of somebody else's may break a class in any way)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return unknown(tensors, f"timm {timm.__version__} cannot build '{name}': {first}", name)
    return by_its_own_names(name, model, tensors, head=_head(config))


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """What timm's own loader of a folder makes of config.json, without where weights are."""
    declared = config.get("pretrained_cfg")
    known = dict(declared if isinstance(declared, dict) else config)
    if isinstance(config.get("num_classes"), int):
        known["num_classes"] = config["num_classes"]
    own = config.get("model_args")
    given = dict(own) if isinstance(own, dict) else {}
    given = {key: value for key, value in given.items() if key not in _NOT_OF_THE_MODEL}
    number = given.pop("num_classes", known.get("num_classes"))
    if isinstance(number, int):
        given["num_classes"] = number
    places = {"url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "custom_load", "source"}
    return {
        **given,
        "pretrained_cfg": {key: value for key, value in known.items() if key not in places},
    }


def _head(config: Mapping[str, Any]) -> str:
    """The layer that timm's configuration names as its classifier."""
    declared = config.get("pretrained_cfg")
    named = declared.get("classifier") if isinstance(declared, dict) else None
    return named if isinstance(named, str) else ""
