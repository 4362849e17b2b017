"""Leases, LS-8: they end well."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_jobs.domain.job import Job, JobStatus, JsonValue, Phase
from async_jobs.domain.lifecycle import (
    CancelRequested,
    Claimed,
    Failed,
    JobEvent,
    Leased,
    LeaseExpired,
    Renewed,
    Succeeded,
    advance,
    change,
)
from async_jobs.ports.leases import Success
from async_jobs.ports.store import Store
from async_jobs.testing.builders import an_id, later
from async_jobs.testing.contracts.scenes import (
    CRASH,
    UNTIL,
    happened,
    in_phase,
    race,
    the_job,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures

RESULTS: list[JsonValue] = [None, False, 0, "", "done", [], {"sent": [1, 2.5, None, "é"]}]


def success_of(job: Job, result: JsonValue = None) -> Success:
    """Return what a worker tells that holds a job's lease."""
    return Success(job.id, job.lease_seq, result, job.worker_id)


async def taken_over(store: Store, lost: Job) -> Job:
    """Give a claimed job whose lease is over to another worker."""
    events = LeaseExpired(), Leased(later(300)), Claimed("worker-2", later(300))
    return await happened(store, lost, *events, now=later(60))


class SucceedingContract(StoreFixtures):
    """LS-8: a success ends the lease it was reached in, and nothing else."""

    async def test_ls_8_the_worker_of_a_lost_lease_changes_nothing(self, store: Store) -> None:
        """Though its lease had the number of the present one, as after a failover that lost it."""
        job = await in_phase(store, Phase.CLAIMED)
        stale = Success(job.id, job.lease_seq, "old", "the worker before")

        assert await store.succeed([stale], now=later(5)) == frozenset()
        assert await the_job(store, job.id) == job
        whoever = Success(job.id, job.lease_seq, "new")
        assert await store.succeed([whoever], now=later(5)) == {job.id}

    @pytest.mark.parametrize("result", RESULTS, ids=range(len(RESULTS)))
    async def test_ls_8_a_success_gives_exactly_what_advance_makes(
        self, store: Store, result: JsonValue
    ) -> None:
        """All fields of it, whatever happened to the job before."""
        job = await happened(
            store,
            await in_phase(store, Phase.CLAIMED, max_attempts=3),
            Failed("no route", retry_after=timedelta(0)),
            *CRASH,
            Leased(UNTIL),
            Claimed("worker-1", UNTIL),
        )

        succeeded = await store.succeed([success_of(job, result)], now=later(5))

        assert succeeded == {job.id}
        assert await the_job(store, job.id) == advance(job, Succeeded(result), now=later(5))

    @pytest.mark.parametrize(
        "event", [Renewed(later(300)), CancelRequested()], ids=["renewed", "to be cancelled"]
    )
    async def test_ls_8_what_keeps_the_lease_does_not_stand_in_the_way(
        self, store: Store, event: JobEvent
    ) -> None:
        """The work is done, whatever the worker had not heard of yet."""
        job = await in_phase(store, Phase.CLAIMED)
        after = await happened(store, job, event, now=later(1))

        succeeded = await store.succeed([success_of(job)], now=later(2))

        assert succeeded == {job.id}
        assert await the_job(store, job.id) == advance(after, Succeeded(), now=later(2))

    @pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.CLAIMED, Phase.CANCELLING}))
    async def test_ls_8_what_nobody_executes_is_left_alone(
        self, store: Store, phase: Phase
    ) -> None:
        """Whoever leased it, or ended it; a job that succeeded so stays as it is."""
        job = await in_phase(store, phase)

        succeeded = await store.succeed([success_of(job, "twice")], now=later(5))

        assert succeeded == ({job.id} if phase is Phase.SUCCEEDED else frozenset())
        assert await the_job(store, job.id) == job

    async def test_ls_8_another_lease_is_left_alone(self, store: Store) -> None:
        """A former one whose worker was given up, and one that was never given."""
        lost = await in_phase(store, Phase.CLAIMED)
        job = await taken_over(store, lost)

        for seq in (lost.lease_seq, job.lease_seq + 1, 0):
            stale = success_of(job)._replace(lease_seq=seq)
            assert await store.succeed([stale], now=later(100)) == frozenset()
        assert await the_job(store, job.id) == job

    async def test_ls_8_a_success_of_another_lease_stands(self, store: Store) -> None:
        """It is not taken for one's own."""
        lost = await in_phase(store, Phase.CLAIMED)
        job = await happened(
            store, await taken_over(store, lost), Succeeded("by the second"), now=later(90)
        )

        assert await store.succeed([success_of(lost, "late")], now=later(100)) == frozenset()
        assert await the_job(store, job.id) == job

    async def test_ls_8_a_success_may_be_repeated(self, store: Store) -> None:
        """The reply was lost; the second call comes later and changes nothing."""
        job = await in_phase(store, Phase.CLAIMED)
        told = [success_of(job, {"n": 1})]

        first = await store.succeed(told, now=later(5))
        done = await the_job(store, job.id)
        second = await store.succeed(told, now=later(6))

        assert first == second == {job.id}
        assert await the_job(store, job.id) == done

    async def test_ls_8_losers_do_not_hold_up_the_others(self, store: Store) -> None:
        """Gone, ended, waiting and claimed jobs in one batch."""
        jobs = [await in_phase(store, Phase.CLAIMED) for _ in range(3)]
        ended = await in_phase(store, Phase.CANCELLED)
        waiting = await in_phase(store, Phase.HANDED_OFF)
        batch = [success_of(each) for each in (jobs[2], ended, jobs[0], waiting, jobs[1])]

        succeeded = await store.succeed([*batch, Success(an_id(), 1, None)], now=later(5))

        assert succeeded == {job.id for job in jobs}
        assert await store.succeed([], now=later(5)) == frozenset()

    async def test_ls_8_a_success_frees_the_dedupe_key(self, store: Store) -> None:
        """As any end does."""
        job = await in_phase(store, Phase.CLAIMED, dedupe_key="daily")
        await store.succeed([success_of(job)], now=later(5))

        again = await in_phase(store, Phase.PENDING, dedupe_key="daily")

        assert again.id != job.id
        assert (await the_job(store, again.id)).status is JobStatus.PENDING

    async def test_ls_8_what_was_handed_over_may_be_changed(self, store: Store) -> None:
        """The stored result shares nothing with the handler's."""
        job = await in_phase(store, Phase.CLAIMED)
        result: dict[str, JsonValue] = {"sent": [1]}
        await store.succeed([success_of(job, result)], now=later(5))

        result.clear()

        assert (await the_job(store, job.id)).result == {"sent": [1]}

    async def test_ls_8_one_of_many_ends_wins(self, store: Store, other_store: Store) -> None:
        """A worker's success, and the reaper's view of the same lease."""
        jobs = [await in_phase(store, Phase.CLAIMED) for _ in range(4)]

        over = [change(job, LeaseExpired(), now=later(61)) for job in jobs]
        told = [success_of(job) for job in jobs]

        await race(
            store.succeed(told, now=later(61)),
            other_store.save(over),
            other_store.succeed(told[::-1], now=later(61)),
        )

        ended = {job.id: await the_job(store, job.id) for job in jobs}
        well = {job_id for job_id, job in ended.items() if job.status is JobStatus.SUCCEEDED}
        assert await store.succeed(told, now=later(62)) == well
        for job_id, job in ended.items():
            lost = job.phase is Phase.PENDING and len(job.errors) == 1
            assert job_id in well or lost
