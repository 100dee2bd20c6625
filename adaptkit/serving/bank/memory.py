"""Whether an error means that memory is short: Python, torch on a device and torch on the CPU each say it otherwise."""

from __future__ import annotations


def out_of_memory(error: BaseException) -> bool:
    """Whether less would have fitted."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
