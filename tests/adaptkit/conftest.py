"""Fixtures that the tests of the core share."""

from scratch import scratch

__all__ = ["scratch"]
