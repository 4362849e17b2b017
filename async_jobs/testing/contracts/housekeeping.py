"""The store's contract, part seven: reaping and forgetting. JS-13, JS-15."""

from __future__ import annotations

import asyncio

import pytest

from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Expired,
    Leased,
    Renewed,
    Retried,
    change,
)
from async_jobs.ports.store import JobStore
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.clocks import NOW, let_others_run
from async_jobs.testing.contracts.scenes import (
    PATHS,
    UNTIL,
    added,
    all_jobs,
    happened,
    in_phase,
    race,
    stored,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures

TERMINAL_PHASES = (Phase.SUCCEEDED, Phase.DEAD, Phase.CANCELLED)


async def all_dead(store: JobStore, count: int) -> list[Job]:
    """Add jobs and let them miss their deadline."""
    jobs = [a_job(deadline_at=NOW) for _ in range(count)]
    await stored(store, *jobs)
    ends = [change(job, Expired(), now=later(0.5)) for job in jobs]
    await store.save(ends)
    return [end.job for end in ends]


class HouseKeepingContract(StoreFixtures):
    """JS-13 and JS-15: forgetting and reaping."""

    @pytest.mark.parametrize("phase", list(PATHS))
    async def test_js_13_purge_forgets_the_finished_only(
        self, store: JobStore, phase: Phase
    ) -> None:
        """However old, a job that lives is never forgotten."""
        job = await in_phase(store, phase)
        finished = phase in TERMINAL_PHASES

        assert await store.purge(job.use_case, before=later(10**6), limit=10) == int(finished)
        assert await store.get([job.id]) == ([] if finished else [job])

    async def test_js_13_a_retried_job_is_kept(self, store: JobStore) -> None:
        """It has another life, though it had ended long ago."""
        job = await in_phase(store, Phase.DEAD)
        revived = await happened(store, job, Retried(), now=later(1))

        assert await store.purge(job.use_case, before=later(10**6), limit=10) == 0
        assert await store.get([job.id]) == [revived]

    async def test_js_13_purge_goes_by_the_end_of_the_job(self, store: JobStore) -> None:
        """Finished before the instant, not at it, and whenever it was created."""
        job = await added(store, created_at=later(-(10**6)))
        job = await happened(store, job, Cancelled(), now=later(10))

        assert await store.purge(job.use_case, before=later(10), limit=10) == 0
        assert await store.purge(job.use_case, before=later(10.000_001), limit=10) == 1

    async def test_js_13_purge_takes_the_oldest_first_up_to_its_limit(
        self, store: JobStore
    ) -> None:
        """Small batches, in the order in which the jobs ended."""
        jobs = [await added(store) for _ in range(6)]
        order = [jobs[i] for i in (3, 0, 5, 1, 4, 2)]
        for i, job in enumerate(order):
            await happened(store, job, Cancelled(), now=later(i))

        for i in (2, 4, 6):
            assert await store.purge("notifications", before=later(100), limit=2) == 2
            left = {job.id for job in await all_jobs(store)}
            assert left == {job.id for job in order[i:]}
        assert await store.purge("notifications", before=later(100), limit=2) == 0

    async def test_js_13_purge_keeps_to_its_use_case(self, store: JobStore) -> None:
        """Each use case has a retention of its own."""
        job = await in_phase(store, Phase.DEAD, use_case="reports")

        assert await store.purge("notifications", before=later(100), limit=10) == 0
        assert await store.get([job.id]) == [job]

    async def test_js_13_a_racing_retry_is_applied_or_too_late(
        self, store: JobStore, other_store: JobStore
    ) -> None:
        """Never both: a retry that says applied has left a job that is there."""
        for _ in range(8):
            dead = await all_dead(store, 40)
            steps = [change(job, Retried(), now=later(1)) for job in dead]
            saves = [
                asyncio.ensure_future((store, other_store)[i % 2].save(steps[i::8]))
                for i in range(8)
            ]
            await let_others_run()
            for each in (store, other_store):
                await each.purge("notifications", before=later(100), limit=100)
            applied = {job_id for answer in await race(*saves) for job_id in answer.ids}

            left = {job.id for job in await store.get([job.id for job in dead])}
            assert left == applied

    async def test_js_15_expired_gives_the_running_jobs_whose_lease_is_over(
        self, store: JobStore
    ) -> None:
        """Handed off, executing or being cancelled; nothing that does not run."""
        jobs = {phase: await in_phase(store, phase) for phase in PATHS}
        running = [job for job in jobs.values() if job.status is JobStatus.RUNNING]

        assert await store.expired(later(59.999_999), limit=10) == []
        over = await store.expired(UNTIL, limit=10)
        assert sorted(over, key=lambda job: job.id) == running

    async def test_js_15_expired_gives_the_longest_over_first(self, store: JobStore) -> None:
        """Up to its limit, so that nobody waits for ever."""
        ends = [30, 10, 50, 20, 40]
        jobs = {end: await happened(store, await added(store), Leased(later(end))) for end in ends}

        assert await store.expired(later(40), limit=10) == [jobs[e] for e in (10, 20, 30, 40)]
        assert await store.expired(later(100), limit=3) == [jobs[e] for e in (10, 20, 30)]

    async def test_js_15_a_renewed_lease_is_not_over(self, store: JobStore) -> None:
        """It counts from its new end."""
        job = await in_phase(store, Phase.CLAIMED)
        renewed = await happened(store, job, Renewed(later(120)), now=later(30))

        assert await store.expired(later(119), limit=10) == []
        assert await store.expired(later(120), limit=10) == [renewed]

    async def test_js_15_expired_sees_all_tenants_and_use_cases(self, store: JobStore) -> None:
        """The reaper is everybody's."""
        for i in range(4):
            await in_phase(
                store, Phase.CLAIMED, tenant_id=f"tenant-{i}", use_case=f"use case {i % 2}"
            )

        assert len(await store.expired(UNTIL, limit=10)) == 4
