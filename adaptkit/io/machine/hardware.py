"""What this machine offers: its cores, its free memory, and what the bytes of a result may depend on."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from adaptkit.io.machine.cgroups import ROOT, cpu_quota, memory_left


def cores(root: Path = ROOT) -> int:
    """The cores that this process may use: `taskset`, a container or a batch system can allow fewer than exist."""
    quota = cpu_quota(root)
    usable = _usable_cores()
    return usable if quota is None else max(1, min(usable, math.ceil(quota)))


def available_memory(root: Path = ROOT) -> int:
    """The bytes that this process may use without swapping, and without exceeding the limit of its container."""
    import psutil

    free = int(psutil.virtual_memory().available)
    left = memory_left(root)
    return free if left is None else min(free, left)


def _usable_cores() -> int:
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
