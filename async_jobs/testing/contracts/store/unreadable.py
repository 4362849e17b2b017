"""JobStore, JS-8: rows that are no jobs any more."""

from __future__ import annotations

from uuid import UUID

import pytest

from async_jobs.domain.job import Job, JobFilter, JobStatus, Phase, UnreadableJob
from async_jobs.domain.lifecycle import Leased
from async_jobs.domain.scheduling import grant
from async_jobs.ports.store import Store
from async_jobs.testing.builders import UnreadableRows, candidate_of, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import (
    PATHS,
    UNTIL,
    Corrupt,
    added,
    happened,
    heads_of,
    in_phase,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures


class UnreadableContract(StoreFixtures):
    """JS-8: one row that is no job any more."""

    async def test_js_8_get_skips_and_reports_it(
        self, store: Store, corrupt: Corrupt, unreadable: UnreadableRows
    ) -> None:
        """The others come back; the problem is named without the content."""
        good, bad = await added(store), await added(store, payload={"password": "hunter2"})
        await corrupt(bad.id)

        told: list[UnreadableJob] = []
        assert await store.get([bad.id, good.id], unreadable=told.append) == [good]
        assert [(row.id, row.tenant_id, row.status) for row in told] == [
            (bad.id, bad.tenant_id, "pending")
        ]
        assert [row.problem for row in told] == unreadable.problems
        assert unreadable.ids == [bad.id]
        assert unreadable.problems != [""]
        assert "hunter2" not in str(unreadable.problems)

    async def test_js_6_a_foreign_row_that_cannot_be_read_looks_like_a_missing_one(
        self, store: Store, corrupt: Corrupt
    ) -> None:
        """Nothing is told of it to another tenant."""
        bad = await added(store)
        await corrupt(bad.id)
        told: list[UnreadableJob] = []

        assert await store.get([bad.id], tenant_id="other", unreadable=told.append) == []
        assert told == []

    @pytest.mark.parametrize("limit", [1, 2, 3, 10])
    async def test_js_8_pages_go_on_behind_it(
        self, store: Store, corrupt: Corrupt, unreadable: UnreadableRows, limit: int
    ) -> None:
        """Wherever on a page it stands, the walk meets every job, tells of it, and ends."""
        jobs = [await added(store) for _ in range(7)]
        for bad in (jobs[0], jobs[3], jobs[4], jobs[6]):
            await corrupt(bad.id)

        walked: list[Job] = []
        told: list[UUID] = []
        before = None
        for _ in range(9):
            page = await store.find(JobFilter(), limit=limit, before=before)
            walked += page.jobs
            told += [row.id for row in page.unreadable]
            before = page.next_cursor
            if before is None:
                break
        assert before is None
        assert walked == [jobs[5], jobs[2], jobs[1]]
        assert told == [jobs[i].id for i in (6, 4, 3, 0)]
        assert set(unreadable.ids) == {jobs[i].id for i in (0, 3, 4, 6)}

    @pytest.mark.parametrize(
        ("criteria", "is_told"),
        [
            (JobFilter(), True),
            (JobFilter(tenant_id="acme"), True),
            (JobFilter(use_case="notifications", status=JobStatus.PENDING), True),
            (JobFilter(tenant_id="acme", status=JobStatus.PENDING), True),
            (JobFilter(tenant_id="globex"), False),
            (JobFilter(use_case="reports"), False),
            (JobFilter(status=JobStatus.DEAD), False),
        ],
    )
    async def test_js_8_a_page_tells_what_can_be_told_of_it(
        self, store: Store, corrupt: Corrupt, criteria: JobFilter, is_told: bool
    ) -> None:
        """Whose it is, where it stands and why it is no job, to whoever would see the job."""
        bad = await added(store, payload={"password": "hunter2"})
        await corrupt(bad.id)

        jobs, cursor, told = await store.find(criteria, limit=10)

        assert (jobs, cursor) == ((), None)
        assert [row[:4] for row in told] == (
            [(bad.id, "acme", "notifications", "pending")] if is_told else []
        )
        assert all(row.problem and "hunter2" not in row.problem for row in told)

    async def test_js_8_expired_skips_and_reports_it(
        self, store: Store, corrupt: Corrupt, unreadable: UnreadableRows
    ) -> None:
        """The reaper mends the others."""
        jobs = [await in_phase(store, Phase.CLAIMED) for _ in range(3)]
        await corrupt(jobs[1].id)

        expired = await store.expired(UNTIL, limit=10)

        assert sorted(job.id for job in expired) == [jobs[0].id, jobs[2].id]
        assert unreadable.ids == [jobs[1].id]

    async def test_js_8_expired_looks_behind_it(self, store: Store, corrupt: Corrupt) -> None:
        """A row that stays unreadable does not use up the limit for ever."""
        first = await added(store)
        first = await happened(store, first, Leased(later(10)))
        second = await in_phase(store, Phase.CLAIMED)
        await corrupt(first.id)

        assert await store.expired(UNTIL, limit=1) == [second]

    async def test_js_8_turns_show_and_lease_it_like_any_other(
        self, store: Store, corrupt: Corrupt
    ) -> None:
        """They read no whole jobs, and cannot tell."""
        jobs = [await added(store) for _ in range(3)]
        await corrupt(jobs[1].id)
        assert (await heads_of(store)).ready == tuple(candidate_of(job) for job in jobs)

        async with store.turn(["notifications"]) as turn:
            grants = [grant(candidate_of(job), until=UNTIL, now=NOW) for job in jobs]
            assert await turn.lease(grants) == {job.id for job in jobs}

        assert (await heads_of(store)).ready == ()
        async with store.turn(["notifications"]) as turn:
            counts = await turn.running()
        assert [(count.claimed, count.unclaimed) for count in counts] == [(0, 3)]

    async def test_js_8_it_counts_as_running_all_the_same(
        self, store: Store, corrupt: Corrupt
    ) -> None:
        """Else as many others as there are such rows would run beyond the capacity."""
        await corrupt((await in_phase(store, Phase.CLAIMED)).id)
        await corrupt((await in_phase(store, Phase.HANDED_OFF)).id)

        async with store.turn(["notifications"]) as turn:
            counts = await turn.running()

        assert [(count.claimed, count.unclaimed) for count in counts] == [(1, 1)]

    async def test_js_8_writes_go_on_beside_it(self, store: Store, corrupt: Corrupt) -> None:
        """Adding, saving, promoting, leasing and purging others do not mind it."""
        bad = [await in_phase(store, phase) for phase in (Phase.PENDING, Phase.CLAIMED, Phase.DEAD)]
        for job in bad:
            await corrupt(job.id)
        dead, good = await in_phase(store, Phase.DEAD), await added(store)

        await store.promote(later(1), limit=10)
        async with store.turn(["notifications"]) as turn:
            await turn.running()
        await happened(store, good, *PATHS[Phase.CLAIMED])
        await store.purge("notifications", before=later(1), limit=10)

        assert await store.get([dead.id]) == []
        assert len(await store.get([good.id])) == 1
