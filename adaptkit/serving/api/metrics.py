"""What the server counts, in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaptkit.serving.batcher import Batcher

MOST_ADAPTERS = 1000
"""Versions that are counted apart; the rest is counted as `other`, so that memory stays bounded."""
_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Requests by status and version, and how long they took."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._versions: set[str] = set()
        self._buckets: Counter[float] = Counter()
        self._seconds, self._count = 0.0, 0

    def add(self, version: str, status: int, seconds: float) -> None:
        """Count one finished request."""
        with self._lock:
            if version not in self._versions and len(self._versions) >= MOST_ADAPTERS:
                version = "other"
            self._versions.add(version)
            self._requests[version, status] += 1
            self._seconds, self._count = self._seconds + seconds, self._count + 1
            for bound in _BOUNDS:
                self._buckets[bound] += seconds <= bound

    def text(self, batcher: Batcher) -> str:
        """The page."""
        bank, (running, waiting) = batcher.bank, batcher.load
        gauges = {
            "rows_running": running,
            "rows_waiting": waiting,
            "slots": bank.slots,
            "slots_used": len(bank.resident),
            "device_bytes": bank.device_bytes,
            "host_bytes": bank.host.nbytes,
            "host_adapters": len(bank.host.held),
        }
        counts = {
            "tokens_total": batcher.tokens,
            "steps_total": batcher.steps,
            "slot_loads_total": bank.swaps,
            "host_loads_total": bank.host.loads,
            "host_evictions_total": bank.host.evictions,
        }
        lines: list[str] = []
        for kind, table in (("gauge", gauges), ("counter", counts)):
            for name, value in table.items():
                lines += [f"# TYPE adaptkit_{name} {kind}", f"adaptkit_{name} {value}"]
        with self._lock:
            lines.append("# TYPE adaptkit_requests_total counter")
            lines += [
                f'adaptkit_requests_total{{version="{version}",status="{status}"}} {count}'
                for (version, status), count in sorted(self._requests.items())
            ]
            lines.append("# TYPE adaptkit_request_seconds histogram")
            lines += [
                f'adaptkit_request_seconds_bucket{{le="{bound:g}"}} {self._buckets[bound]}'
                for bound in _BOUNDS
            ]
            lines += [
                f'adaptkit_request_seconds_bucket{{le="+Inf"}} {self._count}',
                f"adaptkit_request_seconds_sum {self._seconds:.6f}",
                f"adaptkit_request_seconds_count {self._count}",
            ]
        return "\n".join(lines) + "\n"
