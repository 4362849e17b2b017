"""The kit for tests: a whole system in memory, clocks a test owns, contracts for adapters.

The contract suites live in `async_jobs.testing.contracts`; they need pytest and hypothesis
(the `testing` extra), while everything named here needs neither.
"""

from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits
from async_jobs.testing.clocks import ManualChance, ManualClock
from async_jobs.testing.system import MemorySystem, memory_system

__all__ = [
    "ManualChance",
    "ManualClock",
    "MemorySystem",
    "RecordingTelemetry",
    "SimpleLimits",
    "memory_system",
]
