"""Plan what a server of this workspace holds in a given memory, from the base's files and the adapters' headers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.bases.compare import admits
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import AdaptkitError, Refused, StoreError
from adaptkit.io.safe_paths import user_path
from adaptkit.serving.placement import CACHED_TOKENS, Need, Placement, Wide, plan
from adaptkit.workspace.lookup.artifacts import find_version
from adaptkit.workspace.lookup.bases import measured_base, same_base

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.serving.serve import ServeOptions

MOST_ADAPTERS = 256
"""Adapters whose headers are read for a plan: the REFs first, then the latest versions."""
ASSUMED_RANK = 16  # where no adapter of the base is here
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def plan_serving(
    context: Context,
    base: str | os.PathLike[str],
    preload: Sequence[str] = (),
    *,
    memory: int,
    options: ServeOptions,
) -> Placement:
    """Slots, cache and copies within `memory` bytes; `Refused` says what would fit.

    `options.slots` of None takes as many slots as fit, and no more than there are adapters or 8.
    """
    folder = user_path(base)
    with BaseWeights.open(folder, context.home.cache) as weights:
        sizes = [location.info for location in (weights.layout.tensors or {}).values()]
        size = _BYTES.get(options.dtype)
        widest = max(sizes, key=lambda info: info.nbytes)
        itemsize = size or max(1, widest.nbytes // max(1, _numbers(widest.shape)))
        held = sum(size * _numbers(i.shape) if size else i.nbytes for i in sizes)
        modules, count = _modules(context, weights, preload, options.rank_limit)
        if not modules:
            modules = _assumed(weights, min(ASSUMED_RANK, options.rank_limit))
        need = Need(
            base=folder.name,
            memory=memory,
            weights=held,
            cache_of_row=itemsize * _cached_numbers(weights.layout.config),
            itemsize=itemsize,
            modules=modules,
            adapters=count,
            on_cpu=options.device == "cpu",
        )
    return plan(
        need,
        rows=options.rows,
        slots=options.slots,
        host=options.host_bytes,
        most=max(count, 8),
    )


def _numbers(shape: Sequence[int]) -> int:
    found = 1
    for size in shape:
        found *= size
    return found


def _cached_numbers(config: Mapping[str, Any]) -> int:
    """Numbers that the key-value cache holds of one row, as the configuration's keys give them."""
    text = config.get("text_config") or config

    def of(*names: str, otherwise: int) -> int:
        return next(
            (value for name in names if isinstance(value := text.get(name), int)), otherwise
        )

    hidden = of("hidden_size", "n_embd", "d_model", otherwise=0)
    heads = of("num_attention_heads", "n_head", otherwise=1)
    width = of("head_dim", otherwise=hidden // max(1, heads))
    kept = of("num_key_value_heads", otherwise=heads)
    layers = of("num_hidden_layers", "n_layer", otherwise=0)
    tokens = min(CACHED_TOKENS, of("max_position_embeddings", "n_positions", otherwise=1 << 30))
    return 2 * layers * kept * width * tokens


def _modules(
    context: Context, weights: BaseWeights, preload: Sequence[str], limit: int
) -> tuple[dict[str, Wide], int]:
    """Every module that an adapter of this base changes, as wide as the widest; and of how many adapters.

    One that is not here, or damaged, counts as one of all linear layers: it is fetched when it is asked for.
    """
    found: dict[str, Wide] = {}
    count = 0
    for version in _candidates(context, weights.layout.directory, preload):
        try:
            mine = _of_version(context, version)
        except StoreError:
            mine = _linear(weights, version.rank or ASSUMED_RANK)
        except AdaptkitError:
            continue  # it is refused when it is asked for, with its reason
        if not mine or max(one.rank for one in mine.values()) > limit:
            continue
        count += 1
        for name, one in mine.items():
            if name not in found or found[name].rank < one.rank:
                found[name] = one
    return found, count


def _candidates(context: Context, folder: Path, preload: Sequence[str]) -> Iterator[Version]:
    from adaptkit.serving import composition

    asked = [
        find_version(context, part.ref) for ref in preload for part in composition.parse(ref).parts
    ]
    identity = measured_base(context, folder).identity
    seen: set[str] = set()
    for version in [*asked, *context.registry.latest_versions()]:
        verdict = same_base(context, version.base, identity)
        if version.digest in seen or not admits(verdict, version.base, identity, "serve").allowed:
            continue
        seen.add(version.digest)
        yield version
        if len(seen) == MOST_ADAPTERS:
            return


def _of_version(context: Context, version: Version) -> dict[str, Wide]:
    """The modules of one version; none where it cannot share a batch, and so takes no slot."""
    from adaptkit.serving.bank.factors import why_not_shared

    with ExitStack() as stack:
        tree = context.store.tree(version.digest)
        adapter = stack.enter_context(Adapter.open(tree, version.ref))
        method = context.plugins.method_for(adapter)
        if why_not_shared(OpenAdapter(adapter, method, version.digest)):
            return {}
        return {module.name: Wide(*module.shape, module.rank) for module in method.modules(adapter)}


def _assumed(weights: BaseWeights, rank: int) -> dict[str, Wide]:
    """The modules of a plan where no adapter is known."""
    if found := _linear(weights, rank):
        return found
    raise Refused(
        f"cannot plan slots for {weights.layout.directory}",
        why="no adapter of it is in the registry, and the base's class is not known",
        fix="adaptkit add an adapter first, or give --slots without --memory",
    )


def _linear(weights: BaseWeights, rank: int) -> dict[str, Wide]:
    """All linear layers but the head; none where the base's class is not known."""
    architecture = weights.architecture()
    head = architecture.head.removesuffix(".weight")
    found = {}
    for name, kind in architecture.layers.items():
        shape = architecture.parameters.get(f"{name}.weight", ())
        if kind in {"linear", "conv1d"} and name != head and len(shape) == 2:
            found[name] = Wide(shape[0], shape[1], rank)
    return found
