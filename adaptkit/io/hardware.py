"""What this machine is and has: its cores, its free memory, and what the bytes of a result may depend on."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """The cores that this process may use, which a container or `taskset` can make fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not tell
        return os.cpu_count() or 1


def available_memory() -> int:
    """The bytes that may be used without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def machine() -> dict[str, str]:
    """What the bytes of a merge may depend on besides its recipe."""
    import platform

    import numpy as np

    return {"numpy": np.__version__, "cpu": platform.machine() + " " + _cpu_model()}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), ""
    )
