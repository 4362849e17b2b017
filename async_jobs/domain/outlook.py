"""Whether jobs can start in time: the demand bound of earliest deadline first.

What is to start by an instant needs slots until then; where it needs more than there are, misses
are certain. `foresee` asks that for one job that is not enqueued yet, `demand_bound` for all that
wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.pools import RUN_SECONDS

# What waits is counted no further: nobody acts differently on more.
COUNT_MAX = 10_000
NEAR_SECONDS: Final = 1.0
"""Whatever has to start sooner is taken to have so long: no hand-off is told of in time for it."""
CATCH_UP_SECONDS: Final = 60.0
"""Jobs that are late cannot be on time any more; they are wanted within so long."""


class Counted(NamedTuple):
    """How many jobs there are; with `at_least`, there may be more."""

    jobs: int
    at_least: bool = False


class Slots(NamedTuple):
    """How many jobs some slots can run at once, and how many they run."""

    total: int
    busy: int

    def at_most(self, total: int) -> Slots:
        """Return what is left of the slots if no more than so many may be used."""
        return Slots(min(self.total, total), self.busy)


class Demand(NamedTuple):
    """The jobs that have to start before another one, and the slots they have to start in."""

    ahead: Counted
    slots: Slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The demand bound of earliest deadline first, for one job.

    An estimate: it takes every job ahead for one of this type, and says nothing about what is
    enqueued later, about fair shares and about limits of tenants. Its parts are of whatever is
    scarcer for the job: the slots of its pool, or what its use case and its queue may use of them.

    Attributes:
        ahead: how many jobs that wait have a deadline at or before its own; late ones count.
        at_least: more may be ahead than were counted; then `can_be_met` is a hope.
        required_rate: starts per second that are needed until the deadline, its own included and
            those left out that idle slots make at once; infinite if no time is left.
        capacity_rate: starts per second that the slots can make: slots ÷ expected run time.
        expected_start_in_seconds: when it starts if all ahead start before it; None without slots.
        can_be_met: `required_rate` is at most `capacity_rate`.
    """

    ahead: int
    required_rate: float
    capacity_rate: float
    expected_start_in_seconds: float | None
    can_be_met: bool
    at_least: bool = False


def foresee(
    demands: Iterable[Demand],
    *,
    now: datetime,
    run_at: datetime,
    deadline_at: datetime,
    run_seconds: float = RUN_SECONDS,
) -> Outlook:
    """Return the outlook by the demand that leaves the job the least.

    Args:
        demands: what is to start before it; at least one.
        now: when it would be enqueued.
        run_at: its earliest start.
        deadline_at: when it should have started.
        run_seconds: how long a job is expected to hold a slot; a guess by default.
    """
    left_seconds = (deadline_at - now).total_seconds()
    due_in_seconds = max(0.0, (run_at - now).total_seconds())
    seen = [_seen(each, left_seconds, due_in_seconds, run_seconds) for each in demands]
    return max(seen, key=_pressure)


def _seen(
    demand: Demand, left_seconds: float, due_in_seconds: float, run_seconds: float
) -> Outlook:
    (ahead, at_least), (slots, busy) = demand
    # Idle slots start as many at once, however long these run.
    starts = max(0, ahead + 1 - max(0, slots - busy))
    required = starts / left_seconds if left_seconds > 0 else math.inf
    capacity = start_rate(slots, run_seconds)
    return Outlook(
        ahead=ahead,
        required_rate=required,
        capacity_rate=capacity,
        expected_start_in_seconds=max(due_in_seconds, starts / capacity) if slots else None,
        can_be_met=required <= capacity and slots > 0,
        at_least=at_least,
    )


def start_rate(slots: int, run_seconds: float) -> float:
    """Return how many jobs that run for so long some slots can start in a second."""
    # Shorter than a microsecond is not told by any clock.
    return slots / max(run_seconds, 1e-6)


def _pressure(seen: Outlook) -> tuple[bool, float, bool]:
    """Return what is greater for the demand that leaves less."""
    start = seen.expected_start_in_seconds
    return not seen.can_be_met, math.inf if start is None else start, seen.at_least


def together(counts: Iterable[Counted]) -> Counted:
    """Return how many there are in all."""
    each = tuple(counts)
    return Counted(sum(jobs for jobs, _ in each), any(at_least for _, at_least in each))


Due: TypeAlias = tuple[float, float, float]
"""One job that has to start: when its turn comes and by when, in seconds, and what it needs: 1 to
count starts, or the seconds of a slot that it takes. A plain tuple, for there are many of them.
"""


def dues(
    deadlines: Iterable[datetime], *, now: datetime, late_policy: LatePolicy, weight: float = 1.0
) -> list[Due]:
    """Return what has to start of a use case; nothing of what its policy buries.

    Args:
        deadlines: of the jobs that wait.
        now: the instant that decides which of them are late.
        late_policy: late ones go before all others, behind those that press, or nowhere.
        weight: what each of them needs.
    """
    lefts = [(deadline - now).total_seconds() for deadline in deadlines]
    found = [
        (max(left, NEAR_SECONDS), max(left, NEAR_SECONDS), weight) for left in lefts if left >= 0
    ]
    if late_policy is not LatePolicy.EXPIRE:
        turn = CATCH_UP_SECONDS if late_policy is LatePolicy.SIDELINE else 0.0
        found += [(turn, CATCH_UP_SECONDS, weight)] * (len(lefts) - len(found))
    return found


def demand_bound(wanted: Iterable[Due], idle: int) -> float:
    """Return what has to be done in a second so that every job starts in time.

    The most that any job asks for: what has to start until then, its own start included, divided
    by the time until then. Idle slots start as many at once, however long these run.

    Args:
        wanted: the jobs, in any order; each with some time left.
        idle: how many slots are idle.
    """
    work = most = 0.0
    for _, left_seconds, weight in sorted(wanted)[idle:]:
        work += weight
        if work > most * left_seconds:
            most = work / left_seconds
    return most
