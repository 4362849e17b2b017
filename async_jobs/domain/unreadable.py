"""A stored row that is no job any more: what becomes of it when its lease is over.

Nobody may end it, for somebody may mend it, or a newer version may be able to read it. Nor may
it keep its slot: it is set aside, which makes it pending again, due after a pause.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.deadline import deadline_of


class Aside(NamedTuple):
    """What a row holds once it is set aside."""

    attempts: int
    crashes: int
    dispatches: int
    deadline_at: datetime


def aside(
    *,
    claimed: bool,
    attempts: int,
    max_attempts: int,
    crashes: int,
    dispatches: int,
    delay_tolerance: timedelta,
    until: datetime,
) -> Aside:
    """Return what an unreadable row holds once it is set aside until an instant.

    A claimed one is charged a crash, as a job that can be read: somebody may have read it before.
    Only the last crash there is, which would have ended such a job, is not counted: the row lives
    on. Neither attempts nor crashes exceed their maximum, whatever is damaged.
    """
    try:
        deadline_at = deadline_of(until, delay_tolerance)
    except OverflowError:  # the tolerance may be what is damaged
        deadline_at = until
    return Aside(
        attempts=max(0, min(attempts - claimed, max_attempts - 1)),
        crashes=max(0, min(crashes + claimed, CRASHES_MAX - 1)),
        dispatches=dispatches + (not claimed),
        deadline_at=deadline_at,
    )
