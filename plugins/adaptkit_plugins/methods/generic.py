"""Every other PEFT type: carried, never changed.

It lets an adapter of any type be added, shown, versioned, pushed and pulled, and says plainly that
it cannot be merged. A plugin that knows a type better takes it over by recognising it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import BadConfig, nearest
from adaptkit.extend import AdapterMethod
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend import AdapterView

# peft.PeftType of PEFT 0.21; tests/adaptkit_plugins/methods/test_generic.py compares.
PEFT_TYPES = frozenset(
    """ADALORA ADAMSS ADAPTION_PROMPT BEFT BOFT C3A CARTRIDGE CPT DEFT DELORA FOURIERFT FROD GLORA GRALORA HIRA HRA
    IA3 LILY LN_TUNING LOHA LOKR LORA MISS MULTITASK_PROMPT_TUNING OFT OSF PEANUT POLY PREFIX_TUNING PROMPT_TUNING
    PSOFT PVERA P_TUNING RANDLORA ROAD SHADOW SHIRA SUPERTUNING TINYLORA TRAINABLE_TOKENS UNILORA VBLORA VERA WAVEFT
    XLORA""".split()
)


class Generic(AdapterMethod):
    """Any PEFT type that no other plugin reads."""

    name: ClassVar[str] = "generic"
    summary: ClassVar[str] = "every other PEFT type: registered and shared, not merged"
    generic: ClassVar[bool] = True

    def recognises(self, view: AdapterView) -> bool:
        return True

    def check(self, view: AdapterView) -> None:
        declared = view.config.get("peft_type")
        if declared not in PEFT_TYPES:
            known = ", ".join(nearest(str(declared), PEFT_TYPES, show=5))
            raise BadConfig(
                f"{view.label}: peft_type is {declared!r}",
                why=f"PEFT has no such type; it has {known}",
                fix="correct adapter_config.json, or install the plugin that reads this type",
            )

    def unmergeable(self, view: AdapterView) -> str:
        return f"adaptkit does not combine {view.config.get('peft_type')} yet: it can be added, shown, pushed and pulled"


@hookimpl
def register_adapter_methods(register: Callable[[AdapterMethod], None]) -> None:
    register(Generic())
