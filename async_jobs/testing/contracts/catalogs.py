"""The contract of `Catalog`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from async_jobs.domain.error_groups import ErrorQuery
from async_jobs.domain.events import Cancelled, Claimed, Failed, Leased, Rejected, Succeeded
from async_jobs.domain.filters import JobQuery, Span, check_query
from async_jobs.domain.fingerprints import fingerprint
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.outlook import Counted
from async_jobs.ports.catalog import Catalog
from async_jobs.ports.store import Added, Store
from async_jobs.testing.builders import a_job, an_id, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import Corrupt, added, happened

LOOK_AT = 1_000
UNTIL = later(9_000)
TRACE = "0af7651916cd43dd8448eb211c80319c"
ERRORS = ("ValueError: no 'x' in 7", "TimeoutError: nothing for 2 s", "„äöü“ 💥")
GROUPS = tuple(map(fingerprint, ERRORS))
LABEL = 'a "quoted" ü💥'
TEXTS = ("ada", 'a "quoted" \\ ü💥\n', "17", "er", "nowhere")
EVENTS: tuple[tuple[Any, ...], ...] = (
    (),
    (Leased(UNTIL),),
    (Leased(UNTIL), Claimed("w", UNTIL)),
    (Leased(UNTIL), Claimed("w", UNTIL), Succeeded(None)),
    *((Leased(UNTIL), Claimed("w", UNTIL), Rejected(error)) for error in ERRORS),
    *((Leased(UNTIL), Claimed("w", UNTIL), Failed(error)) for error in ERRORS[:2]),
    (Cancelled(),),
)


def the_jobs() -> list[tuple[Job, tuple[Any, ...]]]:
    """Return jobs that differ in whatever a query can ask, and what happens to each."""
    jobs = []
    for number in range(30):
        at = later(60 * number)
        job = a_job(
            created_at=at,
            tenant_id=("acme", "bolt")[number % 2],
            use_case=("notifications", "reports")[number // 3 % 2],
            type=("send_email", "render", "export")[number % 3],
            run_at=at + timedelta(seconds=number % 7 * 60),
            dedupe_key=f"key-{number}" if number % 4 == 0 else None,
            payload={"name": TEXTS[number % 3], "order": {"ids": [number, 17 * (number % 2)]}},
            labels={"order": str(number % 4), "kind": LABEL} if number % 2 else {},
            headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"} if number % 5 == 0 else {},
        )
        jobs.append((job, EVENTS[number % len(EVENTS)]))
    return jobs


def some(values: Collection[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for None or some of the values."""
    return st.none() | st.frozensets(st.sampled_from(list(values)), min_size=1, max_size=3)


INSTANTS = st.none() | st.integers(-2, 32).map(lambda n: later(60 * n))
SPANS = st.builds(Span, since=INSTANTS, until=INSTANTS).filter(
    lambda span: span.since is None or span.until is None or span.since < span.until
)
SELDOM = st.just(Span()) | st.just(Span()) | SPANS
QUERIES = st.builds(
    JobQuery,
    tenant_id=st.sampled_from([None, "acme", "bolt", "nobody"]),
    use_cases=some(["notifications", "reports", "none"]),
    types=some(["send_email", "render", "export"]),
    queues=st.none() | some(["notifications", "reports"]),
    statuses=some(list(JobStatus)),
    dedupe_key=st.sampled_from([None, None, None, "key-4", "key-8"]),
    labels=st.sampled_from([{}, {}, {"order": "3"}, {"kind": LABEL, "order": "1"}]),
    trace_id=st.sampled_from([None, None, None, TRACE, "0" * 32]),
    created=SELDOM,
    run_at=SELDOM,
    deadline=SELDOM,
    finished=SELDOM,
    attempts_min=st.sampled_from([None, None, 0, 1]),
    attempts_max=st.sampled_from([None, None, 1]),
    error_group=st.sampled_from([None, None, None, *GROUPS]),
    payload_text=st.sampled_from([None, None, None, *TEXTS]),
    error_text=st.sampled_from([None, None, None, "no 'x'", "äöü", "nothing"]),
)


ONE_CONDITION = (
    JobQuery(),
    JobQuery(tenant_id="acme"),
    JobQuery(tenant_id="bolt", statuses=frozenset({JobStatus.DEAD, JobStatus.RUNNING})),
    JobQuery(use_cases=frozenset({"reports"})),
    JobQuery(types=frozenset({"render", "export"})),
    JobQuery(queues=frozenset({"notifications"})),
    JobQuery(statuses=frozenset({JobStatus.PENDING, JobStatus.SUCCEEDED})),
    JobQuery(dedupe_key="key-8"),
    JobQuery(labels={"order": "3"}),
    JobQuery(labels={"order": "1", "kind": LABEL}),
    JobQuery(trace_id=TRACE),
    JobQuery(created=Span(since=later(300), until=later(900))),
    JobQuery(run_at=Span(until=later(900))),
    JobQuery(deadline=Span(since=later(900))),
    JobQuery(finished=Span(since=later(0))),
    JobQuery(attempts_min=1),
    JobQuery(attempts_max=0),
    *(JobQuery(error_group=each) for each in GROUPS),
    JobQuery(error_group=GROUPS[0], tenant_id="acme"),
    *(JobQuery(payload_text=each) for each in TEXTS),
    JobQuery(error_text="äöü"),
)


def drawn_queries() -> list[JobQuery]:
    """Return queries that hypothesis thought of."""
    queries: list[JobQuery] = []

    @settings(max_examples=100, deadline=None, database=None, phases=[Phase.generate])
    @given(query=QUERIES)
    def draw(query: JobQuery) -> None:
        queries.append(check_query(query))

    draw()
    return queries


Known: TypeAlias = list[tuple[Job, set[str]]]


async def stored_jobs(store: Store) -> Known:
    """Store the jobs that tests search among; returns them and their errors, newest first."""
    known: Known = []
    for job, events in the_jobs():
        assert await store.add([job], {}) == [Added(job.id)]
        stands = await happened(store, job, *events, now=later(2_000))
        errors = {e.error for e in events if isinstance(e, Failed | Rejected)}
        known.insert(0, (stands, set(map(fingerprint, errors))))
    return known


def expected(query: JobQuery, known: Known) -> list[Job]:
    """Return what a query has to find."""
    return [job for job, errors in known if query.matches(job, errors)]


class CatalogContract:
    """Everything `Catalog` promises, CA-1 to CA-6.

    Subclass it as `TestMyCatalog` and override the fixtures.
    """

    @pytest.fixture
    async def store(self) -> Store:
        """A store without jobs, which has kept no record so far."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def catalog(self, store: Store) -> Catalog:
        """The catalog under test, of what `store` keeps."""
        raise NotImplementedError("override the fixture `catalog`")

    @pytest.fixture
    async def corrupt(self) -> Corrupt:
        """Makes the stored row of a job unreadable, behind the store's back."""
        raise NotImplementedError("override the fixture `corrupt`")

    async def test_ca_1_what_is_found_meets_all_conditions(
        self, store: Store, catalog: Catalog
    ) -> None:
        """Whatever the conditions, alone and together, the answer is that of `matches`."""
        known = await stored_jobs(store)
        for query in [*ONE_CONDITION, *drawn_queries()]:
            page = await catalog.matching(query, limit=100, look_at=LOOK_AT)

            assert list(page.jobs) == expected(query, known), query
            assert page.complete
            assert page.looked_back_to is None

    async def test_ca_1_ids_are_a_condition_like_others(
        self, store: Store, catalog: Catalog
    ) -> None:
        """Unknown ones are none, and the others are beside it."""
        known = [job for job, _ in await stored_jobs(store)]
        ids = frozenset({known[3].id, known[8].id, known[9].id, an_id()})

        page = await catalog.matching(JobQuery(ids=ids), limit=100, look_at=LOOK_AT)
        within = JobQuery(ids=ids, tenant_id=known[8].tenant_id)
        of_a_tenant = await catalog.matching(within, limit=100, look_at=LOOK_AT)

        assert list(page.jobs) == [known[3], known[8], known[9]]
        assert list(of_a_tenant.jobs) == [job for job in page.jobs if within.matches(job)]

    @pytest.mark.parametrize(("limit", "look_at"), [(3, 100), (3, 4), (100, 2), (30, 30)])
    async def test_ca_2_pages_hold_every_match_once(
        self, store: Store, catalog: Catalog, limit: int, look_at: int
    ) -> None:
        """However many a page may have, and however few it may look at."""
        known = await stored_jobs(store)
        for query in ONE_CONDITION:
            walked: list[Job] = []
            before: UUID | None = None
            for _ in range(len(known) + 2):
                page = await catalog.matching(query, limit=limit, look_at=look_at, before=before)
                assert len(page.jobs) <= limit
                walked += page.jobs
                before = page.next_cursor
                if page.complete:
                    break

            assert before is None, query
            assert walked == expected(query, known), query

    async def test_ca_3_a_page_says_how_far_it_looked(self, store: Store, catalog: Catalog) -> None:
        """Of what it did not look at it claims nothing."""
        known = [job for job, _ in await stored_jobs(store)]
        nothing = JobQuery(types=frozenset({"none"}))

        page = await catalog.matching(nothing, limit=10, look_at=7)
        last = await catalog.matching(nothing, limit=10, look_at=len(known))

        assert page.jobs == ()
        assert page.next_cursor == known[6].id
        assert page.looked_back_to == known[6].created_at
        assert not page.complete
        assert last.complete

    @pytest.mark.parametrize("limit", [3, 100])
    async def test_ca_4_counts_are_capped_and_say_so(
        self, store: Store, catalog: Catalog, limit: int
    ) -> None:
        """What is counted by any condition is what is found by it."""
        known = await stored_jobs(store)
        for query in ONE_CONDITION:
            found = len(expected(query, known))
            counted = await catalog.count(query, limit=limit, look_at=LOOK_AT)

            assert counted == Counted(min(found, limit), at_least=found > limit), query
        assert await catalog.count(JobQuery(), limit=100, look_at=9) == Counted(9, at_least=True)

    async def test_ca_5_a_row_that_is_no_job_is_told_of(
        self, store: Store, catalog: Catalog, corrupt: Corrupt
    ) -> None:
        """Like any other it is found by its conditions only."""
        jobs = [await added(store, use_case=name) for name in ("notifications", "reports")]
        for job in jobs:
            await corrupt(job.id)

        found = JobQuery(use_cases=frozenset({"reports"}))
        page = await catalog.matching(found, limit=10, look_at=LOOK_AT)

        assert page.jobs == ()
        assert [each.id for each in page.unreadable] == [jobs[1].id]

    async def test_ca_6_errors_of_one_cause_are_one_group(
        self, store: Store, catalog: Catalog
    ) -> None:
        """With how many there were, since when and until when, and the last of them."""
        jobs = [
            await fails(store, f"ValueError: no 'x' in {number}", at=later(number))
            for number in (3, 9, 5)
        ]
        await fails(store, "ValueError: no 'x' in 7", at=later(7), type="render")
        await fails(store, "ValueError: no 'x' in 7", at=later(60))
        query = ErrorQuery(since=NOW, until=later(60))

        told = await catalog.error_groups(query, limit=10, look_at=LOOK_AT)

        assert [(each.type, each.count) for each in told.groups] == [
            ("send_email", 3),
            ("render", 1),
        ]
        group = told.groups[0]
        assert (group.first_seen, group.last_seen) == (later(3), later(9))
        assert (group.message, group.job_id) == ("ValueError: no 'x' in 9", jobs[1].id)
        assert (told.looked_back_to, told.more) == (None, False)
        found = await catalog.matching(
            JobQuery(error_group=group.fingerprint, types=frozenset({"send_email"})),
            limit=10,
            look_at=LOOK_AT,
        )
        assert {job.id for job in jobs} < {job.id for job in found.jobs}

    async def test_ca_6_errors_are_looked_at_within_bounds(
        self, store: Store, catalog: Catalog
    ) -> None:
        """Of a tenant or a use case only, no further than asked, and no more groups than asked."""
        for number, tenant_id in enumerate(("acme", "bolt", "acme")):
            error = f"ValueError: {'abc'[number]}"
            await fails(store, error, at=later(number), tenant_id=tenant_id)
        query = ErrorQuery(since=NOW, until=later(60))

        of_a_tenant = await catalog.error_groups(
            replace(query, tenant_id="bolt"), limit=10, look_at=LOOK_AT
        )
        of_another = await catalog.error_groups(
            replace(query, use_case="reports"), limit=10, look_at=LOOK_AT
        )
        short = await catalog.error_groups(query, limit=1, look_at=2)

        assert [each.message for each in of_a_tenant.groups] == ["ValueError: b"]
        assert of_another.groups == ()
        assert (len(short.groups), short.more) == (1, True)
        assert short.looked_back_to == later(1)


async def fails(store: Store, error: str, *, at: datetime, **fields: Any) -> Job:
    """Let a new job's attempt fail at an instant."""
    job = await added(store, **fields)
    return await happened(store, job, Leased(UNTIL), Claimed("w", UNTIL), Failed(error), now=at)
