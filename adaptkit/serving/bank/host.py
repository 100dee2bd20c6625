"""Adapters in the computer's memory: least recently used out first, within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock, RLock
from typing import TYPE_CHECKING

from adaptkit.errors import NotFound
from adaptkit.serving.bank.memory import out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.serving.bank.factors import AdapterFactors
    from adaptkit.serving.bank.whole import WholeWeights

    Loaded = AdapterFactors | WholeWeights


class _Known:
    """One adapter that can be loaded, and the lock that makes many waiters load it once."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self.load = load
        self.loading = Lock()


class HostTier:
    """What was loaded, by key. Pinned adapters stay; the budget is kept by dropping the others.

    One that is larger than the whole budget is kept until the next is loaded.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self.nbytes = self.loads = self.evictions = 0
        self._known: dict[str, _Known] = {}
        self._held: OrderedDict[str, Loaded] = OrderedDict()
        self._pinned: set[str] = set()
        self._lock = RLock()

    @property
    def known(self) -> tuple[str, ...]:
        """Every key that can be asked for, in the order they came."""
        return tuple(self._known)

    @property
    def held(self) -> tuple[str, ...]:
        """The keys in memory, the least recently used first."""
        with self._lock:
            return tuple(self._held)

    def put(self, key: str, load: Callable[[], Loaded]) -> None:
        """Make a key known, or replace what it means."""
        with self._lock:
            self._drop(key)
            self._known[key] = _Known(load)

    def offer(self, key: str, load: Callable[[], Loaded]) -> None:
        """Make a key known unless it is."""
        with self._lock:
            self._known.setdefault(key, _Known(load))

    def remove(self, key: str) -> None:
        """Forget a key."""
        with self._lock:
            self._drop(key)
            self._pinned.discard(key)
            self._known.pop(key, None)

    def pin(self, key: str, *, pinned: bool = True) -> None:
        """Keep an adapter in memory whatever else is asked for."""
        with self._lock:
            self._of(key)
            (self._pinned.add if pinned else self._pinned.discard)(key)

    def get(self, key: str) -> Loaded:
        """The adapter, loaded if need be: once, however many threads wait for it."""
        while True:
            with self._lock:
                if key in self._held:
                    self._held.move_to_end(key)
                    return self._held[key]
                known = self._of(key)
            with known.loading:
                with self._lock:
                    if key in self._held or self._known.get(key) is not known:
                        continue  # another thread was first, or it was replaced
                loaded = self._load(known)
                with self._lock:
                    self.loads += 1
                    if self._known.get(key) is known:
                        self._held[key] = loaded
                        self.nbytes += loaded.nbytes
                        self._keep_budget(key)
                    return loaded

    def _load(self, known: _Known) -> Loaded:
        """Load; when memory is short, once more after every adapter that is not pinned was dropped."""
        try:
            return known.load()
        except Exception as error:
            if not out_of_memory(error):
                raise
            with self._lock:
                idle = [key for key in self._held if key not in self._pinned]
                for key in idle:
                    self._drop(key)
                self.evictions += len(idle)
            if not idle:
                raise
        return known.load()

    def _of(self, key: str) -> _Known:
        if key not in self._known:
            raise NotFound("adapter in the bank", key, self._known)
        return self._known[key]

    def _drop(self, key: str) -> None:
        if (loaded := self._held.pop(key, None)) is not None:
            self.nbytes -= loaded.nbytes

    def _keep_budget(self, newest: str) -> None:
        if self.budget is None:
            return
        for key in list(self._held):
            if self.nbytes <= self.budget:
                return
            if key not in self._pinned and key != newest:
                self._drop(key)
                self.evictions += 1
