"""How long a job may be put off with no attempt charged: by its handler, for want of one, or by a
rule of the application's on its row.

What is put off for ever would neither run nor end, and would be claimed again and again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from async_jobs.domain.job import Job
from async_jobs.domain.lifecycle import Failed, Rejected, Snoozed

SNOOZE_MIN: Final = timedelta(seconds=1)
UNKNOWN_TYPE_DELAY_MAX: Final = timedelta(hours=1)
UNKNOWN_TYPE_DELAY_PART: Final = 10
REFUSED_PAUSE_MIN: Final = timedelta(seconds=2)
REFUSED_PAUSE_MAX: Final = timedelta(minutes=5)
KEPT_PAUSE: Final = timedelta(hours=1)
"""How long a finished job is left alone that could not be forgotten, as others refer to it."""
NO_HANDLER_CAME: Final = "no worker had a handler for its type"
NO_HANDLER: Final = "no worker that received it has a handler for its type"


def snoozed(job: Job, event: Snoozed, *, now: datetime, age_max: timedelta) -> Snoozed | Failed:
    """Return what a handler's wish to be run later becomes.

    It is put off by a second at least. Once the job is older than `age_max`, counted from its
    enqueue, a snooze is a failed attempt, so that the job ends with the last of them.
    """
    until = max(event.until, now + SNOOZE_MIN)
    if now - job.created_at <= age_max:
        return Snoozed(until)
    error = f"Snooze: the job is older than {_told(age_max)}, so that this is a failed attempt"
    return Failed(error, retry_after=until - now)


def without_handler(
    job: Job, *, now: datetime, delay: timedelta, wait_max: timedelta
) -> Snoozed | Rejected:
    """Return what becomes of a job that a worker received and has no handler for.

    It waits for a worker that has one, and says so in its history, once. It comes back after
    `delay` at first, then after a tenth of the time it has waited, an hour at most; after
    `wait_max` it is dead.
    """
    last = job.errors[-1] if job.errors else None
    since = last.at if last is not None and last.error == NO_HANDLER else now
    waited = now - since
    if waited >= wait_max:
        return Rejected(f"{NO_HANDLER_CAME} within {_told(wait_max)}", started=False)
    delay = max(delay, min(waited / UNKNOWN_TYPE_DELAY_PART, UNKNOWN_TYPE_DELAY_MAX))
    return Snoozed(now + min(delay, wait_max - waited), why=NO_HANDLER, started=False)


def refused_pause(times: int) -> timedelta:
    """Return how long a row is left alone that was refused so many times in a row.

    It doubles each time. Until it is over, nothing that is done for many rows looks at it, so that
    it keeps no other from its place; then it is tried again, for the rule may be gone.
    """
    doublings = min(times - 1, (REFUSED_PAUSE_MAX // REFUSED_PAUSE_MIN).bit_length())
    return min(REFUSED_PAUSE_MIN * (1 << doublings), REFUSED_PAUSE_MAX)


def _told(time: timedelta) -> str:
    return f"{time.days} days" if time >= timedelta(days=2) else f"{time.total_seconds():g} s"
