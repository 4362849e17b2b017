"""Every event in every phase in which it can happen, for tests that have to see them all."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from async_jobs.domain.job import Phase
from async_jobs.domain.lifecycle import (
    Amended,
    Cancelled,
    CancelRequested,
    Claimed,
    Expired,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Restored,
    Retried,
    SetAside,
    Snoozed,
    Succeeded,
)
from async_jobs.testing.builders import later
from async_jobs.testing.contracts.scenes import UNTIL

EVENTS: list[tuple[Phase, JobEvent]] = [
    (Phase.PENDING, Leased(later(300))),
    (Phase.PENDING, Cancelled()),
    (Phase.PENDING, Expired()),
    (
        Phase.PENDING,
        Amended(run_at=later(600), delay_tolerance=timedelta(minutes=7), priority=-3),
    ),
    (Phase.HANDED_OFF, HandOffFailed("throttled")),
    (Phase.HANDED_OFF, Claimed("worker-2", later(300))),
    (Phase.HANDED_OFF, Renewed(later(300))),
    (Phase.HANDED_OFF, Cancelled()),
    (Phase.HANDED_OFF, LeaseExpired()),
    (Phase.HANDED_OFF, SetAside(later(600))),
    (Phase.CLAIMED, Renewed(later(300))),
    (Phase.CLAIMED, Succeeded({"sent": [1, None]})),
    (Phase.CLAIMED, Failed("refused", draw=0.5)),
    (Phase.CLAIMED, Failed("refused", retry_after=timedelta(seconds=1))),
    (Phase.CLAIMED, Rejected("no such address")),
    (Phase.CLAIMED, Snoozed(later(600))),
    (Phase.CLAIMED, Released()),
    (Phase.CLAIMED, CancelRequested()),
    (Phase.CLAIMED, LeaseExpired()),
    (Phase.CLAIMED, SetAside(later(600))),
    (Phase.CANCELLING, Renewed(later(300))),
    (Phase.CANCELLING, Succeeded("anyway")),
    (Phase.CANCELLING, Failed("refused")),
    (Phase.CANCELLING, Rejected("no such address")),
    (Phase.CANCELLING, Snoozed(later(600))),
    (Phase.CANCELLING, Released()),
    (Phase.CANCELLING, CancelRequested()),
    (Phase.CANCELLING, Cancelled()),
    (Phase.CANCELLING, LeaseExpired()),
    (Phase.CANCELLING, SetAside(later(600))),
    (Phase.DEAD, Retried()),
    (Phase.CANCELLED, Retried()),
    (Phase.CANCELLED, Restored()),
]
NAMES = [f"{type(event).__name__}-{phase}-{i}" for i, (phase, event) in enumerate(EVENTS)]
every_event = pytest.mark.parametrize(("phase", "event"), EVENTS, ids=NAMES)


def instant_of(event: JobEvent) -> datetime:
    """Return when `event` may happen to a job whose deadline is after 30 s."""
    return UNTIL if isinstance(event, LeaseExpired | SetAside | Expired) else later(30)
