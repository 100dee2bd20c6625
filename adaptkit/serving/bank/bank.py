"""`Bank`: many adapters on one live transformers model, each row of a batch with its own.

Notable choices:
- the model stays as it is: a forward hook per touched layer adds each row's update, so KV caches, `generate`,
  bf16 and quantised layers work as without it, and rows of the base are never touched
- factors of all adapters are stacked per layer, smaller ranks padded with zeros; slot 0 is zero
- two tiers: slots on the device, and the computer's memory behind them, both least recently used out first
- a batch leases the slots it uses; loading, replacing and evicting touch other slots, so nothing waits for it
- what is no low-rank update runs in a batch of its own with the weights changed (`whole`), never ignored
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from contextlib import contextmanager
from threading import Condition, local
from typing import TYPE_CHECKING, Any

from adaptkit.errors import NoRoom, Refused
from adaptkit.serving.bank.arrow import ArrowMix, ArrowMixture
from adaptkit.serving.bank.factors import AdapterFactors, judged, read_factors
from adaptkit.serving.bank.gate import Gate
from adaptkit.serving.bank.host import HostTier
from adaptkit.serving.bank.layers import check_size, find_layer
from adaptkit.serving.bank.rows import BASE, Mix, Rows, plan_rows
from adaptkit.serving.bank.table import ModuleTable
from adaptkit.serving.bank.whole import WholeWeights, read_whole, swapped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.serving.bank.layers import Layer

    Wanted = str | Mapping[str, float] | None
    """What a row asks for: an adapter's key, keys with weights, or the base."""


class Bank:
    """Adapters by key on a live model; thread-safe.

    `slots` adapters are on the device at once. `rank` is made room for from the start, and the bank
    grows up to `rank_limit`. `host_bytes` bounds what is kept in the computer's memory, `device_bytes` what
    the slots of all layers hold. `base` is the model's folder, needed by adapters that are no low-rank
    updates. `dtype` defaults to the model's.
    """

    def __init__(
        self,
        model: Any,
        *,
        slots: int = 8,
        rank: int = 0,
        rank_limit: int = 256,
        dtype: Any = None,
        host_bytes: int | None = None,
        device_bytes: int | None = None,
        base: Path | None = None,
    ) -> None:
        if slots < 1:
            raise Refused(f"a bank of {slots} slots", why="it needs at least one", fix="slots=8")
        self.model, self.slots, self.rank, self.rank_limit = model, slots, rank, rank_limit
        self.base, self.host, self.most_device_bytes = base, HostTier(host_bytes), device_bytes
        self.dtype = dtype or model.dtype
        self.swaps = 0
        self._tables: dict[str, ModuleTable] = {}
        self._layers: dict[str, Layer] = {}  # by what adapters call them
        self._hooks: list[Any] = []
        self._resident: OrderedDict[AdapterFactors, int] = OrderedDict()
        self._leases: Counter[AdapterFactors] = Counter()
        self._pinned: set[str] = set()
        self._keys: dict[AdapterFactors, str] = {}
        self._free = list(range(slots, BASE, -1))
        self._changed = Condition()
        self._gate, self._active = Gate(), local()
        self._fixed: FixedRows | None = None
        self._parameters = dict(model.named_parameters(remove_duplicate=False))

    # ---------------------------------------------------------------- adapters

    def put(self, key: str, load: Callable[[], AdapterFactors | WholeWeights]) -> None:
        """Make a key mean what `load` returns, from the next batch on; batches that run keep what they have."""
        self.host.put(key, load)

    def put_opened(self, key: str, source: OpenAdapter) -> None:
        """Read an opened adapter now and keep it, whatever the budget."""
        loaded = self.read(source)
        self.put(key, lambda: loaded)

    def read(self, source: OpenAdapter) -> AdapterFactors | WholeWeights:
        """An opened adapter as the bank holds it; refused here when it can never run on this model."""
        reason, modules = judged(source)
        if reason:
            if self.base is None:
                raise Refused(
                    f"cannot serve {source.label}",
                    why=f"{reason}, so it cannot share a batch, and the base's folder is not known",
                    fix="give the bank its base: Bank(model, base=DIR)",
                )
            return read_whole(source, self.base, reason, self._parameters)
        factors = read_factors(source, modules, self.dtype)
        if factors.rank > self.rank_limit:
            raise Refused(
                f"cannot serve {source.label}",
                why=f"its rank is {factors.rank}, this bank's limit is {self.rank_limit}",
                fix=f"adaptkit resize {source.label} --rank {self.rank_limit}, or a larger limit",
            )
        with self._changed:
            for name, update in factors.modules.items():
                check_size(source.label, self._layer(name, source.label), update)
            self._make_room(source.label, {n: update.rank for n, update in factors.modules.items()})
        return factors

    def prepare(self, ranks: Mapping[str, int]) -> None:
        """Set aside memory for slots of these modules with these ranks, before any adapter comes."""
        with self._changed:
            self._make_room("the adapters that were planned", ranks)

    def remove(self, key: str) -> None:
        """Forget a key; its slot is free when no batch uses it."""
        self.host.remove(key)
        self._pinned.discard(key)

    def pin(self, key: str, *, pinned: bool = True) -> None:
        """Keep an adapter in its slot and in memory, or no longer."""
        self.host.pin(key, pinned=pinned)
        (self._pinned.add if pinned else self._pinned.discard)(key)

    def why_alone(self, key: str) -> str:
        """Why an adapter cannot share a batch; empty if it can."""
        loaded = self.host.get(key)
        return loaded.reason if isinstance(loaded, WholeWeights) else ""

    def can_hold(self, keys: Collection[str]) -> bool:
        """Whether these can be in slots together, beside what is pinned."""
        return len({*keys, *self._pinned}) <= self.slots

    @property
    def resident(self) -> tuple[str, ...]:
        """The keys in slots, the least recently used first."""
        with self._changed:
            return tuple(self._keys[factors] for factors in self._resident)

    @property
    def device_bytes(self) -> int:
        """What the slots of all layers hold on the device."""
        return sum(table.nbytes for table in self._tables.values())

    # ---------------------------------------------------------------- batches

    @contextmanager
    def rows(self, wanted: Sequence[Wanted], *, wait: float = 60.0) -> Iterator[None]:
        """Run the model in this thread with an adapter for each row.

        `NoRoom` when the slots it needs are not free within `wait` seconds. An adapter that cannot
        share a batch may only be asked for by all rows together.
        """
        with self.lease(wanted, wait=wait) as mixes:
            if isinstance(mixes, WholeWeights):
                with self._gate.alone(), swapped(self._parameters, mixes):
                    yield
                return
            with self._gate.shared(), self.planned(mixes):
                yield

    @contextmanager
    def planned(self, mixes: Sequence[Mix]) -> Iterator[None]:
        """Run the model in this thread with slots that are leased."""
        before = getattr(self._active, "plan", None)
        self._active.plan = plan_rows(mixes, self.model.device)
        try:
            yield
        finally:
            self._active.plan = before

    @contextmanager
    def watched(self, see: Callable[[str, Tensor], None]) -> Iterator[None]:
        """Run the model in this thread without adapters; `see` gets what goes into each layer that some adapter changes."""
        with self._gate.shared():
            self._active.see = see
            try:
                yield
            finally:
                self._active.see = None

    @contextmanager
    def lease(
        self, wanted: Sequence[Wanted], *, wait: float = 60.0
    ) -> Iterator[list[Mix] | WholeWeights]:
        """Keep what each row asks for in slots until the block ends, and say in which."""
        mixtures = [_mixture(row) for row in wanted]
        loaded = {key: self.host.get(key) for mixture in mixtures for key in mixture}
        whole = [key for key, one in loaded.items() if isinstance(one, WholeWeights)]
        if whole:
            yield _alone(whole[0], loaded[whole[0]], mixtures)
            return
        parts = {k: one for k, one in loaded.items() if isinstance(one, AdapterFactors)}
        self._take(parts, wait)
        try:
            yield [
                _mix(mixture, {key: self._resident[parts[key]] for key in mixture})
                for mixture in mixtures
            ]
        finally:
            with self._changed:
                self._leases.subtract(parts.values())
                self._leases += Counter()  # drops those at zero
                self._changed.notify_all()

    @contextmanager
    def fixed(self, rows: int, places: int = 1) -> Iterator[FixedRows]:
        """Rows whose tensors never change shape, so that a compiled model is compiled once.

        `places` is how many adapters a row may mix. Give the bank its `rank` beforehand, and load one
        adapter of each set of layers before compiling.
        """
        self._fixed = FixedRows(rows, places, self.model.device)
        try:
            yield self._fixed
        finally:
            self._fixed = None

    def close(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._tables.clear()

    # ---------------------------------------------------------------- inside

    def _take(self, parts: Mapping[str, AdapterFactors], wait: float) -> None:
        """Lease a slot for each adapter, all or none."""
        if len(parts) > self.slots:
            raise NoRoom(
                f"a batch of {len(parts)} adapters",
                why=f"the bank has {self.slots} slots",
                fix="more slots, or smaller batches",
            )
        with self._changed:
            if not self._changed.wait_for(lambda: self._room(parts), wait):
                raise NoRoom(
                    f"no slot for {', '.join(parts)}",
                    why=f"all {self.slots} slots are in use or pinned",
                    fix="more slots, or fewer pins",
                )
            for factors in parts.values():  # first those that stay, so that none of them is evicted
                self._leases[factors] += 1
                if factors in self._resident:
                    self._resident.move_to_end(factors)
            try:
                for key, factors in parts.items():
                    if factors not in self._resident:
                        self._load(key, factors)
            except BaseException:
                self._leases.subtract(parts.values())
                self._leases += Counter()
                raise

    def _room(self, parts: Mapping[str, AdapterFactors]) -> bool:
        asked = set(parts.values())
        missing = sum(factors not in self._resident for factors in asked)
        idle = sum(self._evictable(f) for f in self._resident if f not in asked)
        return missing <= len(self._free) + idle

    def _evictable(self, factors: AdapterFactors) -> bool:
        return not self._leases[factors] and self._keys[factors] not in self._pinned

    def _load(self, key: str, factors: AdapterFactors) -> None:
        if not self._free:
            oldest = next(f for f in self._resident if self._evictable(f))
            self._free.append(self._resident.pop(oldest))
            del self._keys[oldest]
        slot = self._free.pop()
        try:
            updates = {self._layers[name].name: update for name, update in factors.modules.items()}
            for name, table in self._tables.items():
                if name in updates:
                    table.write(slot, updates[name])
                else:
                    table.clear(slot)
        except BaseException:
            self._free.append(slot)
            raise
        self._resident[factors], self._keys[factors] = slot, key
        self.swaps += 1

    def _make_room(self, label: str, ranks: Mapping[str, int]) -> None:
        """Tables wide enough for these modules, or `Refused` where they would exceed the limit."""
        new: dict[str, int] = {}
        more = 0
        for name, rank in ranks.items():
            layer = self._layer(name, label)
            if layer.name in self._tables:
                more += self._tables[layer.name].growth(rank)
            else:
                new[name] = max(self.rank, rank, 1)
                numbers = (self.slots + 1) * new[name] * (layer.outputs + layer.inputs)
                more += numbers * self.dtype.itemsize
        most = self.most_device_bytes
        if more and most is not None and self.device_bytes + more > most:
            raise Refused(
                f"cannot serve {label}",
                why=f"its slots would take {more:,} bytes more than the {self.device_bytes:,} there are, "
                f"and {most:,} were planned: a rank or layers that no planned adapter has",
                fix="start the server again with it, or with more --memory; or adaptkit resize it",
            )
        for name, rank in new.items():
            layer = self._layer(name, label)
            table = ModuleTable(layer, self.slots, rank, self.dtype)
            self._hooks.append(layer.module.register_forward_hook(self._hook_of(table)))
            self._tables[layer.name] = table
        for name, rank in ranks.items():
            self._tables[self._layer(name, label).name].grow(rank)

    def _layer(self, name: str, label: str) -> Layer:
        if name not in self._layers:
            self._layers[name] = find_layer(self.model, name, label)
        return self._layers[name]

    def _hook_of(self, table: ModuleTable) -> Callable[..., Tensor | None]:
        def add(_: Any, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
            see = getattr(self._active, "see", None)
            if see is not None:
                see(table.name, arguments[0])
                return None
            fixed = self._fixed
            if fixed is not None:
                return table.add_fixed(arguments[0], output, fixed.slots, fixed.weights)
            plan: Rows | None = getattr(self._active, "plan", None)
            if plan is None or plan.distinct.isdisjoint(table.ranks):
                return None
            return table.add(arguments[0], output, plan)

        return add


class FixedRows:
    """Slots and weights of a batch in tensors that stay the same: rows × places."""

    def __init__(self, rows: int, places: int, device: Any) -> None:
        import torch

        self.slots = torch.zeros(rows, places, dtype=torch.long, device=device)
        self.weights = torch.ones(rows, places, device=device)

    def use(self, mixes: Sequence[Mix]) -> None:
        """Fill in what a lease says."""
        fixed = [mix for mix in mixes if not isinstance(mix, ArrowMix)]
        if len(fixed) < len(mixes):
            raise Refused(
                "cannot route by arrow in a fixed batch",
                why="its adapters are chosen before it runs",
                fix="a batch that is not compiled, or a weighted sum",
            )
        rows, places = self.slots.shape
        if len(fixed) != rows or any(len(mix) > places for mix in fixed):
            raise Refused(
                f"a batch of {len(fixed)} rows with up to {max(map(len, fixed))} adapters each",
                why=f"the fixed batch has {rows} rows with {places} places",
                fix="fill it up with rows of the base",
            )
        self.slots.zero_()
        for row, mix in enumerate(fixed):
            for place, (slot, weight) in enumerate(mix):
                self.slots[row, place] = slot
                self.weights[row, place] = weight


def _mixture(wanted: Wanted) -> Mapping[str, float]:
    if wanted is None:
        return {}
    return {wanted: 1.0} if isinstance(wanted, str) else wanted


def _mix(mixture: Mapping[str, float], slots: Mapping[str, int]) -> Mix:
    if isinstance(mixture, ArrowMixture):
        places = tuple(slots[key] for key in mixture)
        return ArrowMix(places, mixture.top, mixture.temperature, mixture.tally)
    return tuple((slots[key], weight) for key, weight in mixture.items())


def _alone(
    key: str, whole: AdapterFactors | WholeWeights, mixtures: Sequence[Mapping[str, float]]
) -> WholeWeights:
    assert isinstance(whole, WholeWeights)
    if any(dict(mixture) != {key: 1.0} for mixture in mixtures):
        raise Refused(
            f"'{key}' cannot share a batch, nor be mixed with others",
            why=whole.reason,
            fix="run its requests in a batch of their own",
        )
    return whole
