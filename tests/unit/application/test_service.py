"""The service beyond the contract of `Jobs`: what it tells, whom it wakes, whom it races."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from async_jobs.application import failpoints
from async_jobs.application.service import JobService
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import (
    IllegalTransition,
    InvalidJobError,
    QuotaExceededError,
    Unavailable,
)
from async_jobs.domain.facts import (
    Fact,
    JobCancelled,
    JobCancelRequested,
    JobDied,
    JobEnqueued,
    JobFailed,
    JobLeased,
    JobRetried,
    JobStarted,
    JobSucceeded,
)
from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    CancelRequested,
    Claimed,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Renewed,
    Retried,
    change,
)
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.ports.signal import DISPATCH, cancellation
from async_jobs.testing.builders import a_request, an_id, later
from async_jobs.testing.contracts.scenes import (
    RollBack,
    added,
    all_jobs,
    happened,
    in_phase,
    race,
)
from tests.unit.application.stage import Stage, limits

DELAYS = BackoffPolicy(base_delay_seconds=30)


@pytest.fixture
def service(stage: Stage) -> JobService:
    return stage.service()


async def woken(stage: Stage, topic: str = DISPATCH) -> bool:
    """Tell whether somebody was woken since this was asked last."""
    return await stage.signal.wait(topic, timeout_seconds=0)


def told(stage: Stage) -> list[type[Fact]]:
    """Return the kinds of all facts told."""
    return [type(fact) for fact in stage.telemetry.facts]


# --- Enqueue ---------------------------------------------------------------------------------


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
    """The schedulers are not woken, for they could not see the job yet; their poll finds it."""
    async with stage.memory.transaction() as transaction:
        enqueued = await service.enqueue(a_request(), connection=transaction)
        hidden = await all_jobs(stage.memory)

    assert hidden == []
    assert (await stage.job(enqueued.job_id)).status is JobStatus.PENDING
    assert told(stage) == []
    assert not await woken(stage)


async def test_an_own_transaction_that_is_rolled_back_enqueued_nothing(
    stage: Stage, service: JobService
) -> None:
    """The job goes where the caller's other changes go."""
    with suppress(RollBack):
        async with stage.memory.transaction() as transaction:
            await service.enqueue_many([a_request(), a_request()], connection=transaction)
            raise RollBack

    assert await all_jobs(stage.memory) == []


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
    job = await in_phase(stage.memory, Phase.CLAIMED, max_attempts=1)
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


# --- Loops of one's own: leasing -------------------------------------------------------------


async def lease(service: JobService, **arguments: Any) -> list[Job]:
    """Lease jobs of the use case `notifications` as a worker of one's own."""
    return await service.lease_jobs_for_use_case(
        "notifications", **{"worker_id": "mine", **arguments}
    )


async def test_leased_jobs_are_claimed_and_charged(stage: Stage, service: JobService) -> None:
    """The caller executes them from here on, as a worker would."""
    job = await added(stage.memory)

    (mine,) = await lease(service, lease_seconds=30)

    assert mine == await stage.job(job)
    assert (mine.phase, mine.worker_id, mine.attempts) == (Phase.CLAIMED, "mine", 1)
    assert mine.lease_expires_at == later(30)


async def test_leasing_is_told_like_a_workers_start(stage: Stage, service: JobService) -> None:
    """So that attainment counts these jobs too."""
    job = await added(stage.memory)
    stage.clock.advance(2)

    await lease(service)

    assert told(stage) == [JobLeased, JobStarted]
    (started,) = stage.telemetry.of(JobStarted)
    assert (started.job_id, started.worker_id) == (job.id, "mine")
    assert started.start_latency == timedelta(seconds=2)


async def test_the_most_urgent_jobs_are_leased_up_to_the_limit(
    stage: Stage, service: JobService
) -> None:
    """By the scheduling policy, like everything."""
    jobs = [await added(stage.memory, deadline_at=later(60 - i)) for i in range(4)]

    mine = await lease(service, limit=2)

    assert {job.id for job in mine} == {job.id for job in jobs[2:]}


async def test_no_more_than_the_limit_is_leased_whatever_the_queues() -> None:
    """A use case whose jobs name two queues has one limit all the same."""
    stage = Stage(limits(notifications=UseCaseConfig(), reports=UseCaseConfig()))
    for queue in ("notifications", "reports") * 3:
        await added(stage.memory, queue=queue)

    mine = await lease(stage.service(), limit=3)

    running = [job for job in await all_jobs(stage.memory) if job.status is JobStatus.RUNNING]
    assert len(mine) == len(running) == 3


async def test_leasing_keeps_to_the_capacity() -> None:
    """What others run counts, and a call finds nothing when the use case is full."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=3)))
    await in_phase(stage.memory, Phase.CLAIMED)
    for _ in range(5):
        await added(stage.memory)

    answers = await race(*(lease(stage.service()) for _ in range(3)))

    assert sorted(len(mine) for mine in answers) == [0, 0, 2]


async def test_what_is_scheduled_for_later_is_leased_once_it_is_due(
    stage: Stage, service: JobService
) -> None:
    """Without another scheduler at work: a store may show what is due only once promoted."""
    job = await added(stage.memory, run_at=later(10))

    early = await lease(service)
    stage.clock.advance(10)
    mine = await lease(service)

    assert early == []
    assert [each.id for each in mine] == [job.id]
    assert stage.store.calls["promote"] == 2


async def test_a_cancel_between_lease_and_claim_costs_only_its_job(
    stage: Stage, service: JobService
) -> None:
    """The others are leased and returned."""
    jobs = [await added(stage.memory) for _ in range(3)]

    async def cancel() -> None:
        await happened(stage.memory, await stage.job(jobs[1]), Cancelled())

    stage.store.before("get", cancel)

    mine = await lease(service)

    assert {job.id for job in mine} == {jobs[0].id, jobs[2].id}


async def test_a_cancel_that_overtakes_the_claim_costs_only_its_job(
    stage: Stage, service: JobService
) -> None:
    """The compare-and-set of the claim fails for that one."""
    jobs = [await added(stage.memory) for _ in range(2)]

    async def cancel() -> None:
        await happened(stage.memory, await stage.job(jobs[0]), Cancelled())

    stage.store.before("save", cancel)

    mine = await lease(service)

    assert [job.id for job in mine] == [jobs[1].id]
    assert [fact.job_id for fact in stage.telemetry.of(JobStarted)] == [jobs[1].id]


async def test_an_unknown_use_case_cannot_be_leased(service: JobService) -> None:
    """A typing error is not an empty answer."""
    with pytest.raises(InvalidJobError, match="use_case"):
        await service.lease_jobs_for_use_case("notification", worker_id="mine")


# --- Loops of one's own: outcomes ------------------------------------------------------------


async def test_a_success_is_saved_with_its_result(stage: Stage, service: JobService) -> None:
    """And makes room, which a scheduler may fill at once."""
    job = await in_phase(stage.memory, Phase.CLAIMED)
    stage.clock.advance(3)

    done = await service.mark_job_succeeded(job, {"sent": True})

    assert done == await stage.job(job)
    assert (done.status, done.result) == (JobStatus.SUCCEEDED, {"sent": True})
    (fact,) = stage.telemetry.of(JobSucceeded)
    assert fact.ran_for == timedelta(seconds=3)
    assert await woken(stage)


async def test_a_result_that_is_no_json_is_refused(stage: Stage, service: JobService) -> None:
    """The job still runs, and the caller may tell another outcome."""
    job = await in_phase(stage.memory, Phase.CLAIMED)

    with pytest.raises(InvalidJobError, match="result"):
        await service.mark_job_succeeded(job, {"at": later(0)})  # type: ignore[dict-item]

    assert await stage.job(job) == job


async def test_a_retry_waits_for_its_backoff(stage: Stage, service: JobService) -> None:
    """The job's own policy decides."""
    job = await in_phase(stage.memory, Phase.CLAIMED, backoff_policy=DELAYS)

    back = await service.mark_job_retry(job, "the mail server is busy")

    assert back == await stage.job(job)
    assert (back.status, back.run_at) == (JobStatus.PENDING, later(30))
    assert back.last_error == "the mail server is busy"
    assert told(stage) == [JobFailed]


async def test_a_retry_may_name_its_own_delay(stage: Stage, service: JobService) -> None:
    """Instead of the backoff's."""
    job = await in_phase(stage.memory, Phase.CLAIMED, backoff_policy=DELAYS)

    back = await service.mark_job_retry(job, "busy", retry_after=timedelta(seconds=7))

    assert back.run_at == later(7)


async def test_a_retry_after_the_last_attempt_is_the_end(stage: Stage, service: JobService) -> None:
    """Attempts never exceed their maximum."""
    job = await in_phase(stage.memory, Phase.CLAIMED, max_attempts=1)

    dead = await service.mark_job_retry(job, "busy")

    assert dead.status is JobStatus.DEAD
    assert told(stage) == [JobDied]


async def test_a_job_can_be_marked_dead(stage: Stage, service: JobService) -> None:
    """Whatever attempts it has left; the error may be of any length."""
    job = await in_phase(stage.memory, Phase.CLAIMED)

    dead = await service.mark_job_dead(job, "no such address\0" + "x" * 5_000)

    assert (dead.status, dead.attempts) == (JobStatus.DEAD, 1)
    assert dead.last_error is not None
    assert len(dead.last_error) == 2_000


OUTCOMES = ["succeeded", "retry", "dead"]


async def mark(service: JobService, outcome: str, job: Job) -> Job:
    """Tell one of the outcomes of a leased job."""
    match outcome:
        case "succeeded":
            return await service.mark_job_succeeded(job)
        case "retry":
            return await service.mark_job_retry(job, "busy")
        case _:
            return await service.mark_job_dead(job, "no such address")


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("again", [False, True], ids=["pending", "claimed again"])
async def test_an_outcome_after_the_lease_was_lost_changes_nothing(
    stage: Stage, service: JobService, outcome: str, again: bool
) -> None:
    """Whether the job waits for another worker or has one: the caller's lease is history."""
    job = await in_phase(stage.memory, Phase.CLAIMED)
    stage.clock.advance(60)
    events: list[JobEvent] = [LeaseExpired()]
    if again:
        events += [Leased(later(300)), Claimed("mine", later(300))]
    now = await happened(stage.memory, job, *events, now=later(60))

    with pytest.raises(IllegalTransition, match="the lease was lost"):
        await mark(service, outcome, job)

    assert await stage.job(job) == now
    assert told(stage) == []


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_renewal_in_between_does_not_stand_in_the_way(
    stage: Stage, service: JobService, outcome: str
) -> None:
    """The lease is still the caller's."""
    job = await in_phase(stage.memory, Phase.CLAIMED)
    await happened(stage.memory, job, Renewed(later(300)))

    after = await mark(service, outcome, job)

    assert after == await stage.job(job)
    assert after.status is not JobStatus.RUNNING


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("succeeded", JobStatus.SUCCEEDED),
        ("retry", JobStatus.CANCELLED),
        ("dead", JobStatus.DEAD),
    ],
)
async def test_an_outcome_after_a_cancel_request_stands_when_it_is_final(
    stage: Stage, service: JobService, outcome: str, status: JobStatus
) -> None:
    """The caller need not know of the request; only a retry gives way to it."""
    job = await in_phase(stage.memory, Phase.CLAIMED)
    await happened(stage.memory, job, CancelRequested())

    after = await mark(service, outcome, job)

    assert after == await stage.job(job)
    assert after.status is status


async def test_an_outcome_of_a_job_that_was_never_leased_is_refused(
    stage: Stage, service: JobService
) -> None:
    """Handed off is not claimed."""
    job = await in_phase(stage.memory, Phase.HANDED_OFF)

    with pytest.raises(IllegalTransition):
        await service.mark_job_succeeded(job)

    assert await stage.job(job) == job


async def test_an_outcome_is_fenced_by_its_lease_not_by_what_the_caller_knows(
    stage: Stage, service: JobService
) -> None:
    """A job object with another lease's number writes in vain."""
    job = await in_phase(stage.memory, Phase.CLAIMED)

    with pytest.raises(IllegalTransition):
        await service.mark_job_succeeded(replace(job, lease_seq=job.lease_seq - 1))

    assert await stage.job(job) == job
