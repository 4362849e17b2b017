"""Start-by times: when a job should have started, and what lateness means."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

DEADLINE_MISSED = "deadline_missed"
TOLERANCES_MAX = 1_000.0


class LatePolicy(StrEnum):
    """What a use case does with a job that was not started by its deadline."""

    RUN = "run"
    """It runs, and is simply the most urgent there is."""
    SIDELINE = "sideline"
    """It runs after every job that presses and can still be on time."""
    EXPIRE = "expire"
    """It is not worth running any more: it becomes dead with `deadline_missed`."""


def deadline_of(run_at: datetime, delay_tolerance: timedelta) -> datetime:
    """Return the start-by time. It never limits how long an execution may take."""
    return run_at + delay_tolerance


def first_kept(
    first_deadline_at: datetime | None, deadline_at: datetime, moved_to: datetime
) -> datetime | None:
    """Return what to keep of a job's first deadline when its deadline moves; None if it is that."""
    first = first_deadline_at or deadline_at
    return None if first == moved_to else first


def is_late(deadline_at: datetime, at: datetime) -> bool:
    """Tell whether a start at `at` would be late; starting on the deadline itself is on time."""
    return at > deadline_at


def lateness(deadline_at: datetime, started_at: datetime) -> timedelta:
    """Return how long after its deadline a job started; negative when it was on time."""
    return started_at - deadline_at


def tolerance_used(run_at: datetime, deadline_at: datetime, started_at: datetime) -> float:
    """Return the share of its delay tolerance that a start has used: above 1 if it was late.

    At most `TOLERANCES_MAX`, which a late start without any tolerance has used too, so that a
    sum of them says something.
    """
    if started_at <= run_at:
        return 0.0
    tolerance = deadline_at - run_at
    if tolerance <= timedelta(0):
        return TOLERANCES_MAX
    return min((started_at - run_at) / tolerance, TOLERANCES_MAX)
