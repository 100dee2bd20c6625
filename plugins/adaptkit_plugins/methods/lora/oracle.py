"""A file that was written for other tools, through the reader of diffusers itself."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from adaptkit_plugins.methods.lora.names import (
    COMFY,
    KOHYA,
    diffusers_key,
    is_original,
    kohya_key,
    model_of,
    part_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from adaptkit.extend import AdapterView, Module


def unread(made: AdapterView, view: AdapterView, modules: Sequence[Module]) -> tuple[str, ...]:
    """What of an adapter is not found in the file made of it, by its names and then by diffusers' own reader, in words.

    diffusers is asked where it is installed and the names say which model it is.
    """
    wanted = dict.fromkeys(".".join(part_of(view, module.name)) for module in modules)
    found = set()
    for key in made.header:
        kohya = KOHYA.fullmatch(key) is not None
        name, what = kohya_key(made, key, []) if kohya else diffusers_key(key)
        if what == "A":
            found.add(_flat(name))
    if lost := [name for name in wanted if _flat(name) not in found]:
        return (f"no key of it means '{lost[0]}'",)
    return _unread_by_diffusers(made, wanted)


def _flat(name: str) -> str:
    """As kohya's names have it: underscores for dots, and no part."""
    return name.partition(".")[2].removeprefix(COMFY).replace(".", "_")


def _unread_by_diffusers(view: AdapterView, modules: Collection[str]) -> tuple[str, ...]:
    try:
        import diffusers
        from diffusers.loaders import lora_pipeline
        from diffusers.utils import logging
    except ImportError:
        return ()
    loader: Any = getattr(lora_pipeline, _mixin(modules), None)
    if loader is None:
        return ()
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _modules_read(loader, view)
    except Exception as error:  # noqa: BLE001  (whatever it raises is what the user would see)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return (f"diffusers {diffusers.__version__} refuses it: {first[:160]}",)
    finally:
        logging.set_verbosity(level)
    lost = sorted(set(modules) - found)
    return (f"diffusers {diffusers.__version__} does not find '{lost[0]}' in it",) if lost else ()


def _modules_read(loader: Any, view: AdapterView) -> set[str]:
    """The modules that diffusers' reader gives their factors to, by their names in the pipeline."""
    import torch
    from diffusers.utils import state_dict_utils

    spelled: Any = state_dict_utils
    given = {key: torch.from_numpy(view.read(key).astype("float32")) for key in view.header}
    made = loader.lora_state_dict(given)
    table = dict(made[0] if isinstance(made, tuple) else made)
    unet = {key: value for key, value in table.items() if key.startswith("unet.")}
    text = {key: value for key, value in table.items() if key.startswith("text_encoder")}
    if unet and not any("lora_A" in key for key in unet):
        unet = spelled.convert_unet_state_dict_to_peft(unet)
    if text:
        text = spelled.convert_state_dict_to_peft(spelled.convert_state_dict_to_diffusers(text))
    rest = {key for key in table if not key.startswith(("unet.", "text_encoder"))}
    keys = (*unet, *text, *rest)
    return {key.removesuffix(".lora_A.weight") for key in keys if key.endswith(".lora_A.weight")}


def _mixin(modules: Collection[str]) -> str:
    """The mixin whose reader these modules are for; empty where their names do not say which model they are of."""
    parts = {name.partition(".")[0] for name in modules}
    if "transformer" in parts:
        names = [name.removeprefix("transformer.").removeprefix(COMFY) for name in modules]
        if any(map(is_original, names)):  # which diffusers has no converter for
            return ""
        if any(name.startswith("single_transformer_blocks.") for name in names):
            return "FluxLoraLoaderMixin"
        model = model_of(names)
        return f"{model}LoraLoaderMixin" if model else ""
    xl = "text_encoder_2" in parts
    return "StableDiffusionXLLoraLoaderMixin" if xl else "StableDiffusionLoraLoaderMixin"
