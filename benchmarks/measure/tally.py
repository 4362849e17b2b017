"""Reads the marks that handlers left: how often each job was executed, when, and how late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.systems.marks import Marks, executions

__all__ = ["Tally", "executions"]

SAMPLES_TOLD = 5


class Tally(NamedTuple):
    """The marks of all processes of one run.

    Attributes:
        times: how often each job was executed, one byte a job.
        first_at: the instant of the first execution, None if there was none.
        last_at: the instant of the last one.
        latencies: seconds from the call of enqueue to the handler, where they were noted.
    """

    times: bytes
    first_at: float | None
    last_at: float | None
    latencies: list[float]

    @classmethod
    def read(cls, directory: Path, jobs: int) -> Tally:
        """Read the marks of `jobs` jobs; call it when no handler runs any more."""
        counts = [Marks.COUNT.unpack(path.read_bytes()) for path in directory.glob("*.count")]
        begun = [(first, last) for number, first, last in counts if number]
        arrays = [path.read_bytes()[:jobs] for path in directory.glob("*.times")]
        return cls(
            times=_summed(arrays) if arrays else bytes(jobs),
            first_at=min((first for first, _ in begun), default=None),
            last_at=max((last for _, last in begun), default=None),
            latencies=[
                seconds
                for path in directory.glob("*.latency")
                for seconds in memoryview(path.read_bytes()).cast("d")[:jobs]
                if seconds
            ],
        )

    @property
    def executed(self) -> int:
        """How many jobs were executed at least once."""
        return len(self.times) - self.times.count(0)

    def problem(self) -> str | None:
        """Say which jobs were not executed exactly once; None if all were."""
        return _joined(
            _told(self.times, lambda times: times == 0, "never executed"),
            self.repeated(),
        )

    def repeated(self) -> str | None:
        """Say which jobs were executed more than once; None if none was."""
        return _told(self.times, lambda times: times > 1, "executed more than once")


def _summed(arrays: list[bytes]) -> bytes:
    if len(arrays) == 1:
        return arrays[0]
    return bytes(min(255, sum(times)) for times in zip(*arrays, strict=True))


def _told(times: bytes, is_wrong: Callable[[int], bool], what: str) -> str | None:
    wrong = [number for number, count in enumerate(times) if is_wrong(count)]
    if not wrong:
        return None
    samples = ", ".join(str(number) for number in wrong[:SAMPLES_TOLD])
    return f"{len(wrong)} of {len(times)} jobs {what}, such as {samples}"


def _joined(*problems: str | None) -> str | None:
    return "; ".join(problem for problem in problems if problem) or None
