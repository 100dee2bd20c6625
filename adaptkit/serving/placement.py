"""How many adapters fit: slots from rank, targets and dtype, planned before a server starts.

A slot holds one adapter in every module that any planned adapter changes, each as wide as the largest rank
there. Beside the slots stand the base, the key-value cache of the rows, on a CPU the copies of adapters
in the computer's memory and those that a running batch lays side by side, and slot 0, which is zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adaptkit.errors import Refused
from adaptkit.io.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CACHED_TOKENS = 2048
"""Tokens of each row that the key-value cache is planned for, where the base reads more."""
SHARE = 4
"""On a CPU, one part in so many of the room is for adapters in the computer's memory."""


@dataclass(frozen=True, slots=True)
class Wide:
    """A module that adapters change: its size, and the largest rank there."""

    outputs: int
    inputs: int
    rank: int

    @property
    def numbers(self) -> int:
        """How many numbers its factors hold."""
        return self.rank * (self.outputs + self.inputs)


@dataclass(frozen=True, slots=True)
class Need:
    """What a server of one base holds, in bytes, whatever its number of slots."""

    base: str
    memory: int
    weights: int
    cache_of_row: int
    itemsize: int
    modules: Mapping[str, Wide]
    adapters: int
    """How many adapters the modules and ranks were read from; 0 means an assumption."""
    on_cpu: bool

    @property
    def slot(self) -> int:
        """Bytes of one slot."""
        return self.itemsize * sum(module.numbers for module in self.modules.values())

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(module.rank for module in self.modules.values())


@dataclass(frozen=True, slots=True)
class Placement:
    """What is put where. `host` is None where adapters in the computer's memory are not bounded."""

    need: Need
    slots: int
    rows: int
    host: int | None

    @property
    def device_bytes(self) -> int:
        """What all slots may hold."""
        return (self.slots + 1) * self.need.slot

    @property
    def used(self) -> int:
        """Bytes of everything."""
        need = self.need
        beside = (self.host or 0) + self.rows * need.slot if need.on_cpu else 0
        return need.weights + self.rows * need.cache_of_row + self.device_bytes + beside

    def to_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "memory": self.need.memory,
            "used": self.used,
            "weights": self.need.weights,
            "cache": self.rows * self.need.cache_of_row,
            "slot": self.need.slot,
            "slots": self.slots,
            "rank": self.need.rank,
            "modules": len(self.need.modules),
            "host": self.host,
        }


def plan(
    need: Need, *, rows: int, slots: int | None, host: int | None, most: int = 4096
) -> Placement:
    """Slots for a budget: as many as fit up to `most`, or the given number; `Refused` says what would fit."""
    fixed = need.weights + rows * need.cache_of_row + (rows * need.slot if need.on_cpu else 0)
    room = need.memory - fixed
    if host is None and need.on_cpu:
        host = max(room // SHARE, need.slot)
    if need.on_cpu:
        room -= host or 0
    fits = room // need.slot - 1
    wanted = slots if slots is not None else 1
    if fits < wanted:
        raise _refusal(need, rows, wanted, host)
    return Placement(need, slots if slots is not None else min(fits, most), rows, host)


def _refusal(need: Need, rows: int, slots: int, host: int | None) -> Refused:
    least = Placement(need, slots, rows, need.slot if need.on_cpu else host)
    why = (
        f"the base takes {size_text(need.weights)}, the cache of {rows} rows {size_text(rows * need.cache_of_row)}, "
        f"and {slots} slots of rank {need.rank} with slot 0 {size_text(least.device_bytes)}: "
        f"{size_text(least.used)} in all"
    )
    fix = f"--memory {_up(least.used)}"
    if slots > 1 and (fewer := _fewer(need, rows)):
        fix += f"; or --slots {fewer}"
    elif (rank := _smaller(need, rows, slots)) is not None:
        fix += f"; or adapters of at most rank {rank}: --rank-limit {rank}"
    elif rows > 1 and replace(least, rows=1).used <= need.memory:
        fix += "; or --rows 1"
    return Refused(f"cannot serve {need.base} in {size_text(need.memory)}", why=why, fix=fix)


def _smaller(need: Need, rows: int, slots: int) -> int | None:
    """The largest power of two below the planned rank that fits."""
    rank = 1 << (need.rank.bit_length() - 1)
    rank = rank // 2 if rank == need.rank else rank
    while rank:
        modules = {
            name: replace(one, rank=min(one.rank, rank)) for name, one in need.modules.items()
        }
        less = replace(need, modules=modules)
        if Placement(less, slots, rows, less.slot if need.on_cpu else None).used <= need.memory:
            return rank
        rank //= 2
    return None


def _fewer(need: Need, rows: int) -> int:
    least = Placement(need, 0, rows, need.slot if need.on_cpu else None)
    return max(0, (need.memory - least.used) // need.slot)


def lines(placement: Placement) -> Sequence[str]:
    """The plan, for people."""
    need, rows = placement.need, placement.rows
    of = f"{need.adapters} adapters" if need.adapters else "an adapter of all linear layers"
    each = f"{size_text(need.slot)} each: rank {need.rank}, {len(need.modules)} modules"
    found = [
        f"{size_text(need.memory)} for {need.base}, planned for {of}:",
        f"  base                    {size_text(need.weights)}",
        f"  cache of {rows} rows        {size_text(rows * need.cache_of_row)}",
        f"  {placement.slots} slots + slot 0       {size_text(placement.device_bytes)} ({each})",
    ]
    if need.on_cpu:
        found.append(f"  a batch's adapters      {size_text(rows * need.slot)}")
        found.append(f"  adapters in memory      {size_text(placement.host or 0)}")
    found.append(f"  left                    {size_text(need.memory - placement.used)}")
    return found


def _up(count: int) -> str:
    """A size to type, rounded up."""
    for unit, step in (("GB", 10**8), ("MB", 10**5), ("kB", 100)):
        if count >= 10 * step:
            return f"{-(-count // step) / 10:g}{unit}"
    return f"{count}B"
