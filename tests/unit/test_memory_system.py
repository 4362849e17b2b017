"""The whole system in a unit test, as applications use it for theirs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from async_jobs.application.handling.outcomes import Reject, RetryAfter, Snooze
from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.facts import (
    JobEnqueued,
    JobFailed,
    JobStarted,
    JobSucceeded,
    ResultLeftOut,
    RowUnreadable,
)
from async_jobs.domain.job import JobStatus
from async_jobs.testing import MemorySystem
from async_jobs.testing.contracts.scenes import RollBack
from tests.unit.greeting import greeting, request

DELAYS = BackoffPolicy(base_delay_seconds=30, jitter=0)


@pytest.fixture
def async_jobs_registry() -> JobRegistry:
    """The handlers of these tests instead of everybody's."""
    return JobRegistry()


# --- Running ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_what_a_handler_raises_can_be_raised(
    async_jobs: MemorySystem, is_async: bool
) -> None:
    """The error itself with its traceback; only if it is asked for, and no outcome."""

    def sync_greet(ctx: JobContext, payload: dict[str, Any]) -> None:
        if payload["to"] == "nobody":
            raise Reject("there is nobody")
        raise KeyError(payload["to"])

    async def greet(ctx: JobContext, payload: dict[str, Any]) -> None:
        sync_greet(ctx, payload)

    async_jobs.registry.register("greet", greet if is_async else sync_greet)
    await async_jobs.service.enqueue(request())
    await async_jobs.service.enqueue(request(payload={"to": "nobody"}))

    with pytest.raises(KeyError, match="Ada"):
        await async_jobs.run_until_idle(raise_errors=True)
    await async_jobs.service.enqueue_many([request(), request()])
    assert await async_jobs.run_until_idle() == 2
    await async_jobs.service.enqueue_many([request(), request()])
    with pytest.raises(ExceptionGroup, match="several handlers failed"):
        await async_jobs.run_until_idle(raise_errors=True)


class Numbered(BaseModel):
    to: int


class Forgotten:
    def __await__(self) -> Iterator[None]:
        yield


def takes_a_number(ctx: JobContext, payload: Numbered) -> None:
    """Do nothing."""


async def cancels_itself(ctx: JobContext, payload: dict[str, Any]) -> None:
    raise asyncio.CancelledError


def exits(ctx: JobContext, payload: dict[str, Any]) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (takes_a_number, "invalid payload: payload.to"),
        (cancels_itself, "cancelled itself"),
        (exits, "SystemExit: 3"),
        (lambda ctx, payload: Forgotten(), "returned an awaitable"),
        (None, "no handler is registered for the type 'greet'"),
    ],
)
async def test_a_job_that_fails_without_an_error_of_its_handler_is_one_too(
    async_jobs: MemorySystem, handler: Any, told: str
) -> None:
    """A test that runs all jobs must not be green beside a dead one."""
    if handler is not None:
        async_jobs.registry.register("greet", handler)
    await async_jobs.service.enqueue(request())

    with pytest.raises(RuntimeError, match=re.escape(told)):
        await async_jobs.run_until_idle(raise_errors=True)


async def test_outcomes_stay_outcomes_in_a_group_and_returned(async_jobs: MemorySystem) -> None:
    """They are what the handler meant, and so is what the policy for late jobs ends."""

    @async_jobs.registry.handler("greet")
    async def greet(ctx: JobContext, payload: dict[str, Any]) -> object:
        match payload["to"]:
            case "group":
                raise ExceptionGroup("later", [Snooze(60)])
            case "returned":
                return Reject("there is nobody")
        raise RetryAfter(60)

    for to in ("group", "returned", "Ada"):
        await async_jobs.service.enqueue(request(payload={"to": to}))

    assert await async_jobs.run_until_idle(raise_errors=True) == 3


async def test_a_failure_is_told_with_its_places(async_jobs: MemorySystem) -> None:
    """In the job's record, and without the text in what is told."""

    @async_jobs.registry.handler("greet")
    async def greet(ctx: JobContext, payload: dict[str, Any]) -> None:
        raise KeyError(payload["to"])

    enqueued = await async_jobs.service.enqueue(request())
    await async_jobs.run_until_idle()

    job = await async_jobs.service.get_job(enqueued.job_id)
    (fact,) = async_jobs.telemetry.of(JobFailed)
    assert job.last_error == "KeyError: 'Ada'"
    assert job.errors[0].error.startswith(f"KeyError: 'Ada'\n  at {__file__}:")
    assert fact.places[0] in job.errors[0].error
    assert "Ada" not in "".join(fact.places)


async def test_a_result_that_is_left_out_is_told(async_jobs: MemorySystem) -> None:
    """The job has succeeded."""

    @async_jobs.registry.handler("greet")
    async def greet(ctx: JobContext, payload: dict[str, Any]) -> object:
        return object()

    enqueued = await async_jobs.service.enqueue(request())
    await async_jobs.run_until_idle()

    job = await async_jobs.service.get_job(enqueued.job_id)
    (fact,) = async_jobs.telemetry.of(ResultLeftOut)
    assert job.status is JobStatus.SUCCEEDED
    assert job.result == {"result_left_out": fact.problem}


async def test_what_was_enqueued_runs(async_jobs: MemorySystem) -> None:
    """Through the fixture, with the handlers of this module."""
    greeted = greeting(async_jobs.registry)
    enqueued = await async_jobs.service.enqueue(request())

    ran = await async_jobs.run_until_idle()

    job = await async_jobs.service.get_job(enqueued.job_id)
    assert (ran, greeted) == (1, ["Ada"])
    assert (job.status, job.result) == (JobStatus.SUCCEEDED, {"greeted": "Ada"})


async def test_nothing_runs_by_itself(async_jobs: MemorySystem) -> None:
    """The test decides when."""
    greeted = greeting(async_jobs.registry)

    await async_jobs.service.enqueue(request())
    async_jobs.clock.advance(seconds=600)

    assert greeted == []
    assert [job.status for job in await async_jobs.jobs()] == [JobStatus.PENDING]


async def test_an_idle_system_is_idle(async_jobs: MemorySystem) -> None:
    """There is nothing to run, and the clock has not moved."""
    before = async_jobs.clock.now()

    assert await async_jobs.run_until_idle() == 0
    assert async_jobs.clock.now() == before


async def test_a_job_that_failed_runs_again_once_its_backoff_is_over(
    async_jobs: MemorySystem,
) -> None:
    """Idle means that nothing is due; advancing the clock makes it due."""
    attempts: list[int] = []

    @async_jobs.registry.handler("greet")
    async def greet(ctx: JobContext, payload: dict[str, Any]) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("the mail server is away")

    enqueued = await async_jobs.service.enqueue(request(backoff_policy=DELAYS))
    first = await async_jobs.run_until_idle()
    async_jobs.clock.advance(seconds=29)
    early = await async_jobs.run_until_idle()
    async_jobs.clock.advance(seconds=1)
    second = await async_jobs.run_until_idle()

    job = await async_jobs.service.get_job(enqueued.job_id)
    assert (first, early, second, attempts) == (1, 0, 1, [1, 2])
    assert (job.status, len(job.errors)) == (JobStatus.SUCCEEDED, 1)


async def test_a_job_for_later_runs_later(async_jobs: MemorySystem) -> None:
    """Once its `run_at` has come."""
    greeted = greeting(async_jobs.registry)
    in_a_day = async_jobs.clock.now() + timedelta(days=1)
    await async_jobs.service.enqueue(request(run_at=in_a_day))

    early = await async_jobs.run_until_idle()
    async_jobs.clock.advance(seconds=24 * 3600)
    due = await async_jobs.run_until_idle()

    assert (early, due, greeted) == (0, 1, ["Ada"])


async def test_what_handlers_enqueue_runs_too(async_jobs: MemorySystem) -> None:
    """Idle is when all that follows has run as well."""
    greeted = greeting(async_jobs.registry)

    @async_jobs.registry.handler("greet_all")
    async def greet_all(ctx: JobContext, payload: dict[str, Any]) -> None:
        for name in payload["names"]:
            await async_jobs.service.enqueue(request(payload={"to": name}))

    await async_jobs.service.enqueue(request(type="greet_all", payload={"names": ["Ada", "Bob"]}))

    assert await async_jobs.run_until_idle() == 3
    assert sorted(greeted) == ["Ada", "Bob"]


async def test_sync_handlers_run_too(async_jobs: MemorySystem) -> None:
    """In a thread, as in production."""
    greeted: list[str] = []

    @async_jobs.registry.handler("greet")
    def greet(ctx: JobContext, payload: dict[str, Any]) -> None:
        greeted.append(payload["to"])

    await async_jobs.service.enqueue(request())

    assert await async_jobs.run_until_idle() == 1
    assert greeted == ["Ada"]


async def test_more_jobs_than_slots_all_run(async_jobs: MemorySystem) -> None:
    """Capacity is a matter of rounds."""
    greeted = greeting(async_jobs.registry)
    await async_jobs.service.enqueue_many([request() for _ in range(45)])

    assert await async_jobs.run_until_idle() == 45
    assert len(greeted) == 45


async def test_a_job_that_never_rests_is_an_error(
    async_jobs: MemorySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than a test that never ends."""
    monkeypatch.setattr("async_jobs.testing.system.ROUNDS_MAX", 50)

    @async_jobs.registry.handler("greet")
    async def greet(ctx: JobContext, payload: dict[str, Any]) -> None:
        await async_jobs.service.enqueue(request())

    await async_jobs.service.enqueue(request())

    with pytest.raises(RuntimeError, match="did not come to rest"):
        await async_jobs.run_until_idle()


async def test_a_snooze_of_no_time_lasts_a_second(async_jobs: MemorySystem) -> None:
    """It would run for ever otherwise, and never be charged."""
    ran = []

    @async_jobs.registry.handler("greet")
    async def greet(ctx: JobContext, payload: dict[str, Any]) -> None:
        ran.append(ctx.attempt)
        raise Snooze(0)

    await async_jobs.service.enqueue(request())

    assert await async_jobs.run_until_idle() == 1
    async_jobs.clock.advance(seconds=1)
    assert await async_jobs.run_until_idle() == 1
    assert ran == [1, 1]


async def test_a_type_that_nobody_knows_ends_its_job(async_jobs: MemorySystem) -> None:
    """After a week, and the job says so all the while."""
    enqueued = await async_jobs.service.enqueue(request(type="nobodys"))
    await async_jobs.run_until_idle()
    waiting = await async_jobs.service.get_job(enqueued.job_id)
    for _ in range(7 * 24 + 24):
        async_jobs.clock.advance(seconds=3_600)
        await async_jobs.run_until_idle()
    job = await async_jobs.service.get_job(enqueued.job_id)

    assert waiting.last_error == "no worker that received it has a handler for its type"
    assert job.status is JobStatus.DEAD
    assert job.last_error == "no worker had a handler for its type within 7 days"


async def test_a_failing_handler_is_an_outcome_not_an_error(async_jobs: MemorySystem) -> None:
    """The test looks at the job."""

    @async_jobs.registry.handler("greet")
    async def greet(ctx: JobContext, payload: dict[str, Any]) -> None:
        raise RetryAfter(5, "busy")

    enqueued = await async_jobs.service.enqueue(request(max_attempts=2))

    for _ in range(2):
        await async_jobs.run_until_idle()
        async_jobs.clock.advance(seconds=5)

    job = await async_jobs.service.get_job(enqueued.job_id)
    assert (job.status, job.last_error, job.attempts) == (JobStatus.DEAD, "busy", 2)


# --- A transaction of one's own --------------------------------------------------------------


async def test_a_committed_transaction_enqueues(async_jobs: MemorySystem) -> None:
    """`store.transaction()` stands in for the connection that an application has open."""
    greeted = greeting(async_jobs.registry)

    async with async_jobs.store.transaction() as connection:
        await async_jobs.service.enqueue(request(), connection=connection)
        within = await async_jobs.run_until_idle()
    after = await async_jobs.run_until_idle()

    assert (within, after, greeted) == (0, 1, ["Ada"])


async def test_a_transaction_that_is_rolled_back_enqueues_nothing(
    async_jobs: MemorySystem,
) -> None:
    """Like everything else in it."""
    greeted = greeting(async_jobs.registry)

    with suppress(RollBack):
        async with async_jobs.store.transaction() as connection:
            await async_jobs.service.enqueue(request(), connection=connection)
            raise RollBack
    ran = await async_jobs.run_until_idle()

    assert (ran, greeted, await async_jobs.jobs()) == (0, [], [])


# --- Looking at it ---------------------------------------------------------------------------


async def test_jobs_are_listed_oldest_first(async_jobs: MemorySystem) -> None:
    """All of them or those that match."""
    enqueued = [
        await async_jobs.service.enqueue(request(tenant_id=tenant)) for tenant in ("a", "b", "a")
    ]
    await async_jobs.service.cancel_job(enqueued[0].job_id)

    everything = await async_jobs.jobs()
    pending_of_a = await async_jobs.jobs(tenant_id="a", status=JobStatus.PENDING)

    assert [job.id for job in everything] == [each.job_id for each in enqueued]
    assert [job.id for job in pending_of_a] == [enqueued[2].job_id]


async def test_more_jobs_than_a_page_are_listed(async_jobs: MemorySystem) -> None:
    """All of them all the same."""
    for _ in range(2):
        await async_jobs.service.enqueue_many([request(payload={})] * 600)

    assert len(await async_jobs.jobs()) == 1_200


async def test_what_happened_can_be_asked_for(async_jobs: MemorySystem) -> None:
    """Every fact is kept, in order."""
    greeting(async_jobs.registry)
    await async_jobs.service.enqueue(request())
    await async_jobs.run_until_idle()

    facts = [type(fact) for fact in async_jobs.telemetry.facts]
    assert [fact for fact in facts if fact in (JobEnqueued, JobStarted, JobSucceeded)] == [
        JobEnqueued,
        JobStarted,
        JobSucceeded,
    ]


async def test_an_unreadable_job_is_told_and_hides_no_other(async_jobs: MemorySystem) -> None:
    """The row is skipped."""
    greeted = greeting(async_jobs.registry)
    bad = await async_jobs.service.enqueue(request(payload={"to": "nobody"}))
    await async_jobs.service.enqueue(request())
    async_jobs.store.corrupt(bad.job_id)

    await async_jobs.run_until_idle()

    assert greeted == ["Ada"]
    assert {fact.job_id for fact in async_jobs.telemetry.of(RowUnreadable)} == {bad.job_id}
