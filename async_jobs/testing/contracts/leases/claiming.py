"""Leases, LS-7: they are consumed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_jobs.domain.job import HandOff, Job, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    CancelRequested,
    Claimed,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    advance,
)
from async_jobs.ports.store import Store
from async_jobs.testing.builders import a_handoff, later
from async_jobs.testing.contracts.scenes import CRASH, UNTIL, happened, in_phase, race, the_job
from async_jobs.testing.contracts.store_fixtures import StoreFixtures

CLAIMED = Claimed("worker-2", later(300))


def handoff_of(job: Job) -> HandOff:
    """Return the message that tells of a job's lease."""
    return HandOff(job.id, job.lease_seq, job.tenant_id)


class ClaimingContract(StoreFixtures):
    """LS-7: a lease is consumed once, by whoever comes first."""

    @pytest.mark.parametrize("bare", [False, True], ids=["numbered", "bare"])
    async def test_ls_7_a_claim_gives_exactly_what_advance_makes(
        self, store: Store, bare: bool
    ) -> None:
        """All fields of it, whatever happened to the job before."""
        job = await in_phase(store, Phase.PENDING, max_attempts=3)
        job = await happened(
            store,
            job,
            *CRASH,
            Leased(UNTIL),
            HandOffFailed("throttled"),
            Leased(UNTIL),
            Claimed("worker-1", UNTIL),
            Failed("no route", retry_after=timedelta(0)),
            Leased(UNTIL),
        )
        handoff = handoff_of(job)

        claimed = await store.claim(
            [handoff._replace(lease_seq=None) if bare else handoff],
            CLAIMED,
            now=later(1),
        )

        expected = advance(job, CLAIMED, now=later(1))
        assert (expected.attempts, expected.crashes, claimed) == (2, 1, [expected])
        assert await the_job(store, job.id) == expected

    @pytest.mark.parametrize("bare", [False, True], ids=["numbered", "bare"])
    @pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.HANDED_OFF}))
    async def test_ls_7_what_is_not_handed_off_is_left_alone(
        self, store: Store, phase: Phase, bare: bool
    ) -> None:
        """Whoever holds it, or ended it."""
        job = await in_phase(store, phase)
        handoff = handoff_of(job)

        claimed = await store.claim(
            [handoff._replace(lease_seq=None) if bare else handoff], CLAIMED, now=later(1)
        )

        assert claimed == []
        assert await the_job(store, job.id) == job

    async def test_ls_7_another_lease_is_left_alone(self, store: Store) -> None:
        """A former one, and one that was never given."""
        job = await happened(
            store,
            await in_phase(store, Phase.HANDED_OFF),
            HandOffFailed("throttled"),
            Leased(UNTIL),
        )

        for seq in (job.lease_seq - 1, job.lease_seq + 1, 0):
            stale = handoff_of(job)._replace(lease_seq=seq)
            assert await store.claim([stale], CLAIMED, now=later(1)) == []
        assert await the_job(store, job.id) == job

    async def test_ls_7_a_lease_ends_at_its_end(self, store: Store) -> None:
        """At that very instant it is over, though nobody reaped it."""
        job = await in_phase(store, Phase.HANDED_OFF)
        end = job.lease_expires_at
        assert end is not None

        assert await store.claim([handoff_of(job)], CLAIMED, now=end) == []
        assert await the_job(store, job.id) == job
        assert len(await store.claim([handoff_of(job)], CLAIMED, now=later(59.999))) == 1

    @pytest.mark.parametrize(
        "events", [(Cancelled(),), (HandOffFailed("throttled"),)], ids=["cancelled", "taken back"]
    )
    async def test_ls_7_a_lease_that_ended_is_left_alone(
        self, store: Store, events: tuple[JobEvent, ...]
    ) -> None:
        """The hand-off is still on its way."""
        job = await in_phase(store, Phase.HANDED_OFF)
        after = await happened(store, job, *events)

        assert await store.claim([handoff_of(job)], CLAIMED, now=later(1)) == []
        assert await the_job(store, job.id) == after

    async def test_ls_7_losers_do_not_hold_up_the_others(self, store: Store) -> None:
        """Gone, claimed and current leases in one batch."""
        jobs = [await in_phase(store, Phase.HANDED_OFF) for _ in range(3)]
        taken = await in_phase(store, Phase.CLAIMED)
        asked = await happened(
            store, await in_phase(store, Phase.CLAIMED), CancelRequested(), now=later(1)
        )
        batch = [handoff_of(each) for each in (jobs[2], taken, jobs[0], asked, jobs[1])]

        claimed = await store.claim([*batch, a_handoff()], CLAIMED, now=later(1))

        assert {job.id for job in claimed} == {job.id for job in jobs}
        assert await store.claim([], CLAIMED, now=later(1)) == []

    async def test_ls_7_one_of_many_claims_wins(self, store: Store, other_store: Store) -> None:
        """Each worker received the same hand-offs, in another order."""
        jobs = [await in_phase(store, Phase.HANDED_OFF) for _ in range(4)]
        batch = [handoff_of(job) for job in jobs]

        answers = await race(
            *(
                (store, other_store)[n % 2].claim(
                    batch[n % 4 :] + batch[: n % 4], Claimed(f"worker-{n}", UNTIL), now=later(1)
                )
                for n in range(8)
            )
        )

        won = [job for answer in answers for job in answer]
        assert sorted(job.id for job in won) == sorted(job.id for job in jobs)
        for job in won:
            assert await the_job(store, job.id) == job
            assert job.attempts == 1
