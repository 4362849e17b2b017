"""What handlers leave behind, and what is read while they run. Standard library only.

All instants are `time.monotonic()`, which every process of a host agrees on.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.004


class Marks:
    """The marks of one process: shared memory in files, so that nothing is lost by a signal.

    `<pid>.count` holds the number of executions and the instants of the first and the last one,
    `<pid>.times` one byte a job (how often it was executed), `<pid>.latency` one double a job.
    """

    COUNT = struct.Struct("<qdd")

    def __init__(self, directory: Path, jobs: int) -> None:
        self.pid = os.getpid()
        self._jobs = jobs
        self._count = memoryview(_shared(directory / f"{self.pid}.count", self.COUNT.size))
        self._number = self._count[:8].cast("q")
        self._instants = self._count[8:].cast("d")
        self._times = memoryview(_shared(directory / f"{self.pid}.times", jobs))
        self._latency = memoryview(_shared(directory / f"{self.pid}.latency", 8 * jobs)).cast("d")

    def add(self, payload: Mapping[str, Any]) -> None:
        """Note that the handler has been reached with `payload`."""
        now = time.monotonic()
        number = payload["n"]
        if not 0 <= number < self._jobs:
            raise ValueError(f"job {number} is not among the {self._jobs} that were announced")
        times = self._times[number]
        if times < 255:
            self._times[number] = times + 1
        at = payload["t"]
        if at and not times:
            self._latency[number] = now - at
        if not self._number[0]:
            self._instants[0] = now
        self._instants[1] = now
        self._number[0] += 1


def _shared(path: Path, size: int) -> mmap.mmap:
    with path.open("w+b") as file:
        file.truncate(size)
        return mmap.mmap(file.fileno(), size)


def executions(directory: Path) -> int:
    """Return how many executions all processes have noted so far."""
    total = 0
    for path in directory.glob("*.count"):
        data = path.read_bytes()
        if len(data) == Marks.COUNT.size:
            total += Marks.COUNT.unpack(data)[0]
    return total


async def until_executed(directory: Path, jobs: int, seconds: float) -> bool:
    """Wait until that many executions are noted; returns False when time runs out first."""
    until = time.monotonic() + seconds
    while executions(directory) < jobs:
        if time.monotonic() > until:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
