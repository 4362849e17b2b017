"""How long leases stayed on after their end: the bound is one tick of a scheduler that can work.

A bound on a tick says nothing of the time in which nobody can tick: while no scheduler is up, or
while the database does not answer. That time is taken out. How a scheduler comes back from an
outage is part of it: its pauses between tries double, so that the next try comes at most one and
a half times the outage later, and one second for the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.kills.verdict import Expiry

BACKOFF_FACTOR, BACKOFF_SECONDS = 1.5, 1.0
EXCUSED_SECONDS = 1e-6  # what subtracting leaves of nothing


class Span(NamedTuple):
    """From one instant to another, in seconds."""

    start: float
    end: float

    def within(self, other: Span) -> float:
        """Return how much of this span lies in the other one."""
        return max(0.0, min(self.end, other.end) - max(self.start, other.start))


def outage(start: float, end: float) -> Span:
    """Return the time for which a database that did not answer excuses the schedulers."""
    return Span(start, end + BACKOFF_FACTOR * (end - start) + BACKOFF_SECONDS)


def united(spans: Iterable[Span]) -> list[Span]:
    """Return the same time in spans that do not touch each other, in order."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.start <= result[-1].end:
            result[-1] = Span(result[-1].start, max(result[-1].end, span.end))
        else:
            result.append(span)
    return result


def gaps(spans: Iterable[Span], whole: Span) -> list[Span]:
    """Return the time within the whole that is in none of the spans."""
    result, at = list[Span](), whole.start
    for span in united(spans):
        if span.start > at:
            result.append(Span(at, min(span.start, whole.end)))
        at = max(at, span.end)
    if at < whole.end:
        result.append(Span(at, whole.end))
    return [gap for gap in result if gap.end > gap.start]


@dataclass(frozen=True, slots=True)
class Delays:
    """By how much each lease outlived its end while a scheduler could work, in seconds.

    Attributes:
        seconds: the delays.
        excused: how many leases more ended while none could, of which there is nothing to tell.
    """

    seconds: Sequence[float] = ()
    excused: int = 0

    @property
    def worst(self) -> float:
        return max(self.seconds, default=0.0)

    def quantile(self, share: float) -> float:
        """Return the delay that this share of the leases did not exceed."""
        if not self.seconds:
            return 0.0
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def delays(expiries: Iterable[Expiry], excused: Sequence[Span]) -> Delays:
    """Return the delays without the time that is excused; the spans do not overlap."""
    found = []
    for expiry in expiries:
        late = Span(expiry.lease_end, expiry.ended_at)
        found.append(late.end - late.start - sum(late.within(span) for span in excused))
    told = [seconds for seconds in found if seconds > EXCUSED_SECONDS]
    return Delays(told, len(found) - len(told))
