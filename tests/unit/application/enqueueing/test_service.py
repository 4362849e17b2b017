"""The service beyond the contract of `Jobs`: what it tells, whom it wakes, whom it races."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest

from async_jobs.application import failpoints
from async_jobs.application.enqueueing.service import JobService
from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.errors import (
    IllegalTransition,
    InvalidJobError,
    JobNotFoundError,
    QuotaExceededError,
    Unavailable,
)
from async_jobs.domain.facts import (
    JobCancelled,
    JobCancelRequested,
    JobEnqueued,
    JobRetried,
)
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Claimed,
    HandOffFailed,
    Leased,
    LeaseExpired,
    Retried,
    change,
)
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.ports.signal import cancellation
from async_jobs.testing.builders import a_request, an_id, later
from async_jobs.testing.contracts.scenes import (
    RollBack,
    added,
    all_jobs,
    happened,
    in_phase,
)
from tests.unit.application.stage import Stage, limits, told, woken

# --- Wrong use ---------------------------------------------------------------------------------


async def test_a_request_that_is_none_is_named(service: JobService) -> None:
    """A dict is what people try first."""
    with pytest.raises(TypeError, match="must be an EnqueueJobRequest, not dict"):
        await service.enqueue({"tenant_id": "acme"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be an EnqueueJobRequest, not str"):
        await service.enqueue_many("jobs")  # type: ignore[arg-type]


async def test_a_status_may_be_given_by_its_name(service: JobService) -> None:
    """As over HTTP."""
    enqueued = await service.enqueue(a_request())

    pending, dead = [await service.list_jobs(status=each) for each in ("pending", "dead")]

    assert [job.id for job in pending.jobs] == [enqueued.job_id]
    assert dead.jobs == ()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"status": "lost"}, "status: must be one of pending, running, succeeded, dead, cancelled"),
        ({"status": 3}, "status: must be one of pending"),
        ({"cursor": "0193"}, "cursor: must be a UUID, not str"),
        ({"limit": "7"}, "limit: must be an integer from 1 to 1000"),
    ],
)
async def test_a_wrong_argument_of_a_list_is_named(
    service: JobService, wrong: dict[str, Any], told: str
) -> None:
    """With what is allowed."""
    with pytest.raises(InvalidJobError, match=told):
        await service.list_jobs(**wrong)


async def test_paging_is_whole_whatever_the_ids(service: JobService) -> None:
    """Lists follow the ids; none is repeated or left out, of whatever version they are."""
    ids = [UUID(int=each) for each in (0, 1, 2**127, 2**128 - 1)]
    own = [uuid5(NAMESPACE_URL, str(day)) for day in range(5)]
    made = [(await service.enqueue(a_request(id=each))).job_id for each in (*own, *ids, None)]
    listed: list[UUID] = []
    cursor = None
    while True:
        page = await service.list_jobs(limit=1, cursor=cursor)
        listed += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert listed == sorted(made, reverse=True)


async def test_text_is_no_id(service: JobService) -> None:
    """It is told by the parameter's name."""
    for call in (service.get_job, service.cancel_job, service.retry_job):
        with pytest.raises(InvalidJobError, match="job_id: must be a UUID, not str"):
            await call("0193")  # type: ignore[arg-type]


# --- Enqueue ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_job_that_cannot_be_had_costs_one_look(
    stage: Stage, service: JobService, is_there: bool
) -> None:
    """Whether there is none or its row cannot be read, which the error says then."""
    job = await in_phase(stage.memory, Phase.PENDING)
    stage.memory.corrupt(job.id)

    with pytest.raises(JobNotFoundError) as told:
        await service.get_job(job.id if is_there else an_id())

    assert told.value.unreadable == ("corrupt" if is_there else "")
    assert (stage.store.calls["get"], stage.store.calls["find"]) == (1, 0)


async def test_an_enqueue_is_told_with_its_instants(stage: Stage, service: JobService) -> None:
    """What waits for how long can be measured from the fact alone."""
    enqueued = await service.enqueue(a_request(run_at=later(2)))

    (fact,) = stage.telemetry.of(JobEnqueued)
    assert (fact.job_id, fact.tenant_id, fact.attempt) == (enqueued.job_id, "acme", 0)
    assert (fact.at, fact.run_at, fact.deadline_at) == (later(0), later(2), later(62))


@pytest.mark.parametrize("ahead_seconds", [0, 5, 3_600])
async def test_a_new_job_wakes_the_schedulers(
    stage: Stage, service: JobService, ahead_seconds: float
) -> None:
    """Also when it is due later: they sleep until the next one they know of."""
    await service.enqueue(a_request(run_at=later(ahead_seconds)))

    assert await woken(stage)


async def test_a_duplicate_is_no_news(stage: Stage, service: JobService) -> None:
    """Neither facts nor a wake-up for what was there already."""
    await service.enqueue(a_request(dedupe_key="daily"))
    assert await woken(stage)

    again = await service.enqueue(a_request(dedupe_key="daily"))

    assert again.duplicate
    assert told(stage) == [JobEnqueued]
    assert not await woken(stage)


async def test_duplicates_within_a_batch_are_told_once(stage: Stage, service: JobService) -> None:
    """One of two twins is added, and that one is told."""
    batch = await service.enqueue_many([a_request(dedupe_key="daily") for _ in range(2)])

    (fact,) = stage.telemetry.of(JobEnqueued)
    assert batch == [(fact.job_id, False), (fact.job_id, True)]


async def test_an_invalid_job_of_a_batch_is_named_by_its_place(service: JobService) -> None:
    """Of a thousand jobs, which one?"""
    with pytest.raises(InvalidJobError) as caught:
        await service.enqueue_many([a_request(), a_request(payload={"at": float("nan")})])

    assert caught.value.field == "jobs[1].payload.at"


async def test_an_invalid_job_on_its_own_has_no_place(service: JobService) -> None:
    """Its field is named as the request names it."""
    with pytest.raises(InvalidJobError) as caught:
        await service.enqueue(a_request(payload={"at": float("nan")}))

    assert caught.value.field == "payload.at"


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"tenant_id": ""}, InvalidJobError),
        ({"tenant_id": "full"}, QuotaExceededError),
        ({"id": an_id()}, InvalidJobError),
    ],
    ids=["invalid", "over quota", "a foreign id"],
)
async def test_a_batch_that_is_turned_away_leaves_nothing_behind(
    bad: dict[str, Any], error: type[Exception]
) -> None:
    """No job, no fact, no wake-up, whichever job of it was wrong."""
    stage = Stage(limits({"full": TenantQuota(max_pending_jobs=0)}, notifications=UseCaseConfig()))
    if "id" in bad:
        await added(stage.memory, id=bad["id"], tenant_id="somebody")
    before = await all_jobs(stage.memory)

    with pytest.raises(error):
        await stage.service().enqueue_many([a_request(), a_request(**bad), a_request()])

    assert await all_jobs(stage.memory) == before
    assert told(stage) == []
    assert not await woken(stage)


async def test_what_was_not_committed_is_not_told(stage: Stage, service: JobService) -> None:
    """The store does not answer, so whether there is a job is unknown."""
    stage.store.down = True

    with pytest.raises(Unavailable):
        await service.enqueue(a_request())

    assert told(stage) == []
    assert not await woken(stage)


async def test_a_reply_lost_after_the_commit_can_be_asked_for_again(
    stage: Stage, service: JobService
) -> None:
    """`api.after_commit_before_reply`: the caller's own id makes the repetition harmless."""
    request = a_request(id=an_id())

    async def die() -> None:
        raise ConnectionResetError

    with (
        failpoints.armed(failpoints.API_AFTER_COMMIT_BEFORE_REPLY, die),
        pytest.raises(ConnectionResetError),
    ):
        await service.enqueue(request)
    again = await service.enqueue(request)

    assert again == (request.id, True)
    assert len(await all_jobs(stage.memory)) == 1


# --- In the caller's own transaction ---------------------------------------------------------


async def test_an_own_transaction_says_nothing_before_its_commit(
    stage: Stage, service: JobService
) -> None:
    """The schedulers are not woken before, for they could not see the job yet, and are by it."""
    async with stage.memory.transaction() as transaction:
        enqueued = await service.enqueue(a_request(), connection=transaction)
        hidden = await all_jobs(stage.memory)
        too_early = await woken(stage)

    assert hidden == []
    assert not too_early
    assert (await stage.job(enqueued.job_id)).status is JobStatus.PENDING
    assert told(stage) == []
    assert await woken(stage)


async def test_an_own_transaction_that_is_rolled_back_enqueued_nothing(
    stage: Stage, service: JobService
) -> None:
    """The job goes where the caller's other changes go."""
    with suppress(RollBack):
        async with stage.memory.transaction() as transaction:
            await service.enqueue_many([a_request(), a_request()], connection=transaction)
            raise RollBack

    assert await all_jobs(stage.memory) == []
    assert not await woken(stage)


async def test_a_connection_and_a_session_are_two_transactions(
    stage: Stage, service: JobService
) -> None:
    """Of which only one can hold the job."""
    async with stage.memory.transaction() as transaction:
        with pytest.raises(InvalidJobError, match="session: must not be given together"):
            await service.enqueue(a_request(), connection=transaction, session=transaction)
        with pytest.raises(InvalidJobError, match="session: must not be given together"):
            await service.enqueue_many([], connection=transaction, session=transaction)


async def test_a_service_needs_neither_signal_nor_telemetry(stage: Stage) -> None:
    """Polling finds its jobs, and nobody is told."""
    service = JobService(stage.config, stage.memory, clock=stage.clock, chance=stage.chance)
    enqueued = await service.enqueue(a_request())

    cancelled = await service.cancel_job(enqueued.job_id)
    retried = await service.retry_job(enqueued.job_id)

    assert (cancelled.status, retried.status) == (JobStatus.CANCELLED, JobStatus.PENDING)


# --- Cancel and retry ------------------------------------------------------------------------


async def test_a_cancelled_job_is_told_and_makes_room(stage: Stage, service: JobService) -> None:
    """What was handed off occupied a place, which a scheduler may fill at once."""
    job = await in_phase(stage.memory, Phase.HANDED_OFF)

    await service.cancel_job(job.id)

    assert told(stage) == [JobCancelled]
    assert await woken(stage)


async def test_the_worker_that_executes_a_job_is_woken_to_cancel_it(
    stage: Stage, service: JobService
) -> None:
    """That one and no other."""
    job = await in_phase(stage.memory, Phase.CLAIMED)

    await service.cancel_job(job.id)

    assert told(stage) == [JobCancelRequested]
    assert await woken(stage, cancellation("worker-1"))
    assert not await woken(stage, cancellation("worker-2"))


async def test_asking_again_for_a_cancellation_writes_nothing(
    stage: Stage, service: JobService
) -> None:
    """It is under way."""
    job = await in_phase(stage.memory, Phase.CANCELLING)

    assert await service.cancel_job(job.id) == job
    assert stage.store.calls["save"] == 0
    assert told(stage) == []


async def test_a_cancel_that_meets_a_claim_becomes_a_request(
    stage: Stage, service: JobService
) -> None:
    """The job was handed off when it was read and claimed when it was to be cancelled."""
    job = await in_phase(stage.memory, Phase.HANDED_OFF)

    async def claim() -> None:
        await happened(stage.memory, job, Claimed("worker-9", later(60)))

    stage.store.before("save", claim)

    asked = await service.cancel_job(job.id)

    assert asked == await stage.job(job)
    assert (asked.phase, asked.worker_id) == (Phase.CANCELLING, "worker-9")
    assert told(stage) == [JobCancelRequested]
    assert await woken(stage, cancellation("worker-9"))


async def test_a_claim_that_meets_a_cancel_is_lost(stage: Stage, service: JobService) -> None:
    """The worker read the job before, and its save changes nothing."""
    job = await in_phase(stage.memory, Phase.HANDED_OFF)
    claim = change(job, Claimed("worker-9", later(60)), now=later(0))

    cancelled = await service.cancel_job(job.id)
    applied = await stage.memory.save([claim])

    assert applied.ids == frozenset()
    assert await stage.job(job) == cancelled


async def test_a_cancel_that_meets_the_end_is_refused(stage: Stage, service: JobService) -> None:
    """The job died in between: it is too late."""
    job = await in_phase(stage.memory, Phase.CLAIMED, crashes=CRASHES_MAX - 1)
    stage.clock.advance(60)

    async def reap() -> None:
        await happened(stage.memory, job, LeaseExpired(), now=later(60))

    stage.store.before("save", reap)

    with pytest.raises(IllegalTransition):
        await service.cancel_job(job.id)

    assert (await stage.job(job)).status is JobStatus.DEAD


async def test_a_job_that_changes_all_the_time_is_left_alone_in_the_end(
    stage: Stage, service: JobService
) -> None:
    """A bound on the tries: nobody waits for ever, and the caller knows that it may ask again."""
    job = await added(stage.memory)

    async def change_hands() -> None:
        now = await stage.job(job)
        pending = now.phase is Phase.PENDING
        await happened(
            stage.memory, now, Leased(later(60)) if pending else HandOffFailed("no answer")
        )

    stage.store.before("save", *[change_hands] * 100)

    with pytest.raises(Unavailable, match=str(job.id)):
        await service.cancel_job(job.id)

    assert 1 < stage.store.calls["save"] <= 100
    assert told(stage) == []


async def test_a_retry_is_told_and_wakes_the_schedulers(stage: Stage, service: JobService) -> None:
    """It is due now."""
    job = await in_phase(stage.memory, Phase.DEAD)

    await service.retry_job(job.id)

    assert told(stage) == [JobRetried]
    assert await woken(stage)


async def test_a_retry_whose_dedupe_key_was_taken_says_so(
    stage: Stage, service: JobService
) -> None:
    """And is told to nobody."""
    job = await in_phase(stage.memory, Phase.DEAD, dedupe_key="daily")
    await added(stage.memory, dedupe_key="daily")

    with pytest.raises(IllegalTransition, match="dedupe key"):
        await service.retry_job(job.id)

    assert told(stage) == []
    assert not await woken(stage)


async def test_a_retry_that_meets_another_is_refused(stage: Stage, service: JobService) -> None:
    """The job lives again already, so it cannot be given another life."""
    job = await in_phase(stage.memory, Phase.DEAD)

    async def retry() -> None:
        await happened(stage.memory, job, Retried(), now=later(1))

    stage.store.before("save", retry)

    with pytest.raises(IllegalTransition):
        await service.retry_job(job.id)

    assert (await stage.job(job)).updated_at == later(1)


async def test_a_retry_asks_for_no_quota() -> None:
    """It is an operator's decision."""
    stage = Stage(limits({"acme": TenantQuota(max_pending_jobs=0)}, notifications=UseCaseConfig()))
    job = await in_phase(stage.memory, Phase.DEAD)

    retried = await stage.service().retry_job(job.id)

    assert retried.status is JobStatus.PENDING
