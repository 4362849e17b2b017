"""The contract of `Jobs`, the driving port."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any, Final

import pytest

from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.errors import (
    IllegalTransition,
    InvalidJobError,
    JobNotFoundError,
    QuotaExceededError,
)
from async_jobs.domain.job import EnqueueJobRequest, Job, JobStatus, Phase
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.store import Store
from async_jobs.testing.builders import SimpleLimits, a_request, an_id, later
from async_jobs.testing.clocks import NOW, ManualClock
from async_jobs.testing.contracts.scenes import (
    CRASH,
    PATHS,
    added,
    all_jobs,
    happened,
    in_phase,
    race,
    the_job,
)
from async_jobs.testing.contracts.specimens import INVALID

KIT_LIMITS: Final = SimpleLimits(
    use_case_configs={
        "notifications": UseCaseConfig(),
        "reports": UseCaseConfig(
            max_concurrent=2,
            default_delay_tolerance_seconds=3_600,
            queue="slow",
            default_max_attempts=3,
            default_backoff_policy=BackoffPolicy(type=BackoffType.LINEAR, jitter=0.5),
        ),
    },
    per_tenant_quotas={"limited": TenantQuota(max_pending_jobs=5)},
)
"""What the `Jobs` under test are configured with."""

LIMITED_MAX: Final = 5


class JobsContract:
    """Everything `Jobs` promises, JB-1 to JB-10.

    Subclass it as `TestMyJobs` and override the fixtures `store` and `jobs`. Whatever stands
    between the two, the jobs are made with `KIT_LIMITS` and live by the fixture `clock`.
    """

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of `jobs`."""
        return ManualClock()

    @pytest.fixture
    async def store(self) -> Store:
        """Where the jobs are kept: the back door through which tests bring them somewhere."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def jobs(self, store: Store, clock: ManualClock) -> Jobs:
        """The port under test, over `store`, made with `KIT_LIMITS` and `clock`."""
        raise NotImplementedError("override the fixture `jobs`")

    async def test_jb_1_an_enqueued_job_exists_with_its_defaults(
        self, jobs: Jobs, store: Store
    ) -> None:
        """Whatever the request leaves open comes from the use case, and it is due now."""
        enqueued = await jobs.enqueue(a_request(use_case="reports"))

        job = await the_job(store, enqueued.job_id)
        assert not enqueued.duplicate
        assert job.status is JobStatus.PENDING
        assert job.created_at == job.updated_at == job.run_at == NOW
        assert job.delay_tolerance == timedelta(hours=1)
        assert job.deadline_at == NOW + timedelta(hours=1)
        assert (job.queue, job.max_attempts, job.attempts) == ("slow", 3, 0)
        assert job.backoff_policy == BackoffPolicy(type=BackoffType.LINEAR, jitter=0.5)
        assert (job.priority, job.dedupe_key, job.headers) == (0, None, {})

    async def test_jb_1_an_enqueued_job_has_what_was_asked_for(
        self, jobs: Jobs, store: Store
    ) -> None:
        """Every field of the request."""
        request = EnqueueJobRequest(
            tenant_id="ümläut & söns",
            use_case="notifications",
            type="send_email",
            payload={"to": ["a@b.example", None], "n": 1.5, "deep": {"é": True}},
            queue="slow",
            id=an_id(),
            run_at=later(10.123_456).astimezone(timezone(timedelta(hours=-7))),
            delay_tolerance=timedelta(seconds=1.5),
            max_attempts=7,
            backoff_policy=BackoffPolicy(base_delay_seconds=0.5, jitter=1),
            dedupe_key="daily",
            priority=-3,
            headers={"trace": "1"},
        )

        job = await the_job(store, (await jobs.enqueue(request)).job_id)

        kept = {name: getattr(job, name) for name in request.__slots__}
        assert EnqueueJobRequest(**kept) == request
        assert job.deadline_at == later(11.623_456)

    async def test_jb_1_a_run_at_in_the_past_is_now(self, jobs: Jobs, store: Store) -> None:
        """Being asked for late does not make a job late."""
        enqueued = await jobs.enqueue(a_request(run_at=later(-3_600)))

        assert (await the_job(store, enqueued.job_id)).run_at == NOW

    async def test_jb_1_ids_grow_with_time(self, jobs: Jobs, clock: ManualClock) -> None:
        """In one call and from call to call."""
        many = await jobs.enqueue_many([a_request() for _ in range(20)])
        clock.advance(seconds=1)
        one = await jobs.enqueue(a_request())

        ids = [enqueued.job_id for enqueued in (*many, one)]
        assert ids == sorted(set(ids))

    async def test_jb_2_one_invalid_job_keeps_all_out(self, jobs: Jobs, store: Store) -> None:
        """Wherever in the call it stands; its field is named."""
        with pytest.raises(InvalidJobError) as caught:
            await jobs.enqueue_many([a_request(), a_request(priority=2**15), a_request()])

        assert caught.value.field.endswith("priority")
        assert await all_jobs(store) == []

    async def test_jb_2_one_tenant_over_quota_keeps_all_out(self, jobs: Jobs, store: Store) -> None:
        """Other tenants' jobs in the call included."""
        over = [a_request(tenant_id="limited") for _ in range(LIMITED_MAX + 1)]
        with pytest.raises(QuotaExceededError):
            await jobs.enqueue_many([a_request(), *over])

        assert await all_jobs(store) == []

    async def test_jb_2_a_foreign_id_keeps_all_out(self, jobs: Jobs, store: Store) -> None:
        """It is invalid, and says nothing about whose it is."""
        theirs = await added(store, tenant_id="secretive")
        with pytest.raises(InvalidJobError) as caught:
            await jobs.enqueue_many([a_request(), a_request(id=theirs.id)])

        assert caught.value.field.endswith("id")
        assert "secretive" not in str(caught.value)
        assert await all_jobs(store) == [theirs]

    async def test_jb_2_a_thousand_jobs_are_one_call(self, jobs: Jobs, store: Store) -> None:
        """Answered in order; a thousand and one are too many, none are no problem."""
        requests = [a_request(payload={"i": i}) for i in range(1_000)]

        enqueued = await jobs.enqueue_many(requests)

        by_id = {job.id: job.payload["i"] for job in await all_jobs(store)}
        assert [by_id[each.job_id] for each in enqueued] == list(range(1_000))
        assert await jobs.enqueue_many([]) == []
        with pytest.raises(InvalidJobError):
            await jobs.enqueue_many([*requests, a_request()])

    @pytest.mark.parametrize("phase", [Phase.PENDING, Phase.HANDED_OFF, Phase.CLAIMED])
    async def test_jb_3_a_live_key_answers_with_its_job(
        self, jobs: Jobs, store: Store, phase: Phase
    ) -> None:
        """Whether it waits or runs; after its end the key is free."""
        job = await in_phase(store, phase, dedupe_key="daily")

        again = await jobs.enqueue(a_request(dedupe_key="daily"))
        other = await jobs.enqueue(a_request(dedupe_key="daily", tenant_id="other"))

        assert again == (job.id, True)
        assert not other.duplicate
        assert len(await all_jobs(store)) == 2

    async def test_jb_3_racing_duplicates_get_one_job(self, jobs: Jobs, store: Store) -> None:
        """All of them, by whichever came first."""
        answers = await race(*(jobs.enqueue(a_request(dedupe_key="daily")) for _ in range(16)))

        (job,) = await all_jobs(store)
        assert {answer.job_id for answer in answers} == {job.id}
        assert [answer.duplicate for answer in answers].count(False) == 1

    async def test_jb_4_a_repeated_enqueue_creates_nothing(self, jobs: Jobs, store: Store) -> None:
        """Alone or in a batch, however often."""
        one, two = (a_request(id=an_id()) for _ in range(2))
        first = await jobs.enqueue(one)

        again = await jobs.enqueue(one)
        batch = await jobs.enqueue_many([two, one])
        batch_again = await jobs.enqueue_many([two, one])

        assert first == (one.id, False)
        assert again == (one.id, True)
        assert batch == [(two.id, False), (one.id, True)]
        assert batch_again == [(two.id, True), (one.id, True)]
        assert len(await all_jobs(store)) == 2

    async def test_jb_4_a_repetition_is_free(self, jobs: Jobs) -> None:
        """It succeeds for a tenant whose quota it has filled itself."""
        requests = [a_request(tenant_id="limited", id=an_id()) for _ in range(LIMITED_MAX)]
        await jobs.enqueue_many(requests)

        assert await jobs.enqueue_many(requests) == [(request.id, True) for request in requests]

    @pytest.mark.parametrize(("field", "overrides"), INVALID, ids=range(len(INVALID)))
    async def test_jb_5_an_invalid_request_names_its_field(
        self, jobs: Jobs, store: Store, field: str, overrides: dict[str, Any]
    ) -> None:
        """And creates nothing."""
        with pytest.raises(InvalidJobError) as caught:
            await jobs.enqueue(a_request(**overrides))

        assert caught.value.field.startswith(field)
        assert await all_jobs(store) == []

    @pytest.mark.parametrize("field", ["use_case", "queue"])
    async def test_jb_5_an_unknown_name_is_refused_with_the_known_ones(
        self, jobs: Jobs, field: str
    ) -> None:
        """So that a typing error is found at once."""
        with pytest.raises(InvalidJobError) as caught:
            await jobs.enqueue(a_request(**{field: "notification"}))

        known = {"use_case": {"notifications", "reports"}, "queue": {"notifications", "slow"}}
        assert all(name in caught.value.problem for name in known[field])

    @pytest.mark.parametrize("limit", [0, -1, 1_001])
    async def test_jb_5_a_page_has_its_bounds(self, jobs: Jobs, limit: int) -> None:
        """From one job to a thousand."""
        with pytest.raises(InvalidJobError):
            await jobs.list_jobs(limit=limit)

    @pytest.mark.parametrize("name", ["", "a\u0000b", "a\ud800", "x" * 201])
    async def test_jb_5_a_name_that_no_job_can_have_is_not_looked_for(
        self, jobs: Jobs, name: str
    ) -> None:
        """It is named, whichever call it stands in."""
        calls = [
            jobs.get_job(an_id(), tenant_id=name),
            jobs.list_jobs(tenant_id=name),
            jobs.list_jobs(use_case=name),
            jobs.cancel_job(an_id(), tenant_id=name),
            jobs.retry_job(an_id(), tenant_id=name),
        ]
        fields = []
        for call in calls:
            with pytest.raises(InvalidJobError) as caught:
                await call
            fields.append(caught.value.field)

        assert fields == ["tenant_id", "tenant_id", "use_case", "tenant_id", "tenant_id"]

    async def test_jb_6_a_full_tenant_is_refused(self, jobs: Jobs) -> None:
        """With the numbers that explain it; others go on."""
        await jobs.enqueue_many([a_request(tenant_id="limited") for _ in range(LIMITED_MAX - 1)])
        with pytest.raises(QuotaExceededError) as caught:
            await jobs.enqueue_many([a_request(tenant_id="limited") for _ in range(2)])

        told = caught.value
        assert (told.tenant_id, told.limit, told.used, told.asked) == ("limited", 5, 4, 2)
        await jobs.enqueue(a_request(tenant_id="limited"))
        await jobs.enqueue(a_request())

    async def test_jb_6_racing_enqueues_keep_to_the_quota(self, jobs: Jobs, store: Store) -> None:
        """Of 32 at once, five get in."""

        async def enqueue() -> bool:
            try:
                await jobs.enqueue(a_request(tenant_id="limited"))
            except QuotaExceededError:
                return False
            return True

        admitted = await race(*(enqueue() for _ in range(32)))

        assert admitted.count(True) == len(await all_jobs(store)) == LIMITED_MAX

    @pytest.mark.parametrize("phase", list(PATHS))
    async def test_jb_7_get_returns_the_job_as_it_stands(
        self, jobs: Jobs, store: Store, phase: Phase
    ) -> None:
        """The whole record, to the operator and to its tenant."""
        job = await in_phase(store, phase, headers={"trace": "1"}, run_at=later(0.000_001))

        assert await jobs.get_job(job.id) == job
        assert await jobs.get_job(job.id, tenant_id=job.tenant_id) == job

    async def test_jb_7_a_foreign_id_looks_like_a_missing_one(
        self, jobs: Jobs, store: Store
    ) -> None:
        """To every call that takes an id, and nothing happens to the job."""
        theirs, missing = await added(store, tenant_id="secretive"), an_id()
        told: list[str] = []
        for job_id in (theirs.id, missing):
            for call in (jobs.get_job, jobs.cancel_job, jobs.retry_job):
                with pytest.raises(JobNotFoundError) as caught:
                    await call(job_id, tenant_id="acme")
                told.append(str(caught.value).replace(str(job_id), "ID"))

        assert len(set(told)) == 1
        assert await all_jobs(store) == [theirs]

    @pytest.mark.parametrize("limit", [1, 3, 7, 1_000])
    async def test_jb_8_pages_hold_every_job_once_newest_first(
        self, jobs: Jobs, store: Store, limit: int
    ) -> None:
        """Of one tenant or, for an operator, of all."""
        known = [await added(store, tenant_id=("one", "two")[i % 2]) for i in range(7)]

        assert await walk(jobs, limit=limit) == known[::-1]
        assert await walk(jobs, limit=limit, tenant_id="one") == known[::-2]
        assert await walk(jobs, limit=limit, tenant_id="nobody") == []

    async def test_jb_8_filters_hold_together(self, jobs: Jobs, store: Store) -> None:
        """By use case and status, alone or both."""
        known = {
            (use_case, phase): await in_phase(store, phase, use_case=use_case)
            for use_case in ("notifications", "reports")
            for phase in (Phase.PENDING, Phase.DEAD)
        }

        dead = await walk(jobs, status=JobStatus.DEAD)
        dead_reports = await walk(jobs, status=JobStatus.DEAD, use_case="reports")

        assert dead == [known["reports", Phase.DEAD], known["notifications", Phase.DEAD]]
        assert dead_reports == [known["reports", Phase.DEAD]]

    @pytest.mark.parametrize("phase", [Phase.PENDING, Phase.HANDED_OFF])
    async def test_jb_9_a_job_nobody_executes_is_cancelled_at_once(
        self, jobs: Jobs, store: Store, clock: ManualClock, phase: Phase
    ) -> None:
        """And stays so when asked again."""
        job = await in_phase(store, phase)
        clock.advance(seconds=5)

        cancelled = await jobs.cancel_job(job.id)
        clock.advance(seconds=5)
        again = await jobs.cancel_job(job.id, tenant_id=job.tenant_id)

        assert (cancelled.status, cancelled.finished_at) == (JobStatus.CANCELLED, later(5))
        assert again == cancelled == await the_job(store, job.id)

    async def test_jb_9_a_worker_is_asked_to_stop(self, jobs: Jobs, store: Store) -> None:
        """The job runs on until its worker says so; asking again changes nothing."""
        job = await in_phase(store, Phase.CLAIMED)

        asked = await jobs.cancel_job(job.id)
        again = await jobs.cancel_job(job.id)

        assert asked.phase is Phase.CANCELLING
        assert replace(asked, cancel_requested=False) == job
        assert again == asked == await the_job(store, job.id)

    @pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.DEAD])
    async def test_jb_9_a_job_that_ended_otherwise_stays(
        self, jobs: Jobs, store: Store, phase: Phase
    ) -> None:
        """It is too late to cancel it."""
        job = await in_phase(store, phase)
        with pytest.raises(IllegalTransition):
            await jobs.cancel_job(job.id)

        assert await the_job(store, job.id) == job

    async def test_jb_9_racing_cancels_agree(self, jobs: Jobs, store: Store) -> None:
        """Eight people press the button."""
        job = await added(store)

        answers = await race(*(jobs.cancel_job(job.id) for _ in range(8)))

        assert {answer.status for answer in answers} == {JobStatus.CANCELLED}

    @pytest.mark.parametrize("phase", [Phase.DEAD, Phase.CANCELLED])
    async def test_jb_10_a_retried_job_is_due_with_its_history(
        self, jobs: Jobs, store: Store, clock: ManualClock, phase: Phase
    ) -> None:
        """Attempts and crashes count anew; what went wrong before is not forgotten."""
        job = await happened(store, await added(store), *CRASH, *PATHS[phase])
        clock.advance(seconds=5)

        retried = await jobs.retry_job(job.id, tenant_id=job.tenant_id)

        assert (job.crashes, retried.crashes) == (1, 0)
        assert (retried.status, retried.attempts) == (JobStatus.PENDING, 0)
        assert retried.run_at == later(5)
        assert retried.deadline_at == later(5) + job.delay_tolerance
        assert (retried.errors, retried.last_error) == (job.errors, job.last_error)
        assert retried == await the_job(store, job.id)

    @pytest.mark.parametrize("phase", sorted(set(PATHS) - {Phase.DEAD, Phase.CANCELLED}))
    async def test_jb_10_other_jobs_are_not_retried(
        self, jobs: Jobs, store: Store, phase: Phase
    ) -> None:
        """A job that lives or has succeeded stays as it is."""
        job = await in_phase(store, phase)
        with pytest.raises(IllegalTransition):
            await jobs.retry_job(job.id)

        assert await the_job(store, job.id) == job

    async def test_jb_10_a_taken_dedupe_key_keeps_a_job_from_its_retry(
        self, jobs: Jobs, store: Store
    ) -> None:
        """At most one live job per key, whoever asks."""
        job = await in_phase(store, Phase.DEAD, dedupe_key="daily")
        await added(store, dedupe_key="daily")
        with pytest.raises(IllegalTransition):
            await jobs.retry_job(job.id)

        assert await the_job(store, job.id) == job


async def walk(jobs: Jobs, **criteria: Any) -> list[Job]:
    """Return every job listed, page by page."""
    walked: list[Job] = []
    cursor = None
    for _ in range(20):
        page = await jobs.list_jobs(cursor=cursor, **criteria)
        walked += page.jobs
        cursor = page.next_cursor
        if cursor is None:
            return walked
    raise AssertionError("the pages do not end")
