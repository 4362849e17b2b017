"""The contract of `Upkeep`: forgetting and promoting. UP-1, UP-2; the others are in `holding`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import Job, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Expired,
    Failed,
    Leased,
    Retried,
    Snoozed,
    change,
)
from async_jobs.ports.leases import HeadsQuery
from async_jobs.ports.store import Store
from async_jobs.testing.builders import a_job, candidate_of, later
from async_jobs.testing.clocks import NOW, let_others_run
from async_jobs.testing.contracts.holding import HoldingContract
from async_jobs.testing.contracts.scenes import (
    PATHS,
    added,
    all_jobs,
    happened,
    heads_of,
    in_phase,
    leased,
    race,
    stored,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures

TERMINAL_PHASES = (Phase.SUCCEEDED, Phase.DEAD, Phase.CANCELLED)


async def all_dead(store: Store, count: int) -> list[Job]:
    """Add jobs and let them miss their deadline."""
    jobs = [a_job(deadline_at=NOW) for _ in range(count)]
    await stored(store, *jobs)
    ends = [change(job, Expired(), now=later(0.5)) for job in jobs]
    await store.save(ends)
    return [end.job for end in ends]


class PurgingContract(StoreFixtures):
    """UP-1: forgetting."""

    @pytest.mark.parametrize("phase", list(PATHS))
    async def test_up_1_purge_forgets_the_finished_only(self, store: Store, phase: Phase) -> None:
        """However old, a job that lives is never forgotten."""
        job = await in_phase(store, phase)
        finished = phase in TERMINAL_PHASES

        assert await store.purge(job.use_case, before=later(10**6), limit=10) == int(finished)
        assert await store.get([job.id]) == ([] if finished else [job])

    async def test_up_1_a_retried_job_is_kept(self, store: Store) -> None:
        """It has another life, though it had ended long ago."""
        job = await in_phase(store, Phase.DEAD)
        revived = await happened(store, job, Retried(), now=later(1))

        assert await store.purge(job.use_case, before=later(10**6), limit=10) == 0
        assert await store.get([job.id]) == [revived]

    async def test_up_1_purge_goes_by_the_end_of_the_job(self, store: Store) -> None:
        """Finished before the instant, not at it, and whenever it was created."""
        job = await added(store, created_at=later(-(10**6)))
        job = await happened(store, job, Cancelled(), now=later(10))

        assert await store.purge(job.use_case, before=later(10), limit=10) == 0
        assert await store.purge(job.use_case, before=later(10.000_001), limit=10) == 1

    async def test_up_1_purge_takes_the_oldest_first_up_to_its_limit(self, store: Store) -> None:
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

    async def test_up_1_it_is_told_when_the_first_of_each_use_case_ended(
        self, store: Store
    ) -> None:
        """Of those that have finished jobs, whatever else they have."""
        for use_case, ends in {"b": (3, 1, 2), "a": (5,), "c": ()}.items():
            await added(store, use_case=use_case)
            for seconds in ends:
                job = await added(store, use_case=use_case)
                await happened(store, job, Cancelled(), now=later(seconds))

        assert await store.oldest_finished() == {"a": later(5), "b": later(1)}
        await store.purge("b", before=later(2), limit=10)
        assert await store.oldest_finished() == {"a": later(5), "b": later(2)}

    async def test_up_1_purge_keeps_to_its_use_case(self, store: Store) -> None:
        """Each use case has a retention of its own."""
        job = await in_phase(store, Phase.DEAD, use_case="reports")

        assert await store.purge("notifications", before=later(100), limit=10) == 0
        assert await store.get([job.id]) == [job]

    async def test_up_1_a_racing_retry_is_applied_or_too_late(
        self, store: Store, other_store: Store
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


class PromotionContract(StoreFixtures):
    """UP-2: from later to now."""

    async def test_up_2_promote_tells_when_the_next_job_comes_due(self, store: Store) -> None:
        """Of any tenant and use case; None when nothing waits for its time."""
        assert (await store.promote(NOW, limit=10)).run_at is None
        await added(store)
        assert (await store.promote(NOW, limit=10)).run_at is None

        for seconds in (30, 10.000_001, 20):
            await added(store, run_at=later(seconds), tenant_id=f"t{seconds}", use_case="reports")

        assert (await store.promote(NOW, limit=10)).run_at == later(10.000_001)
        assert (await store.promote(later(10), limit=10)).run_at == later(10.000_001)
        assert (await store.promote(later(10.000_001), limit=10)).run_at == later(20)
        assert (await store.promote(later(29), limit=10)).run_at == later(30)
        assert (await store.promote(later(30), limit=10)).run_at is None

    async def test_up_2_a_due_job_is_shown_after_a_promote(self, store: Store) -> None:
        """At its run_at exactly, or whenever after it somebody comes to promote."""
        soon_due = await added(store, run_at=later(10))
        later_due = await added(store, run_at=later(20))

        assert (await heads_of(store, now=later(10))).ready == (candidate_of(soon_due),)
        assert len((await heads_of(store, now=later(500))).ready) == 2
        assert later_due.run_at == later(20)

    async def test_up_2_promote_says_how_many_were_not_visible_before(self, store: Store) -> None:
        """Whoever has looked already knows then whether to look again."""
        for seconds in (10, 20, 30):
            await added(store, run_at=later(seconds))

        async def shown(at: datetime) -> int:
            async with store.turn(["notifications"]) as turn:
                query = HeadsQuery(use_case="notifications", limit=100)
                return len((await turn.heads([query], at))["notifications"].ready)

        for at, due in ((later(5), 0), (later(20), 2), (later(20), 2), (later(40), 3)):
            before = await shown(at)
            assert (await store.promote(at, limit=10)).promoted == due - before
            assert await shown(at) == due

    async def test_up_2_a_limited_promote_says_that_more_is_due(self, store: Store) -> None:
        """Repeated until its answer lies ahead, it has made everything due visible."""
        due = [await added(store, run_at=later(i)) for i in range(1, 11)]
        ahead = await added(store, run_at=later(100))

        next_run_at = None
        for _ in range(len(due)):
            next_run_at = (await store.promote(later(50), limit=3)).run_at
            assert next_run_at is not None
            if next_run_at > later(50):
                break
        assert next_run_at == ahead.run_at
        async with store.turn(["notifications"]) as turn:
            query = HeadsQuery(use_case="notifications", limit=100)
            heads = await turn.heads([query], later(50))
        assert heads["notifications"].ready == tuple(candidate_of(job) for job in due)

    async def test_up_2_a_job_that_comes_back_for_later_waits_again(self, store: Store) -> None:
        """After a failure with backoff, a snooze: not before its new run_at."""
        failed = await in_phase(store, Phase.CLAIMED)
        failed = await happened(store, failed, Failed("x", retry_after=timedelta(seconds=30)))
        snoozed = await in_phase(store, Phase.CLAIMED)
        snoozed = await happened(store, snoozed, Snoozed(later(40)))

        assert (await heads_of(store, now=later(29))).ready == ()
        assert (await store.promote(later(29), limit=10)).run_at == later(30)
        assert (await heads_of(store, now=later(30))).ready == (candidate_of(failed),)
        assert len((await heads_of(store, now=later(40))).ready) == 2
        assert snoozed.run_at == later(40)

    async def test_up_2_a_job_that_ended_while_waiting_is_not_upcoming(self, store: Store) -> None:
        """Nobody needs to wake for what was cancelled; a retry makes it due at once."""
        job = await added(store, run_at=later(10))
        job = await happened(store, job, Cancelled())
        assert (await store.promote(NOW, limit=10)).run_at is None
        assert (await heads_of(store, now=later(10))).ready == ()

        job = await happened(store, job, Retried(), now=later(5))
        assert (await heads_of(store, now=later(5))).ready == (candidate_of(job),)

    async def test_up_2_a_promoted_job_is_the_same_job(self, store: Store) -> None:
        """Becoming due changes nothing that can be read, and no lease expects otherwise."""
        job = await added(store, run_at=later(10))
        await store.promote(later(10), limit=10, sidelined=["notifications"])
        await store.promote(later(5_000), limit=10, sidelined=["notifications"])

        assert await store.get([job.id]) == [job]
        assert replace(job, lease_seq=1).lease_seq == (await leased(store, job)).lease_seq

    async def test_up_2_jobs_may_run_out_of_time_while_they_wait(self, store: Store) -> None:
        """Sidelined step by step: those whose deadline has passed go behind."""
        slack = await added(store, deadline_at=later(1_000))
        tight = await added(store, deadline_at=later(100), priority=1)

        on_time = await heads_of(store, now=later(100), late_policy=LatePolicy.SIDELINE)
        late = await heads_of(store, now=later(101), late_policy=LatePolicy.SIDELINE)

        assert on_time.ready == (candidate_of(tight), candidate_of(slack))
        assert late.ready == (candidate_of(slack), candidate_of(tight))

    async def test_up_2_a_lease_taken_of_a_job_not_promoted_stands(self, store: Store) -> None:
        """Saved by someone who knew the job otherwise: it runs, and is promoted no more."""
        job = await added(store, run_at=later(10))
        running = await happened(store, job, Leased(later(300)))

        assert (await store.promote(later(20), limit=10)).run_at is None
        assert await store.get([job.id]) == [running]


class UpkeepContract(PurgingContract, PromotionContract, HoldingContract):
    """Everything `Upkeep` promises, UP-1 to UP-5; fixtures as for `StoreContract`."""
