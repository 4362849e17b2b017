"""The contract of `Search`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import JobQuery, Span
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.outlook import Counted
from async_jobs.ports.search import Search
from async_jobs.ports.store import Store
from async_jobs.testing.builders import an_id, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.catalogs import (
    GROUPS,
    ONE_CONDITION,
    Known,
    expected,
    fails,
    stored_jobs,
)

WITHIN: dict[str, Any] = {
    "use_cases": frozenset({"notifications", "reports"}),
    "created": Span(since=NOW),
}


def allowed(query: JobQuery) -> JobQuery:
    """Return a query that says within what it reads through, if it does so."""
    if not query.reads_through:
        return query
    conditions = {name: getattr(query, name) for name in query.reads_through}
    return JobQuery(**conditions, **WITHIN)


class SearchContract:
    """Everything `Search` promises, SH-1 to SH-4.

    Subclass it as `TestMySearch` and override the fixtures. `search` is over `store`, and lives by
    a clock that stands at `NOW`.
    """

    @pytest.fixture
    async def store(self) -> Store:
        """A store without jobs, which has kept no record so far."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def search(self, store: Store) -> Search:
        """The driving port under test."""
        raise NotImplementedError("override the fixture `search`")

    @pytest.fixture
    async def known(self, store: Store) -> Known:
        """The jobs there are, newest first, and their errors."""
        return await stored_jobs(store)

    async def test_sh_1_every_condition_finds_its_jobs(self, search: Search, known: Known) -> None:
        """All of them, page by page, whatever a page may have."""
        for query in map(allowed, ONE_CONDITION):
            walked: list[Job] = []
            cursor: UUID | None = None
            for _ in range(len(known)):
                page = await search.search(query, limit=7, cursor=cursor)
                walked += page.jobs
                cursor = page.next_cursor
                if page.complete:
                    break

            assert cursor is None
            assert walked == expected(query, known), query

    async def test_sh_1_a_page_says_how_far_it_looked(self, search: Search, known: Known) -> None:
        """A full one to its last job; the last one to the beginning."""
        page = await search.search(JobQuery(), limit=3)
        whole = await search.search(JobQuery())

        assert (page.complete, page.next_cursor) == (False, known[2][0].id)
        assert page.looked_back_to == known[2][0].created_at
        assert (whole.complete, whole.looked_back_to) == (True, None)

    async def test_sh_1_ids_find_their_jobs(self, search: Search, known: Known) -> None:
        """As many as there are."""
        ids = frozenset({known[0][0].id, known[4][0].id, an_id()})

        page = await search.search(JobQuery(ids=ids))

        assert list(page.jobs) == [known[0][0], known[4][0]]

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            (JobQuery(tenant_id=""), "tenant_id"),
            (JobQuery(types=frozenset({"a\0"})), "types"),
            (JobQuery(error_group="x"), "error_group"),
            (JobQuery(payload_text="ada"), "payload_text"),
            (JobQuery(error_text="ada", tenant_id="acme"), "error_text"),
            (JobQuery(trace_id="0" * 32), "trace_id"),
            (JobQuery(attempts_min=-1), "attempts_min"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_sh_2_what_is_out_of_bounds_is_refused(
        self, search: Search, query: JobQuery, field: str
    ) -> None:
        """With its field, by whoever looks and by whoever counts."""
        for call in (search.search(query), search.count(query)):
            with pytest.raises(InvalidJobError) as refused:
                await call
            assert refused.value.field == field

    @pytest.mark.parametrize("limit", [0, 1_001, True])
    async def test_sh_2_a_page_has_bounds(self, search: Search, limit: int) -> None:
        """From one job to a thousand."""
        with pytest.raises(InvalidJobError, match="limit"):
            await search.search(JobQuery(), limit=limit)

    async def test_sh_3_jobs_are_counted(self, search: Search, known: Known) -> None:
        """By the conditions that find them."""
        for query in map(allowed, ONE_CONDITION):
            assert await search.count(query) == Counted(len(expected(query, known))), query

    async def test_sh_4_what_goes_wrong_is_told(self, store: Store, search: Search) -> None:
        """Of the last day, of one tenant or use case if asked, and who asks finds the jobs."""
        earlier = await fails(store, "ValueError: no 'x' in 7", at=NOW - timedelta(days=2))
        twice = [
            await fails(store, f"ValueError: no 'x' in {number}", at=later(-number))
            for number in (9, 8)
        ]
        await fails(store, "KeyError: 'y'", at=later(-7), tenant_id="bolt")

        told = await search.errors()
        of_bolt = await search.errors(tenant_id="bolt")
        before = await search.errors(since=NOW - timedelta(days=3), until=NOW - timedelta(days=1))

        assert (told.groups[0].fingerprint, told.groups[0].count) == (GROUPS[0], 2)
        assert told.groups[0].job_id == twice[1].id
        assert (told.since, told.until) == (NOW - timedelta(days=1), NOW)
        assert [each.message for each in of_bolt.groups] == ["KeyError: 'y'"]
        assert [each.job_id for each in before.groups] == [earlier.id]
        assert (await search.errors(use_case="reports")).groups == ()
        query = JobQuery(error_group=GROUPS[0], statuses=frozenset({JobStatus.PENDING}))
        found = (await search.search(query)).jobs
        assert {job.id for job in found} == {earlier.id, *(job.id for job in twice)}
        with pytest.raises(InvalidJobError, match="until"):
            await search.errors(since=NOW, until=NOW)
