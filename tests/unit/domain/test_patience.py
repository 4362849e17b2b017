"""How long a job is put off for nothing: snoozes, and types that nobody knows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_jobs.domain import lifecycle
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.lifecycle import Claimed, Failed, Leased, Retried, Snoozed
from async_jobs.domain.patience import NO_HANDLER, refused_pause, snoozed, without_handler
from async_jobs.testing.builders import a_job, later

DAY = timedelta(days=1)
WEEK = timedelta(days=7)
HALF_A_MINUTE = timedelta(seconds=30)


def claimed(job: Job, *, at: float) -> Job:
    """Return the job as a worker has it, so many seconds after the beginning."""
    leased = lifecycle.advance(job, Leased(later(at + 60)), now=later(at))
    return lifecycle.advance(leased, Claimed("worker-1", later(at + 60)), now=later(at))


def received(job: Job, *, at: float) -> Job:
    """Return the job after a worker received it that has no handler for it."""
    event = without_handler(claimed(job, at=at), now=later(at), delay=HALF_A_MINUTE, wait_max=WEEK)
    return lifecycle.advance(claimed(job, at=at), event, now=later(at))


@pytest.mark.parametrize(("seconds", "delay"), [(-5, 1), (0, 1), (0.2, 1), (1, 1), (90, 90)])
def test_a_snooze_lasts_a_second_at_least(seconds: float, delay: float) -> None:
    """Without it a job would run as often as the machine can."""
    job = claimed(a_job(), at=0)

    event = snoozed(job, Snoozed(later(seconds)), now=later(0), age_max=DAY)

    assert event == Snoozed(later(delay))


def test_an_old_job_pays_for_its_snoozes() -> None:
    """Counted from its enqueue; with its last attempt it is dead, and says why."""
    job = a_job(max_attempts=2)
    at = DAY.total_seconds()
    within = snoozed(claimed(job, at=at), Snoozed(later(at + 9)), now=later(at), age_max=DAY)
    for _ in range(2):
        at += 10
        job = claimed(job, at=at)
        event = snoozed(job, Snoozed(later(at + 9)), now=later(at), age_max=DAY)
        assert isinstance(event, Failed)
        job = lifecycle.advance(job, event, now=later(at))

    assert within == Snoozed(later(DAY.total_seconds() + 9))
    assert (job.status, job.attempts) == (JobStatus.DEAD, 2)
    assert job.errors[0].error == (
        "Snooze: the job is older than 86400 s, so that this is a failed attempt"
    )


def test_a_job_that_nobody_has_a_handler_for_comes_back_less_and_less_often() -> None:
    """After 30 s, then a tenth of what it has waited, an hour at most; it says so once."""
    job, at, delays = a_job(), 0.0, []
    while job.status is JobStatus.PENDING:
        at = (job.run_at - later(0)).total_seconds()
        job = received(job, at=at)
        delays.append((job.run_at - later(at)).total_seconds())

    assert delays[:3] == [30, 30, 30]
    assert max(delays) == 3_600
    assert len(delays) < 300
    assert at == WEEK.total_seconds()
    assert (job.status, job.max_attempts) == (JobStatus.DEAD, 5)
    assert [each.error for each in job.errors] == [
        NO_HANDLER,
        "no worker had a handler for its type within 7 days",
    ]


def test_no_attempt_is_charged_while_it_waits() -> None:
    """Its history tells since when it has."""
    job = received(received(a_job(max_attempts=1), at=0), at=100)

    assert (job.status, job.attempts, job.last_error) == (JobStatus.PENDING, 0, NO_HANDLER)
    assert [(each.error, each.at) for each in job.errors] == [(NO_HANDLER, later(0))]


def test_an_operators_retry_lets_it_wait_as_long_again() -> None:
    """By then somebody may have deployed the handler."""
    late = WEEK.total_seconds()
    dead = received(received(a_job(), at=0), at=late)
    retried = lifecycle.advance(dead, Retried(), now=later(late))

    job = received(retried, at=late)

    assert dead.status is JobStatus.DEAD
    assert (job.status, len(job.errors)) == (JobStatus.PENDING, 3)


# --- refused by the store -----------------------------------------------------------------------


def test_a_row_that_is_refused_is_tried_less_and_less_often() -> None:
    """It is never given up: whoever refuses it may let go."""
    pauses = [refused_pause(times).total_seconds() for times in (1, 2, 3, 8, 9, 10**6)]

    assert pauses == [2, 4, 8, 256, 300, 300]
