"""The demo's account: which promises it sees broken, and what it says the capacity allowed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from async_jobs.domain.job import Job, JobStatus
from async_jobs.entrypoints.demo.report import Account, best_share
from async_jobs.entrypoints.demo.workload import NOISY, NOISY_MAX
from async_jobs.testing.builders import a_job, an_id

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def _job(
    *, due: float = 0, tolerance: float = 5, started: float | None = None, **changes: object
) -> Job:
    run_at = NOON + timedelta(seconds=due)
    return a_job().after(
        run_at=run_at,
        delay_tolerance=timedelta(seconds=tolerance),
        deadline_at=run_at + timedelta(seconds=tolerance),
        first_started_at=None if started is None else NOON + timedelta(seconds=started),
        **changes,
    )


@pytest.mark.parametrize(
    ("jobs", "share"),
    [
        ([_job(started=1), _job(started=9)], 0.5),
        ([_job(tolerance=20, started=1), _job(started=9)], 1.0),
        ([_job(due=8, started=9), _job(started=10)], 0.5),
        ([_job(started=5), _job()], 0.5),
        ([_job()], 0.0),
    ],
    ids=["too few starts", "the wrong order", "not due before", "at the deadline", "no start"],
)
def test_the_best_order_of_the_same_starts(jobs: list[Job], share: float) -> None:
    assert best_share(jobs) == share


def test_what_ended_as_planned_breaks_no_promise() -> None:
    job = _job(id=an_id(), status=JobStatus.DEAD)
    most = Counter({NOISY: NOISY_MAX})

    assert Account(planned={job.id: job.status}, stored=[job], most_running=most).broken() == []


def test_each_broken_promise_is_named() -> None:
    ended = _job(id=an_id(), status=JobStatus.DEAD)
    waits = _job(id=an_id(NOON), status=JobStatus.PENDING)
    planned = dict.fromkeys((ended.id, waits.id, UUID(int=0)), JobStatus.SUCCEEDED)
    most = Counter({NOISY: NOISY_MAX + 1})

    broken = Account(planned=planned, stored=[ended, waits], most_running=most).broken()

    assert broken == [
        "1 jobs lost",
        "1 jobs unfinished",
        "1 jobs ended otherwise than planned",
        f"{NOISY_MAX + 1} jobs of {NOISY} ran at once; {NOISY_MAX} may",
    ]
