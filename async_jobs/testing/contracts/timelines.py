"""What `Operations` promises of the life of one job: OP-8."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_jobs.domain.errors import JobNotFoundError
from async_jobs.domain.history import Outcome
from async_jobs.domain.job import Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Claimed,
    Failed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Restored,
    Retried,
    Succeeded,
)
from async_jobs.domain.timeline import JobHistory, Moment
from async_jobs.ports.operations import Operations
from async_jobs.ports.store import Store
from async_jobs.testing.builders import an_id, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import PATHS, added, happened, in_phase


def moments(history: JobHistory) -> list[tuple[Moment, Outcome | None]]:
    """Return what happened, in order."""
    return [(entry.moment, entry.outcome) for entry in history.entries]


class TimelineContract:
    """A part of `OperationsContract`, which has the fixtures."""

    async def test_op_8_a_job_that_succeeded_at_once_tells_who_ran_it(
        self, operations: Operations, store: Store
    ) -> None:
        """Since when, for how long, and on which lease, for as long as it is kept."""
        job = await happened(
            store, await added(store), Leased(later(60)), Claimed("worker-1", later(60))
        )
        await happened(store, job, Succeeded(), now=later(2.5))

        told = await operations.history(job.id, tenant_id="acme")

        assert (told.job_id, told.phase, told.cut) == (job.id, "succeeded", False)
        assert moments(told) == [
            (Moment.ENQUEUED, None),
            (Moment.STARTED, None),
            (Moment.ENDED, Outcome.SUCCEEDED),
        ]
        started, ended = told.entries[1:]
        assert (started.at, started.worker_id, started.attempt) == (NOW, "worker-1", 1)
        assert (ended.at, ended.ran_seconds, ended.lease_seq) == (later(2.5), 2.5, 1)

    async def test_op_8_each_attempt_of_a_troubled_job_is_told(
        self, operations: Operations, store: Store
    ) -> None:
        """A failure with its places, a dead worker, a rejection, a retry, and what comes next."""
        job = await added(store)
        steps: tuple[tuple[JobEvent, Outcome], ...] = (
            (Failed("ValueError: no 'x'", places=("/app/mail.py:7 in send",)), Outcome.FAILED),
            (LeaseExpired(), Outcome.LEASE_EXPIRED),
            (Rejected("no such address"), Outcome.REJECTED),
        )
        for index, (event, _) in enumerate(steps):
            at = later(3_600 * (index + 1))
            lease = Leased(at), Claimed(f"worker-{index}", at)
            job = await happened(store, job, *lease, now=at - timedelta(seconds=5))
            job = await happened(store, job, event, now=at)
        job = await happened(store, job, Retried(), now=later(20_000))

        told = await operations.history(job.id)

        expected = [
            each for _, end in steps for each in ((Moment.STARTED, None), (Moment.ENDED, end))
        ]
        assert moments(told) == [
            (Moment.ENQUEUED, None),
            *expected,
            (Moment.RETRIED, None),
            (Moment.DUE, None),
        ]
        failed = told.entries[2]
        assert (failed.worker_id, failed.ran_seconds) == ("worker-0", 5)
        assert (failed.error, failed.traceback) == ("ValueError: no 'x'", "/app/mail.py:7 in send")
        assert len(failed.fingerprint or "") == 16

    async def test_op_8_a_cancellation_that_was_taken_back_is_told_as_such(
        self, operations: Operations, store: Store
    ) -> None:
        """Nobody reads of a job that waits that it ended, and no more."""
        job = await happened(store, await added(store), Cancelled(), now=later(1))
        await happened(store, job, Restored(), now=later(2))

        told = await operations.history(job.id)

        assert told.phase == "pending"
        assert moments(told)[-2:] == [(Moment.ENDED, Outcome.CANCELLED), (Moment.RESTORED, None)]

    @pytest.mark.parametrize("phase", list(PATHS))
    async def test_op_8_a_job_in_any_phase_has_a_history(
        self, operations: Operations, store: Store, phase: Phase
    ) -> None:
        """It begins with its enqueue and ends with where it is."""
        job = await in_phase(store, phase)

        told = await operations.history(job.id)

        last = {
            Phase.PENDING: Moment.DUE,
            Phase.HANDED_OFF: Moment.HANDED_OFF,
            Phase.CLAIMED: Moment.STARTED,
            Phase.CANCELLING: Moment.STARTED,
        }.get(phase, Moment.ENDED)
        assert told.entries[0].moment is Moment.ENQUEUED
        assert told.entries[-1].moment is last

    async def test_op_8_a_foreign_history_looks_like_a_missing_one(
        self, operations: Operations, store: Store
    ) -> None:
        """Even if the job is gone and its records are not."""
        job = await in_phase(store, Phase.DEAD)
        for tenant in ("globex", None):
            with pytest.raises(JobNotFoundError):
                await operations.history(job.id if tenant else an_id(), tenant_id=tenant)
