"""Leases, LS-4 and LS-6: finding those that are over."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Claimed,
    Leased,
    Renewed,
    Succeeded,
    change,
)
from async_jobs.domain.scheduling import grant
from async_jobs.ports.store import Duplicate, Store
from async_jobs.testing.builders import UnreadableRows, a_job, later
from async_jobs.testing.clocks import let_others_run
from async_jobs.testing.contracts.scenes import (
    CRASH,
    PATHS,
    UNTIL,
    Corrupt,
    Mend,
    added,
    happened,
    heads_of,
    in_phase,
    race,
    the_job,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures


class ExpiringContract(StoreFixtures):
    """LS-4: finding the leases that are over."""

    async def test_ls_4_expired_gives_the_running_jobs_whose_lease_is_over(
        self, store: Store
    ) -> None:
        """Handed off, executing or being cancelled; nothing that does not run."""
        jobs = {phase: await in_phase(store, phase) for phase in PATHS}
        running = [job for job in jobs.values() if job.status is JobStatus.RUNNING]

        assert await store.expired(later(59.999_999), limit=10) == []
        over = await store.expired(UNTIL, limit=10)
        assert sorted(over, key=lambda job: job.id) == running

    async def test_ls_4_expired_gives_the_longest_over_first(self, store: Store) -> None:
        """Up to its limit, so that nobody waits for ever."""
        ends = [30, 10, 50, 20, 40]
        jobs = {end: await happened(store, await added(store), Leased(later(end))) for end in ends}

        assert await store.expired(later(40), limit=10) == [jobs[e] for e in (10, 20, 30, 40)]
        assert await store.expired(later(100), limit=3) == [jobs[e] for e in (10, 20, 30)]

    async def test_ls_4_a_renewed_lease_is_not_over(self, store: Store) -> None:
        """It counts from its new end."""
        job = await in_phase(store, Phase.CLAIMED)
        renewed = await happened(store, job, Renewed(later(120)), now=later(30))

        assert await store.expired(later(119), limit=10) == []
        assert await store.expired(later(120), limit=10) == [renewed]

    async def test_ls_4_expired_sees_all_tenants_and_use_cases(self, store: Store) -> None:
        """The reaper is everybody's."""
        for i in range(4):
            await in_phase(
                store, Phase.CLAIMED, tenant_id=f"tenant-{i}", use_case=f"use case {i % 2}"
            )

        assert len(await store.expired(UNTIL, limit=10)) == 4


RUNNING_PHASES = (Phase.HANDED_OFF, Phase.CLAIMED, Phase.CANCELLING)
AGAIN = later(360)
"""When the rows of these stories are due again, once they were set aside."""


async def running(store: Store) -> int:
    """Count the slots taken."""
    async with store.turn([]) as turn:
        return sum(count.claimed + count.unclaimed for count in await turn.running())


class AsideContract(StoreFixtures):
    """LS-6: rows that cannot be read give their slots back."""

    @pytest.mark.parametrize("phase", RUNNING_PHASES)
    async def test_ls_6_it_is_given_back_once_its_lease_is_over(
        self,
        store: Store,
        corrupt: Corrupt,
        mend: Mend,
        unreadable: UnreadableRows,
        phase: Phase,
    ) -> None:
        """Not a moment before; when it can be read again, it is as if it had been reaped."""
        job = await happened(store, await added(store, max_attempts=2), *CRASH, *PATHS[phase])
        await corrupt(job.id)

        assert await store.set_aside(later(59.999_999), until=AGAIN, limit=10) == 0
        assert await running(store) == 1
        assert await store.set_aside(UNTIL, until=AGAIN, limit=10) == 1
        assert await running(store) == 0
        assert set(unreadable.ids) == {job.id}

        await mend(job.id)
        assert await the_job(store, job.id) == replace(
            job,
            status=JobStatus.PENDING,
            run_at=AGAIN,
            deadline_at=AGAIN + job.delay_tolerance,
            attempts=0,
            crashes=1 if phase is Phase.HANDED_OFF else 2,
            dispatches=1 if phase is Phase.HANDED_OFF else 0,
            lease_expires_at=None,
            started_at=None,
            worker_id=None,
            updated_at=UNTIL,
        )

    async def test_ls_6_it_is_leased_again_when_it_is_due(
        self, store: Store, corrupt: Corrupt
    ) -> None:
        """Under the next number, and it can be set aside again."""
        job = await in_phase(store, Phase.CLAIMED)
        await corrupt(job.id)
        assert await store.set_aside(UNTIL, until=AGAIN, limit=10) == 1

        assert (await heads_of(store, now=later(359.999_999))).ready == ()
        (candidate,) = (await heads_of(store, now=AGAIN)).ready
        assert (candidate.id, candidate.lease_seq) == (job.id, job.lease_seq)
        async with store.turn([job.use_case]) as turn:
            await turn.lease([grant(candidate, until=later(420), now=AGAIN)])

        assert await running(store) == 1
        assert await store.set_aside(later(420), until=later(720), limit=10) == 1
        assert await running(store) == 0

    async def test_ls_6_its_first_deadline_stays_known(
        self, store: Store, corrupt: Corrupt, mend: Mend
    ) -> None:
        """That it was claimed was no start, for nobody could read it."""
        job = await in_phase(store, Phase.CLAIMED)
        await corrupt(job.id)

        assert await store.set_aside(UNTIL, until=AGAIN, limit=10) == 1

        await mend(job.id)
        mended = await the_job(store, job.id)
        assert mended.first_deadline == job.deadline_at != mended.deadline_at
        assert mended.first_started_at is None

    async def test_ls_6_the_last_crash_is_not_counted(
        self, store: Store, corrupt: Corrupt, mend: Mend
    ) -> None:
        """It ends no job; the attempt is refunded as ever."""
        crashes = CRASH * (CRASHES_MAX - 1)
        job = await added(store, max_attempts=1)
        job = await happened(store, job, *crashes, *PATHS[Phase.CLAIMED])
        await corrupt(job.id)

        assert await store.set_aside(UNTIL, until=AGAIN, limit=10) == 1

        await mend(job.id)
        mended = await the_job(store, job.id)
        assert (mended.attempts, mended.crashes) == (0, CRASHES_MAX - 1)

    @pytest.mark.parametrize("phase", list(PATHS))
    async def test_ls_6_what_can_be_read_or_does_not_run_is_left_alone(
        self, store: Store, corrupt: Corrupt, mend: Mend, phase: Phase
    ) -> None:
        """A job whose lease is over waits for the reaper; a row without a lease holds no slot."""
        good = await in_phase(store, phase)
        idle = [await in_phase(store, each) for each in PATHS if each not in RUNNING_PHASES]
        for job in idle:
            await corrupt(job.id)

        assert await store.set_aside(later(10**6), until=later(10**7), limit=10) == 0

        for job in idle:
            await mend(job.id)
        left = await store.get([job.id for job in (good, *idle)])
        assert sorted(left, key=lambda job: job.id) == [good, *idle]

    @pytest.mark.parametrize("limit", [1, 2, 3, 5])
    async def test_ls_6_it_takes_the_longest_over_first_up_to_its_limit(
        self, store: Store, corrupt: Corrupt, limit: int
    ) -> None:
        """However many that can be read stand before them."""
        ends = [50, 10, 20, 40, 30]
        bad = {end: await happened(store, await added(store), Leased(later(end))) for end in ends}
        for end in range(1, 8):
            await happened(store, await added(store), Leased(later(end)))
        for job in bad.values():
            await corrupt(job.id)

        for done in range(0, len(ends), limit):
            count = min(limit, len(ends) - done)
            assert await store.set_aside(UNTIL, until=AGAIN, limit=limit) == count
            shown = {candidate.id for candidate in (await heads_of(store, now=AGAIN)).ready}
            assert shown == {bad[end].id for end in sorted(ends)[: done + count]}
        assert await store.set_aside(UNTIL, until=AGAIN, limit=limit) == 0

    async def test_ls_6_its_dedupe_key_stays_taken(self, store: Store, corrupt: Corrupt) -> None:
        """It lives."""
        job = await in_phase(store, Phase.CLAIMED, dedupe_key="daily")
        await corrupt(job.id)
        await store.set_aside(UNTIL, until=AGAIN, limit=10)

        assert await store.add([a_job(dedupe_key="daily")], {}) == [Duplicate(job.id)]

    async def test_ls_6_writes_about_the_old_lease_lose(
        self, store: Store, corrupt: Corrupt, mend: Mend
    ) -> None:
        """A claim, an outcome or a renewal that comes late changes nothing."""
        handed_off = await in_phase(store, Phase.HANDED_OFF)
        claimed = await in_phase(store, Phase.CLAIMED)
        late = [
            change(handed_off, Claimed("worker-2", later(120)), now=later(59)),
            change(claimed, Succeeded(), now=later(59)),
            change(claimed, Renewed(later(120)), now=later(59)),
        ]
        for job in (handed_off, claimed):
            await corrupt(job.id)
        assert await store.set_aside(UNTIL, until=AGAIN, limit=10) == 2

        assert [(await store.save([each])).ids for each in late] == [frozenset()] * 3
        for job in (handed_off, claimed):
            await mend(job.id)
            assert (await the_job(store, job.id)).status is JobStatus.PENDING

    async def test_ls_6_a_racing_renewal_is_applied_or_too_late(
        self, store: Store, other_store: Store, corrupt: Corrupt
    ) -> None:
        """Never both: whoever was told that the lease goes on still has it."""
        for round_ in range(8):
            use_case = f"use case {round_}"
            jobs = [await in_phase(store, Phase.CLAIMED, use_case=use_case) for _ in range(24)]
            for job in jobs:
                await corrupt(job.id)
            renewals = [change(job, Renewed(later(10**6)), now=later(59)) for job in jobs]
            saves = [asyncio.ensure_future(other_store.save([each])) for each in renewals]
            await let_others_run()
            given_back = await store.set_aside(UNTIL, until=AGAIN, limit=100)
            renewed = {job_id for answer in await race(*saves) for job_id in answer.ids}

            assert given_back + len(renewed) == len(jobs)
            async with store.turn([use_case]) as turn:
                counts = [each for each in await turn.running() if each.use_case == use_case]
            assert sum(each.claimed for each in counts) == len(renewed)
