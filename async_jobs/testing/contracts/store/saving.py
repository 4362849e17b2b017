"""JobStore, JS-2 and JS-9: compare and set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.job import JobFilter, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Change,
    Claimed,
    Failed,
    Fence,
    JobEvent,
    Leased,
    LeaseExpired,
    Released,
    Renewed,
    Retried,
    Succeeded,
    change,
)
from async_jobs.ports.store import Applied, Store
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.contracts.events import EVENTS, every_event, instant_of
from async_jobs.testing.contracts.scenes import (
    CRASH,
    PATHS,
    UNTIL,
    added,
    all_jobs,
    happened,
    in_phase,
    race,
    stored,
    the_job,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures


async def about_to(store: Store, phase: Phase, event: JobEvent) -> Change:
    """Return the change that makes `event` happen to a stored job in `phase`."""
    job = await in_phase(store, phase, deadline_at=later(30))
    return change(job, event, now=instant_of(event))


class SavingContract(StoreFixtures):
    """JS-2 and JS-9: compare and set."""

    @every_event
    async def test_js_2_a_save_leaves_exactly_what_it_was_given(
        self, store: Store, phase: Phase, event: JobEvent
    ) -> None:
        """Every event the lifecycle knows can be stored, all fields of it."""
        step = await about_to(store, phase, event)

        assert await store.save([step]) == Applied(frozenset({step.job.id}))
        assert await the_job(store, step.job.id) == step.job

    async def test_js_2_crashes_are_counted_until_a_retry(self, store: Store) -> None:
        """Each in the row, up to the one that makes the job dead."""
        job = await added(store)
        for crashes in range(1, CRASHES_MAX + 1):
            job = await happened(store, job, *CRASH)
            assert (await the_job(store, job.id)).crashes == crashes

        assert job.status is JobStatus.DEAD
        await happened(store, job, Retried(), now=later(1))
        assert (await the_job(store, job.id)).crashes == 0

    async def test_js_2_one_of_many_concurrent_saves_wins(
        self, store: Store, other_store: Store
    ) -> None:
        """Ten workers claim one lease; nine learn that they lost."""
        job = await in_phase(store, Phase.HANDED_OFF)
        steps = [change(job, Claimed(f"worker-{i}", UNTIL), now=later(1)) for i in range(10)]

        winner = await self._winner(store, other_store, steps)

        assert await the_job(store, job.id) == winner.job

    async def test_js_2_one_of_many_outcomes_of_a_lease_stands(
        self, store: Store, other_store: Store
    ) -> None:
        """Outcomes that differ in their content only, at the same instant: still one wins."""
        job = await in_phase(store, Phase.CLAIMED)
        steps = [change(job, Succeeded({"by": i}), now=later(1)) for i in range(5)]
        steps += [change(job, Failed(f"error {i}"), now=later(1)) for i in range(5)]

        winner = await self._winner(store, other_store, steps)

        assert await the_job(store, job.id) == winner.job

    @pytest.mark.parametrize(
        "phase", [Phase.PENDING, Phase.HANDED_OFF, Phase.CLAIMED, Phase.CANCELLING]
    )
    async def test_js_2_one_of_many_different_events_happens(
        self, store: Store, other_store: Store, phase: Phase
    ) -> None:
        """A worker, an operator and the reaper meet on one job."""
        job = await in_phase(store, phase, deadline_at=later(30))
        steps = [change(job, e, now=instant_of(e)) for p, e in EVENTS if p is phase]
        # What leaves the phase as it is may win beside one of the others, which compare that.
        steps = [step for step in steps if step.job.phase is not phase]

        winner = await self._winner(store, other_store, steps)

        assert await the_job(store, job.id) == winner.job

    async def _winner(self, store: Store, other_store: Store, steps: list[Change]) -> Change:
        saves = [(store, other_store)[i % 2].save([step]) for i, step in enumerate(steps)]
        answers = await race(*saves)
        assert all(answer.conflicting == frozenset() for answer in answers)
        (winner,) = [s for s, answer in zip(steps, answers, strict=True) if answer.ids]
        return winner

    @every_event
    async def test_js_2_a_lease_number_that_moved_on_loses(
        self, store: Store, phase: Phase, event: JobEvent
    ) -> None:
        """Whoever knows an older or a newer lease than the stored one changes nothing."""
        step = await about_to(store, phase, event)
        before = await the_job(store, step.job.id)

        for seq in (step.fence.lease_seq - 1, step.fence.lease_seq + 1):
            stale = replace(step, fence=replace(step.fence, lease_seq=seq))
            assert await store.save([stale]) == Applied(frozenset())
        assert await the_job(store, step.job.id) == before

    @every_event
    async def test_js_2_a_lease_of_another_worker_loses(
        self, store: Store, phase: Phase, event: JobEvent
    ) -> None:
        """A number comes again where a failover has lost the first lease that had it."""
        step = await about_to(store, phase, event)
        before = await the_job(store, step.job.id)

        stale = replace(step, fence=replace(step.fence, worker_id="the worker before"))
        assert await store.save([stale]) == Applied(frozenset())
        assert await the_job(store, step.job.id) == before
        whoever = replace(step, fence=replace(step.fence, worker_id=None))
        assert (await store.save([whoever])).ids == {step.job.id}

    @pytest.mark.parametrize("found", list(PATHS))
    async def test_js_2_another_phase_than_expected_loses(self, store: Store, found: Phase) -> None:
        """With the right lease number but in another phase, the job is not what was read."""
        job = await in_phase(store, found)
        after = replace(job, last_error="seen", updated_at=later(1))

        for expected in sorted(set(Phase) - {found}):
            step = Change(Fence(job.lease_seq, expected), after)
            assert (await store.save([step])).ids == frozenset()
        assert await the_job(store, job.id) == job
        assert (await store.save([Change(Fence(job.lease_seq, found), after)])).ids == {job.id}

    @pytest.mark.parametrize("phase", [Phase.HANDED_OFF, Phase.CLAIMED, Phase.CANCELLING])
    async def test_js_2_a_renewal_beats_the_reaper_that_read_before_it(
        self, store: Store, phase: Phase
    ) -> None:
        """The lease the reaper saw end was extended meanwhile; the job goes on."""
        job = await in_phase(store, phase)
        reaped = change(job, LeaseExpired(), now=later(61))
        renewed = await happened(store, job, Renewed(later(120)), now=later(59))

        assert (await store.save([reaped])).ids == frozenset()
        assert await the_job(store, job.id) == renewed

    async def test_js_2_a_renewal_expects_the_lease_end_it_knows(self, store: Store) -> None:
        """Of two renewals from the same state the second loses; other outcomes do not mind."""
        job = await in_phase(store, Phase.CLAIMED)
        one, two = (change(job, Renewed(later(s)), now=later(1)) for s in (100, 200))

        assert (await store.save([one])).ids == {job.id}
        assert (await store.save([two])).ids == frozenset()
        assert (await store.save([change(job, Succeeded(), now=later(2))])).ids == {job.id}

    async def test_js_2_a_lease_taken_back_and_given_again_is_another(self, store: Store) -> None:
        """A worker that slept through its lease writes in vain, however alike the states are."""
        job = await in_phase(store, Phase.CLAIMED)
        slept = change(job, Succeeded("late"), now=later(1))
        again = await happened(store, job, Released(), *PATHS[Phase.CLAIMED])

        assert (await store.save([slept])).ids == frozenset()
        assert await the_job(store, job.id) == again

    async def test_js_2_a_job_that_is_gone_loses(self, store: Store) -> None:
        """A save never brings a job into being."""
        ghost = a_job()

        assert await store.save([change(ghost, Cancelled(), now=later(1))]) == Applied(frozenset())
        assert await store.get([ghost.id]) == []

    async def test_js_2_losers_in_a_batch_do_not_hold_up_the_others(self, store: Store) -> None:
        """Each change of a batch stands or falls alone."""
        jobs = [await in_phase(store, Phase.HANDED_OFF) for _ in range(6)]
        steps = [change(job, Claimed("worker-1", UNTIL), now=later(1)) for job in jobs]
        for job in jobs[::2]:
            await happened(store, job, Claimed("worker-2", UNTIL))

        applied = await store.save(steps)

        assert applied.ids == {job.id for job in jobs[1::2]}
        assert await the_job(store, jobs[1].id) == steps[1].job

    async def test_js_2_overlapping_batches_share_out_their_jobs(
        self, store: Store, other_store: Store
    ) -> None:
        """Batches over the same jobs in opposite order: no deadlock, one winner per job."""
        jobs = [a_job() for _ in range(50)]
        await stored(store, *jobs)
        batches = [
            [
                change(job, Leased(later(100 + i)), now=later(1))
                for job in jobs[:: 1 if i % 2 else -1]
            ]
            for i in range(8)
        ]

        answers = await race(
            *((store, other_store)[i % 2].save(batch) for i, batch in enumerate(batches))
        )

        won = [job_id for answer in answers for job_id in answer.ids]
        assert sorted(won) == [job.id for job in jobs]
        ends = {i: {later(100 + i)} for i, answer in enumerate(answers) if answer.ids}
        for i, answer in enumerate(answers):
            assert {j.lease_expires_at for j in await store.get(answer.ids)} == ends.get(i, set())

    async def test_js_2_a_thousand_changes_are_one_batch(self, store: Store) -> None:
        """The largest batch there is."""
        jobs = [a_job() for _ in range(1_000)]
        await stored(store, *jobs)

        applied = await store.save([change(job, Cancelled(), now=later(1)) for job in jobs])

        assert applied.ids == {job.id for job in jobs}
        assert await all_jobs(store, JobFilter(status=JobStatus.PENDING)) == []
        assert await store.save([]) == Applied(frozenset())

    @every_event
    async def test_js_9_a_repeated_save_says_applied_again(
        self, store: Store, phase: Phase, event: JobEvent
    ) -> None:
        """The reply was lost, the save is sent once more: it stands, and nothing moves."""
        step = await about_to(store, phase, event)
        await store.save([step])

        assert await store.save([step]) == Applied(frozenset({step.job.id}))
        assert await the_job(store, step.job.id) == step.job

    async def test_js_9_a_repeated_batch_says_applied_again(self, store: Store) -> None:
        """Part of a batch may have been lost to others: the same part, both times."""
        jobs = [await in_phase(store, Phase.HANDED_OFF) for _ in range(4)]
        steps = [change(job, Claimed("worker-1", UNTIL), now=later(1)) for job in jobs]
        await happened(store, jobs[0], Claimed("worker-2", UNTIL))

        first, second = await store.save(steps), await store.save(steps)

        assert first == second
        assert first.ids == {job.id for job in jobs[1:]}

    async def test_js_9_a_repetition_after_others_moved_on_undoes_nothing(
        self, store: Store
    ) -> None:
        """Whatever the late repetition is told, what happened since stays."""
        job = await in_phase(store, Phase.HANDED_OFF)
        claim = change(job, Claimed("worker-1", UNTIL), now=later(1))
        await store.save([claim])
        done = await happened(store, claim.job, Succeeded({"sent": True}), now=later(2))

        await store.save([claim])

        assert await the_job(store, job.id) == done

    async def test_js_9_a_repeated_retry_does_not_conflict_with_itself(self, store: Store) -> None:
        """The key is taken, but by the very job that the repetition is about."""
        job = await in_phase(store, Phase.DEAD, dedupe_key="daily")
        retry = change(job, Retried(), now=later(1))
        await store.save([retry])

        assert await store.save([retry]) == Applied(frozenset({job.id}))
