"""JobStore, JS-1 and JS-5 to JS-7: what comes out."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest

from async_jobs.domain.job import Job, JobFilter, JobPage, JobStatus, Payload, Phase
from async_jobs.domain.lifecycle import Claimed, Failed, Leased, Succeeded, change
from async_jobs.ports.store import Store
from async_jobs.testing.builders import a_job, an_id, later
from async_jobs.testing.contracts.scenes import (
    PATHS,
    UNTIL,
    added,
    all_jobs,
    happened,
    in_phase,
    stored,
    the_job,
)
from async_jobs.testing.contracts.specimens import JOBS, PAYLOADS
from async_jobs.testing.contracts.store_fixtures import StoreFixtures


class RoundTripContract(StoreFixtures):
    """JS-1: what is read equals what was written."""

    @pytest.mark.parametrize("name", list(PAYLOADS))
    async def test_js_1_payloads_come_back_as_they_were(self, store: Store, name: str) -> None:
        """Every JSON object within the bounds survives."""
        job = await added(store, payload=PAYLOADS[name])

        assert await the_job(store, job.id) == job

    @pytest.mark.parametrize("name", list(JOBS))
    async def test_js_1_jobs_come_back_as_they_were(self, store: Store, name: str) -> None:
        """Every field within its bounds survives."""
        job = await added(store, **JOBS[name])

        assert await the_job(store, job.id) == job

    @pytest.mark.parametrize("name", list(JOBS))
    async def test_js_1_jobs_of_a_call_come_back_as_they_were(
        self, store: Store, name: str
    ) -> None:
        """Whatever they have in common, and whatever one of them alone has."""
        shared = {**JOBS[name], "dedupe_key": None}
        for fields in ([JOBS[name], {}], [{}, shared], [shared, shared]):
            jobs = [a_job(**each) for each in fields]
            await stored(store, *jobs)

            got = await store.get([job.id for job in jobs])
            assert sorted(got, key=lambda job: job.id) == jobs

    @pytest.mark.parametrize("phase", list(PATHS))
    async def test_js_1_every_way_of_reading_gives_the_same_job(
        self, store: Store, phase: Phase
    ) -> None:
        """`get`, `find` and, for a running job, `expired` agree, instants in UTC."""
        job = await in_phase(store, phase)

        got, (found,) = await the_job(store, job.id), await all_jobs(store)
        expired = await store.expired(UNTIL, limit=10)
        assert got == found == job
        assert expired == ([job] if job.status is JobStatus.RUNNING else [])
        assert {got.run_at.tzinfo, got.deadline_at.tzinfo, got.updated_at.tzinfo} == {UTC}

    @pytest.mark.parametrize("result", [None, False, 0, "", [], {}, 1e23, {"a": [1.5, None]}])
    async def test_js_1_results_come_back_as_they_were(self, store: Store, result: Any) -> None:
        """Whatever JSON a handler returned, null and other empty things told apart."""
        job = await happened(store, await in_phase(store, Phase.CLAIMED), Succeeded(result))

        read = await the_job(store, job.id)
        assert read == job
        assert type(read.result) is type(result)

    async def test_js_1_the_history_of_errors_comes_back(self, store: Store) -> None:
        """Attempts, instants and texts, in order."""
        job = await added(store, max_attempts=30)
        for attempt in range(1, 25):
            now = later(attempt * 10_000 + 0.000_001 * attempt)
            until = now + timedelta(seconds=60)
            job = await happened(store, job, Leased(until), Claimed("w", until), now=now)
            job = await happened(store, job, Failed(f"№ {attempt}: \x01 💥 \\u0000"), now=now)

        assert [error.attempt for error in job.errors] == list(range(5, 25))
        assert await the_job(store, job.id) == job

    async def test_js_1_a_thousand_jobs_go_in_and_out_at_once(self, store: Store) -> None:
        """The largest batch there is, told apart by every field that can differ."""
        jobs = [a_job(payload={"i": i}, priority=i % 7, run_at=later(i)) for i in range(1_000)]

        await stored(store, *jobs)

        got = await store.get([job.id for job in jobs])
        assert sorted(got, key=lambda job: job.id) == jobs
        assert await all_jobs(store) == jobs[::-1]

    async def test_js_1_nothing_in_nothing_out(self, store: Store) -> None:
        """Empty batches are legal, and unknown or repeated ids yield no extra jobs."""
        job = await added(store)

        assert await store.add([], {}) == []
        assert await store.get([]) == []
        assert await store.get([an_id(), job.id, job.id]) == [job]


class PagesContract(StoreFixtures):
    """JS-5: pages."""

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 100])
    async def test_js_5_pages_hold_every_job_once_newest_first(
        self, store: Store, limit: int
    ) -> None:
        """Whatever the size of a page, the walk is the same, and ends."""
        jobs = [await added(store) for _ in range(7)]

        walked: list[Job] = []
        before = None
        for _ in range(9):
            page = await store.find(JobFilter(), limit=limit, before=before)
            assert len(page.jobs) <= limit
            walked += page.jobs
            before = page.next_cursor
            if before is None:
                break
        assert before is None
        assert walked == jobs[::-1]

    @pytest.mark.parametrize("limit", [1, 2, 5])
    async def test_js_5_pages_of_a_tenant_are_in_one_order(self, store: Store, limit: int) -> None:
        """Whatever their status, and whoever else's jobs there are."""
        for phase in (Phase.PENDING, Phase.CLAIMED, Phase.DEAD, Phase.HANDED_OFF, Phase.PENDING):
            for tenant_id in ("one", "two"):
                await in_phase(store, phase, tenant_id=tenant_id)
        jobs = [job for job in await all_jobs(store) if job.tenant_id == "one"]

        walked: list[Job] = []
        before = None
        for _ in range(6):
            page = await store.find(JobFilter(tenant_id="one"), limit=limit, before=before)
            walked += page.jobs
            before = page.next_cursor
            if before is None:
                break
        assert walked == jobs

    async def test_js_5_no_jobs_make_one_empty_page(self, store: Store) -> None:
        """An empty store has one page, with nothing on it and nothing after it."""
        assert await store.find(JobFilter(), limit=10) == JobPage((), None)

    async def test_js_5_filters_hold_together(self, store: Store) -> None:
        """Every combination of tenant, use case and status lists exactly what matches."""
        for tenant in ("one", "two"):
            for use_case in ("notifications", "reports"):
                for phase in (Phase.PENDING, Phase.CLAIMED, Phase.DEAD):
                    await in_phase(store, phase, tenant_id=tenant, use_case=use_case)
        jobs = await all_jobs(store)
        assert len(jobs) == 12

        for tenant_id in (None, "one", "nobody"):
            for use_case_or_any in (None, "reports", "nothing"):
                for status in (None, JobStatus.RUNNING, JobStatus.SUCCEEDED):
                    wanted = JobFilter(tenant_id=tenant_id, use_case=use_case_or_any, status=status)
                    assert await all_jobs(store, wanted) == [
                        job for job in jobs if matches(job, wanted)
                    ]

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_js_5_a_walk_bears_changes_on_the_way(self, store: Store, limit: int) -> None:
        """Jobs come, go and change between pages; those that stayed are met exactly once."""
        stayed = [await added(store) for _ in range(8)]
        passing = [await in_phase(store, Phase.DEAD, use_case="reports") for _ in range(3)]
        stayed += [await added(store) for _ in range(4)]

        met: list[UUID] = []
        before = None
        for step in range(40):
            page = await store.find(JobFilter(), limit=limit, before=before)
            met += [job.id for job in page.jobs]
            before = page.next_cursor
            if before is None:
                break
            await added(store)
            await store.purge("reports", before=later(1), limit=1)
            if step < 8:
                await happened(store, stayed[step], Leased(UNTIL))
        assert before is None
        assert len(met) == len(set(met))
        assert [job_id for job_id in met if job_id not in {p.id for p in passing}] == [
            job.id for job in stayed[::-1]
        ]

    async def test_js_5_a_cursor_outlives_its_job(self, store: Store) -> None:
        """The job at a page's border may be purged before the next page is asked for."""
        older = await added(store)
        border = await in_phase(store, Phase.SUCCEEDED)
        newer = await added(store)

        first = await store.find(JobFilter(), limit=2)
        await store.purge(border.use_case, before=later(1), limit=1)
        second = await store.find(JobFilter(), limit=2, before=first.next_cursor)

        assert first.jobs == (newer, border)
        assert second.jobs == (older,)


class TenantsContract(StoreFixtures):
    """JS-6: tenants do not see each other."""

    async def test_js_6_a_foreign_id_looks_like_a_missing_one(self, store: Store) -> None:
        """Asked for as another tenant, a job does not exist."""
        job = await added(store, tenant_id="one")

        assert await store.get([job.id], tenant_id="two") == []
        assert await store.get([an_id()], tenant_id="two") == []
        assert await store.get([job.id], tenant_id="one") == [job]

    async def test_js_6_a_tenant_gets_its_own_among_many(self, store: Store) -> None:
        """A mixed list of ids yields the tenant's own jobs, whatever state they are in."""
        mine = [await in_phase(store, phase, tenant_id="one") for phase in PATHS]
        theirs = [await in_phase(store, phase, tenant_id="two") for phase in PATHS]

        got = await store.get([job.id for job in (*mine, *theirs)], tenant_id="one")

        assert sorted(got, key=lambda job: job.id) == mine

    @pytest.mark.parametrize("tenant_id", ["", "on", "one ", "ONE", "%", "one\\", "o_e", "ône"])
    async def test_js_6_tenants_are_told_apart_to_the_letter(
        self, store: Store, tenant_id: str
    ) -> None:
        """No prefix, pattern, case or accent makes one tenant another."""
        job = await added(store, tenant_id="one")

        assert await store.get([job.id], tenant_id=tenant_id) == []
        assert await all_jobs(store, JobFilter(tenant_id=tenant_id)) == []

    async def test_js_6_pages_of_a_tenant_hold_no_other(self, store: Store) -> None:
        """Even with another tenant's job as the cursor."""
        jobs = [await added(store, tenant_id=("one", "two")[i % 2]) for i in range(6)]

        page = await store.find(JobFilter(tenant_id="one"), limit=10, before=jobs[5].id)

        assert page.jobs == (jobs[4], jobs[2], jobs[0])


class IsolationContract(StoreFixtures):
    """JS-7: the store shares no object with its callers."""

    async def test_js_7_a_job_handed_over_may_be_changed(self, store: Store) -> None:
        """The caller goes on using its payload and headers."""
        payload: Payload = {"list": [1], "object": {"deep": [1]}}
        headers = {"trace": "1"}
        job = await added(store, payload=payload, headers=headers)

        scribble(job)

        read = await the_job(store, job.id)
        assert read.payload == {"list": [1], "object": {"deep": [1]}}
        assert read.headers == {"trace": "1"}

    async def test_js_7_a_job_received_may_be_changed(self, store: Store) -> None:
        """Whichever way it was read."""
        job = await in_phase(store, Phase.CLAIMED, payload={"list": [1], "object": {"deep": [1]}})
        kept = await the_job(store, job.id)

        scribble(await the_job(store, job.id))
        scribble((await all_jobs(store))[0])
        scribble((await store.expired(UNTIL, limit=1))[0])

        assert await the_job(store, job.id) == kept
        assert (await store.expired(UNTIL, limit=1))[0] == kept

    async def test_js_7_a_saved_job_may_be_changed(self, store: Store) -> None:
        """Its payload and result belong to the caller again once `save` has returned."""
        job = await in_phase(store, Phase.CLAIMED, payload={"list": [1], "object": {"deep": [1]}})
        result: Any = {"list": [1]}
        step = change(job, Succeeded(result), now=later(1))
        await store.save([step])
        kept = await the_job(store, job.id)

        scribble(step.job)
        result["list"].append(2)

        assert await the_job(store, job.id) == kept
        assert kept.result == {"list": [1]}

    async def test_js_7_batches_and_limits_belong_to_the_caller(self, store: Store) -> None:
        """The lists and mappings passed in are neither kept nor changed."""
        jobs, limits = [a_job(), a_job()], {"acme": 2}
        await store.add(jobs, limits)
        jobs.clear()
        limits["acme"] = 100

        assert len(await all_jobs(store)) == 2
        assert limits == {"acme": 100}


def scribble(job: Job) -> None:
    """Change whatever of a job can be changed in place."""
    job.payload["scribbled"] = True
    for value in job.payload.values():
        if isinstance(value, list):
            value.append("scribbled")
        elif isinstance(value, dict):
            value["deep"] = "scribbled"
    if isinstance(job.headers, dict):
        job.headers["scribbled"] = "yes"


def matches(job: Job, wanted: JobFilter) -> bool:
    """Tell whether a filter lets a job through."""
    return (
        wanted.tenant_id in (None, job.tenant_id)
        and wanted.use_case in (None, job.use_case)
        and wanted.status in (None, job.status)
    )
