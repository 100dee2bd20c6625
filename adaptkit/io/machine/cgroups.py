"""The memory and CPU limits that a container or a batch system sets on this process, from Linux control groups.

Versions 2 and 1 (https://docs.kernel.org/admin-guide/cgroup-v2.html). A limit of any ancestor counts. Inside a
container the path in /proc/self/cgroup may be that of the host: then the mounted root is the container's own group.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/")
_UNLIMITED = 1 << 60  # bytes; version 1 writes a number near 2**63


def memory_left(root: Path = ROOT) -> int | None:
    """The bytes that this process may still allocate; None when nothing limits it. `root` holds `proc` and `sys`."""
    left = [
        limit - used
        for group, limit_file, usage_file, cache_key in _memory_groups(root)
        if (limit := _number(group / limit_file)) is not None
        and limit < _UNLIMITED
        and (used := _used(group, usage_file, cache_key)) is not None
    ]
    return max(0, min(left)) if left else None


def cpu_quota(root: Path = ROOT) -> float | None:
    """How many cores' worth of time this process may use, such as 1.5; None when nothing limits it."""
    quotas = []
    for group in _groups(root, ""):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    for group in _groups(root, "cpu"):
        limit, per = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        if limit is not None and limit > 0 and per:
            quotas.append(limit / per)
    return min(quotas, default=None)


def _memory_groups(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    for group in _groups(root, ""):
        yield group, "memory.max", "memory.current", "inactive_file"
    for group in _groups(root, "memory"):
        yield group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group and its ancestors; the controller "" is version 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controller
        group = mount / path.lstrip("/")
        if ".." in path.split("/") or not group.is_dir():
            group = mount
        yield group
        yield from (folder for folder in group.parents if folder.is_relative_to(mount))


def _used(group: Path, usage_file: str, cache_key: str) -> int | None:
    """Bytes in use, without file cache that the kernel drops on demand."""
    usage = _number(group / usage_file)
    if usage is None:
        return None
    for line in _text(group / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == cache_key and value.isdigit():
            return max(0, usage - int(value))
    return usage


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:  # missing, or `max`
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
