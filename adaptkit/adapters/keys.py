"""The keys of an adapter's tensors, as PEFT writes them.

Files in the wild carry what PEFT does not write: stray adapter names (`lora_A.default.weight`) and the prefixes of
torch.compile, FSDP and DDP wrappers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from adaptkit.errors import BadWeights

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from adaptkit.types import TensorInfo

_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_STRAY = re.compile(r"\.(lora_(?:A|B))\.(?!weight$|bias$)[^.]+\.(weight|bias)$")
_STRAY_BARE = re.compile(
    r"\.(lora_(?:embedding_A|embedding_B|magnitude_vector)|ia3_l|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2)"
    r"|trainable_tokens_delta)\.(?!weight$)[^.]+(?:\.weight)?$"
)
_STRAY_WHOLE = re.compile(r"\.modules_to_save\.default(?=\.)")


@lru_cache(1 << 14)  # a thousand adapters of one base have the same keys
def normalise(key: str) -> str:
    """The key without wrapper prefixes and stray adapter names."""
    key = _STRAY_WHOLE.sub("", _WRAPPERS.sub("", key).removeprefix("module."))
    return _STRAY_BARE.sub(r".\1", _STRAY.sub(r".\1.\2", key))


def _is_copy(key: str, keys: Collection[str]) -> bool:
    """Whether a key is PEFT's second one for a bias of a module that is saved whole, as `bias="all"` writes them.

    The other has neither the wrapper's name nor the adapter's, and is the one that PEFT reads.
    """
    stem, wrapper, rest = key.partition(".modules_to_save.")
    return bool(wrapper) and any(
        f"{stem}.{name}" in keys for name in (rest, rest.partition(".")[2])
    )


_FEW = 1024
"""Headers of up to so many tensors are kept once normalised."""
_RECENT: list[tuple[Mapping[str, TensorInfo], dict[str, str], Mapping[str, TensorInfo]]] = []


def normalised(
    infos: Mapping[str, TensorInfo], label: str
) -> tuple[dict[str, str], Mapping[str, TensorInfo]]:
    """The file's key for each normalised one, and the header by normalised keys; made once for all files of a header."""
    for known, keys, header in _RECENT:
        if known is infos:
            return keys, header
    keys = {}
    for raw in infos:
        if _is_copy(raw, infos):
            continue
        key = normalise(raw)
        if key in keys:
            raise BadWeights(
                f"{label}: two tensors mean '{key}'",
                why=f"'{keys[key]}' and '{raw}'",
                fix="save one adapter per folder: model.save_pretrained(DIR, selected_adapters=[NAME])",
            )
        keys[key] = raw
    header = MappingProxyType({key: infos[raw] for key, raw in sorted(keys.items())})
    if len(infos) <= _FEW:
        _RECENT.insert(0, (infos, keys, header))
        del _RECENT[4:]
    return keys, header
