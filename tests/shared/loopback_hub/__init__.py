"""A Hugging Face Hub on loopback, for tests and benchmarks."""

from loopback_hub.faults import Fault
from loopback_hub.server import HubBehind, LoopbackHub, Seen

__all__ = ["Fault", "HubBehind", "LoopbackHub", "Seen"]
