"""adaptkit.io.machine.hardware and adaptkit.io.machine.cgroups: limits of containers count, from a file tree of either version."""

from __future__ import annotations

import os

import psutil
import pytest

from adaptkit.io.machine.cgroups import cpu_quota, memory_left
from adaptkit.io.machine.hardware import available_memory, cores

GIB = 1 << 30


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)

    def write(groups, **files):
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for path, text in files.items():
            file = tmp_path / "sys/fs/cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        return tmp_path

    return write


def test_a_version_2_limit_counts_less_what_is_used_and_not_the_cache(root):
    fake = root(
        "0::/job/task\n",
        **{
            "job/task/memory.max": GIB,
            "job/task/memory.current": 700 << 20,
            "job/task/memory.stat": f"anon 5\ninactive_file {100 << 20}\nactive_file 7",
            "job/task/cpu.max": "150000 100000",
        },
    )
    assert memory_left(fake) == (1024 - 700 + 100) << 20
    assert cpu_quota(fake) == 1.5


def test_the_lowest_limit_of_all_ancestors_counts(root):
    fake = root(
        "0::/job/task\n",
        **{
            "job/task/memory.max": "max",
            "job/task/memory.current": 1,
            "job/task/cpu.max": "max 100000",
            "job/memory.max": 2 * GIB,
            "job/memory.current": GIB,
            "job/cpu.max": "400000 100000",
            "memory.max": 8 * GIB,
            "memory.current": GIB,
            "cpu.max": "800000 100000",
        },
    )
    assert (memory_left(fake), cpu_quota(fake)) == (GIB, 4.0)


def test_a_version_1_limit_counts(root):
    fake = root(
        "11:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n",
        **{
            "memory/docker/ab/memory.limit_in_bytes": 3 * GIB,
            "memory/docker/ab/memory.usage_in_bytes": 2 * GIB,
            "memory/docker/ab/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}",
            "memory/memory.limit_in_bytes": 9223372036854771712,
            "memory/memory.usage_in_bytes": 7 * GIB,
            "cpu/docker/ab/cpu.cfs_quota_us": 50000,
            "cpu/docker/ab/cpu.cfs_period_us": 100000,
            "cpu/cpu.cfs_quota_us": -1,
            "cpu/cpu.cfs_period_us": 100000,
        },
    )
    assert (memory_left(fake), cpu_quota(fake)) == (2 * GIB, 0.5)


@pytest.mark.parametrize("path", ["/kubepods/pod1/ab", "/../../outside"])
def test_the_root_is_used_when_the_path_is_that_of_the_host(root, path):
    fake = root(
        f"0::{path}\n",
        **{"memory.max": GIB, "memory.current": GIB >> 1, "cpu.max": "200000 100000"},
    )
    assert (memory_left(fake), cpu_quota(fake)) == (GIB >> 1, 2.0)


def test_a_process_over_its_limit_has_no_memory_left(root):
    fake = root("0::/\n", **{"memory.max": GIB, "memory.current": 2 * GIB})
    assert memory_left(fake) == available_memory(fake) == 0


@pytest.mark.parametrize("text", ["", "max", "-", "1 2 3", "0 0", "é"])
def test_no_limit_and_unreadable_files_limit_nothing(root, tmp_path, text):
    fake = root("0::/\n", **{"memory.max": text, "memory.current": 1, "cpu.max": text})
    assert (memory_left(fake), cpu_quota(fake)) == (None, None)
    assert (memory_left(tmp_path / "none"), cpu_quota(tmp_path / "none")) == (None, None)


def test_available_memory_and_cores_are_the_lower_of_machine_and_limit(root, tmp_path):
    usable = len(os.sched_getaffinity(0))
    small = root(
        "0::/\n", **{"memory.max": 64 << 20, "memory.current": 0, "cpu.max": "1000 100000"}
    )
    assert (available_memory(small), cores(small)) == (64 << 20, 1)
    large = root("0::/\n", **{"memory.max": 1 << 50, "cpu.max": f"{(usable + 3) * 100000} 100000"})
    assert 0 < available_memory(large) <= psutil.virtual_memory().total
    assert cores(large) == cores(tmp_path / "none") == usable


def test_this_machine_has_memory_and_cores():
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
    assert 0 < available_memory() <= psutil.virtual_memory().total
