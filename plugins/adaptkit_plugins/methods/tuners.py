"""Every other PEFT method that PEFT itself can merge, through PEFT's own layers.

One module at a time: a model is built that has the adapter's modules and nothing else, PEFT puts
its layers on it, loads the adapter and merges, in float64. Nothing that the configuration names is
imported or run: its class is the one PEFT has for its `peft_type`, and unknown fields are dropped.
Needs the extra [torch].

Notable choices:
- a method whose update does not depend on the weights is asked on zeros
- methods that share tensors between modules (VeRA's projections) see all of the adapter's modules,
  whose weights are one zero, broadcast: a model of any size takes no memory
"""

from __future__ import annotations

import re
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaptkit.errors import BadConfig, BadWeights, BaseMismatch, Unmergeable, requires_extra
from adaptkit.extend import AdapterMethod, Dense, Module
from adaptkit.extend.layers import linear_kind, model_of, stored_shape
from adaptkit.extend.module_names import PREFIX, base_name, same_name
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit.extend import AdapterView, Applier, Array, Delta

    Shapes = Mapping[str, tuple[int, ...]]

_ONE_AT_A_TIME = (
    threading.Lock()
)  # torch's generator and Python's warning filters belong to the whole process


@dataclass(frozen=True)
class Kind:
    """One PEFT type: how its keys begin, what its update needs, whether modules share tensors, how shapes are known."""

    peft_type: str
    prefix: str
    needs: Literal["nothing", "shapes", "weights"]
    shared: bool = False
    shape: Callable[[Shapes], tuple[int, int]] | None = None
    changes_weights: Callable[[Mapping[str, Any]], bool] = lambda config: False
    """Options under which the update needs the weights although the type as such does not."""
    single: bool = False
    """Whether PEFT computes it in float32 only."""
    ordered: Callable[[Mapping[str, Any]], bool] = lambda header: False
    """Whether what modules share depends on their order in the model."""


def _factors(b: str, a: str) -> Callable[[Shapes], tuple[int, int]]:
    return lambda s: (s[b][0], s[a][-1])


KINDS = (
    Kind("BOFT", "boft_", "weights"),
    Kind(
        "C3A",
        "c3a_",
        "nothing",
        shape=lambda s: (
            s["c3a_kernel"][0] * s["c3a_kernel"][2],
            s["c3a_kernel"][1] * s["c3a_kernel"][2],
        ),
    ),
    Kind("DEFT", "deft_", "weights"),
    Kind("DELORA", "delora_", "nothing", shape=_factors("delora_B", "delora_A")),
    Kind("FOURIERFT", "fourierft_", "shapes"),
    Kind("GLORA", "glora_", "weights"),
    Kind(
        "GRALORA",
        "gralora_",
        "nothing",
        shape=lambda s: (
            s["gralora_B"][0] * s["gralora_B"][2],
            s["gralora_A"][0] * s["gralora_A"][1],
        ),
    ),
    Kind("HIRA", "hira_", "weights"),
    Kind("HRA", "hra_", "weights"),
    Kind(
        "MISS",
        "miss_",
        "shapes",
        changes_weights=lambda config: config.get("init_weights") == "bat",
    ),
    Kind("OFT", "oft_", "weights"),
    Kind("OSF", "osf_", "weights"),
    Kind("PEANUT", "peanut_", "weights"),
    Kind("PSOFT", "psoft_", "weights", single=True),
    Kind("PVERA", "pvera_lambda_", "shapes", shared=True),
    Kind("RANDLORA", "randlora_", "shapes", shared=True),
    Kind("ROAD", "road_", "weights"),
    Kind("SHIRA", "shira_", "shapes"),
    Kind("SUPERTUNING", "supertuning_", "shapes"),
    Kind(
        "TINYLORA",
        "tinylora_",
        "nothing",
        shared=True,
        shape=_factors("tinylora_B", "tinylora_A"),
        ordered=lambda header: sum(key.startswith("base_model.tinylora_v.") for key in header) > 1,
    ),
    Kind("UNILORA", "unilora_", "shapes", shared=True, ordered=lambda header: True),
    Kind("VBLORA", "vblora_", "shapes", shared=True),
    Kind("VERA", "vera_lambda_", "shapes", shared=True),
    Kind("WAVEFT", "waveft_", "shapes"),
)


class Tuner(AdapterMethod):
    """One PEFT type, read through PEFT."""

    summary: ClassVar[str] = "through PEFT's own layers; merges into LoRA or full weights"

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = kind.peft_type.lower()  # type: ignore[misc]
        self._key = re.compile(rf"{re.escape(PREFIX)}(?P<module>.+?)\.(?P<tail>{kind.prefix}.+)")

    def recognises(self, view: AdapterView) -> bool:
        return view.config.get("peft_type") == self.kind.peft_type

    def unmergeable(self, view: AdapterView) -> str:
        unlisted = [
            field for field in ("layers_to_transform", "exclude_modules") if view.config.get(field)
        ]
        if self._names_in_config(view) and (
            unlisted or not isinstance(view.config.get("target_modules"), list)
        ):
            named = unlisted[0] if unlisted else "target_modules"
            return f"its file names no modules, and its {named} is {view.config.get(named)!r}, not a list of names"
        return ""

    def needs(self, view: AdapterView) -> Literal["nothing", "shapes", "weights"]:
        if self.kind.changes_weights(view.config):
            return "weights"
        return "shapes" if self.kind.ordered(view.header) else self.kind.needs

    def by_rows(self, view: AdapterView) -> bool:
        return False

    def rank(self, view: AdapterView) -> int | None:
        rank = view.config.get("r")
        return rank if isinstance(rank, int) and rank > 0 else None

    def modules(self, view: AdapterView) -> tuple[Module, ...]:
        if self.needs(view) != "nothing" and view.base_shapes is None:
            return ()  # only the base can tell their shapes, or their order
        found = []
        for name, (m, n) in self._shapes(view).items():
            kind = linear_kind(view, name, m, n)
            stored = (m, n) if kind == "linear" else (n, m)
            found.append(Module(name, kind, (m, n), min(m, n), stored))
        return tuple(found)

    def delta(self, view: AdapterView, module: Module) -> Delta:
        import numpy as np

        if self.needs(view) == "weights":
            raise Unmergeable(
                f"cannot merge {view.label}",
                why=f"{self.kind.peft_type} changes the base's weights themselves",
                fix="--base DIR",
            )
        return Dense(self._merged(view, module, np.zeros(module.shape))[0])

    def applier(self, view: AdapterView, module: Module) -> Applier:
        return lambda weight, _rows: self._merged(view, module, weight)[0].astype(weight.dtype)

    def bias_applier(self, view: AdapterView, module: Module) -> Callable[[Array], Array] | None:
        import numpy as np

        def apply(bias: Array) -> Array:
            merged = self._merged(view, module, np.zeros(module.shape), bias)[1]
            assert merged is not None
            return merged.astype(bias.dtype)

        return apply

    def extras(self, view: AdapterView) -> tuple[str, ...]:
        return tuple(
            key
            for key in view.header
            if not self._key.fullmatch(key)
            and not key.startswith(f"base_model.{self.kind.prefix.split('_')[0]}_")
        )

    def replacements(self, view: AdapterView) -> Mapping[str, str]:
        return {base_name(key): key for key in self.extras(view)}

    def _shapes(self, view: AdapterView) -> dict[str, tuple[int, int]]:
        """m×n of every module of the file."""
        tails: dict[str, dict[str, tuple[int, ...]]] = {}
        for key, info in view.header.items():
            if match := self._key.fullmatch(key):
                tail = match["tail"].removesuffix(".weight")
                tails.setdefault(match["module"], {})[tail] = info.shape
        if self._names_in_config(view):
            tails = {name: {} for name in self._targets(view)}
        if not tails:
            raise BadWeights(
                f"{view.label} changes no module",
                why=f"its file holds no {self.kind.prefix}… tensors",
                fix="save the adapter again with model.save_pretrained(DIR)",
            )
        order = sorted(tails)
        if self.kind.ordered(view.header) and (model := view.model()) is not None:
            known = [name.removesuffix(".weight") for name in model.parameters]
            order.sort(
                key=lambda name: next(
                    (at for at, k in enumerate(known) if same_name(k, name)), len(known)
                )
            )
        return {name: self._shape(view, name, tails[name]) for name in order}

    def _names_in_config(self, view: AdapterView) -> bool:
        """Whether the file holds what all modules share and nothing of any one of them."""
        return self.kind.shared and not any(self._key.fullmatch(key) for key in view.header)

    def _targets(self, view: AdapterView) -> list[str]:
        """The modules of the base's model that `target_modules` names."""
        model = view.model()
        names = [
            name.removesuffix(".weight")
            for name, shape in (model.parameters if model else {}).items()
            if name.endswith(".weight") and len(shape) == 2
        ]
        return [
            name
            for name in names
            if any(f".{name}".endswith(f".{target}") for target in view.config["target_modules"])
        ]

    def _shape(self, view: AdapterView, name: str, shapes: Shapes) -> tuple[int, int]:
        if self.kind.shape:
            try:
                return self.kind.shape(shapes)
            except (KeyError, IndexError) as error:
                raise BadWeights(
                    f"{view.label}: '{name}' lacks {error}",
                    why="a part of its update is missing",
                    fix="save the adapter again",
                ) from error
        stored = stored_shape(view, name)
        if stored is None:
            raise BaseMismatch(
                f"{view.label} does not fit the base",
                why=f"the base has no single layer '{name}'",
                fix="give the base it was trained on: --base DIR",
            )
        model = model_of(view)
        if len(stored) != 2 or (model is not None and model.layer(name) == "embedding"):
            raise Unmergeable(
                f"cannot merge {view.label}",
                why=f"it changes '{name}', which is no linear layer, and {self.kind.peft_type} is read on those only",
                fix="keep it as an adapter",
            )
        sideways = linear_kind(view, name, *stored) == "conv1d"
        return (stored[1], stored[0]) if sideways else (stored[0], stored[1])

    def _merged(
        self, view: AdapterView, module: Module, weight: Array, bias: Array | None = None
    ) -> tuple[Array, Array | None]:
        """The module's weight, and its bias if it has one, after PEFT's own merge, in float64."""
        import numpy as np

        torch, peft = _libraries(view)
        precision = torch.float32 if self.kind.single else torch.float64
        names = self._shapes(view) if self.kind.shared else {module.name: module.shape}
        holder = torch.nn.Module()
        for name, shape in names.items():
            layer = torch.nn.Linear(1, 1, bias=False)
            layer.out_features, layer.in_features = shape
            values = torch.zeros(1, 1, dtype=precision).expand(shape)
            if name == module.name:
                values = torch.from_numpy(np.array(weight, np.float64)).to(precision)
            layer.weight = torch.nn.Parameter(values, requires_grad=False)
            if name == module.name and bias is not None:
                layer.bias = torch.nn.Parameter(
                    torch.from_numpy(np.array(bias, np.float64)).to(precision)
                )
            _put(torch, holder, name, layer)
        keys = [
            key
            for key in view.header
            if (match := self._key.fullmatch(key)) is None or match["module"] in names
        ]
        state = {
            key: _tensor(torch, view.read(key)) for key in keys if key not in set(self.extras(view))
        }
        with _ONE_AT_A_TIME, warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # PEFT's remarks about a model that is no transformer
            model = peft.get_peft_model(
                holder, self._config(view, peft, list(names)), autocast_adapter_dtype=False
            )
            peft.set_peft_model_state_dict(model, state)
            layer = model.base_model.model.get_submodule(module.name)
            (model if self.kind.shared else layer).to(precision)
            with torch.no_grad():
                layer.eval()
                layer.merge()
                made = layer.get_base_layer()
                merged: Array = made.weight.detach().double().numpy()
                merged_bias = None if made.bias is None else made.bias.detach().double().numpy()
        if merged.shape != module.shape or not np.isfinite(merged).all():
            raise BadWeights(
                f"{view.label}: the update of '{module.name}' is not what it should be",
                why=f"PEFT made {list(merged.shape)} of it",
                fix="save the adapter again",
            )
        return merged, merged_bias

    def _config(self, view: AdapterView, peft: Any, names: list[str]) -> Any:
        """PEFT's configuration of this type, with our modules for targets."""
        import dataclasses

        cls = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(self.kind.peft_type)]
        known = {field.name for field in dataclasses.fields(cls) if field.init} - _NEVER
        required = {
            key: value for key, value in view.config.items() if key in known and value is not None
        }
        try:
            return cls(**required | {"target_modules": names, "inference_mode": True})
        except (TypeError, ValueError) as error:
            raise BadConfig(
                f"{view.label}: PEFT does not take its configuration",
                why=str(error).splitlines()[0],
                fix="use the version of PEFT it was trained with",
            ) from error


# What concerns other models than ours, or could make PEFT look elsewhere.
_NEVER = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "modules_to_save",
        "layers_to_transform",
        "layers_pattern",
        "exclude_modules",
        "task_type",
        "peft_type",
        "peft_version",
    }
)


def _libraries(view: AdapterView) -> tuple[Any, Any]:
    with requires_extra("torch", f"cannot compute the update of {view.label}"):
        import peft
        import torch
    return torch, peft


def _put(torch: Any, holder: Any, name: str, layer: Any) -> None:
    """Hang a layer at a dotted name."""
    *parents, leaf = name.split(".")
    for part in parents:
        if not hasattr(holder, part):
            holder.add_module(part, torch.nn.Module())
        holder = getattr(holder, part)
    holder.add_module(leaf, layer)


def _tensor(torch: Any, array: Array) -> Any:
    import numpy as np

    if array.dtype.kind in "iub":
        return torch.from_numpy(array)
    return torch.from_numpy(array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32))


@hookimpl
def register_adapter_methods(register: Callable[[AdapterMethod], None]) -> None:
    for kind in KINDS:
        register(Tuner(kind))
