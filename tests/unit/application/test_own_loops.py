"""The service for teams with loops of their own: leasing jobs and telling their outcomes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from async_jobs.application.own_loops import OwnLoops
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import (
    IllegalTransition,
    InvalidJobError,
)
from async_jobs.domain.facts import (
    JobDied,
    JobFailed,
    JobLeased,
    JobStarted,
    JobSucceeded,
)
from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    CancelRequested,
    Claimed,
    JobEvent,
    Leased,
    LeaseExpired,
    Renewed,
)
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.testing.builders import later
from async_jobs.testing.contracts.scenes import (
    added,
    all_jobs,
    happened,
    in_phase,
    race,
)
from tests.unit.application.stage import Stage, limits, told, woken

DELAYS = BackoffPolicy(base_delay_seconds=30, jitter=0)


# --- Leasing ------------------------------------------------------------------------------------


async def lease(service: OwnLoops, **arguments: Any) -> list[Job]:
    """Lease jobs of the use case `notifications` as a worker of one's own."""
    return await service.lease_jobs_for_use_case(
        "notifications", **{"worker_id": "mine", **arguments}
    )


async def test_leased_jobs_are_claimed_and_charged(stage: Stage, service: OwnLoops) -> None:
    """The caller executes them from here on, as a worker would."""
    job = await added(stage.memory)

    (mine,) = await lease(service, lease_seconds=30)

    assert mine == await stage.job(job)
    assert (mine.phase, mine.worker_id, mine.attempts) == (Phase.CLAIMED, "mine", 1)
    assert mine.lease_expires_at == later(30)


async def test_leasing_is_told_like_a_workers_start(stage: Stage, service: OwnLoops) -> None:
    """So that attainment counts these jobs too."""
    job = await added(stage.memory)
    stage.clock.advance(2)

    await lease(service)

    assert told(stage) == [JobLeased, JobStarted]
    (started,) = stage.telemetry.of(JobStarted)
    assert (started.job_id, started.worker_id) == (job.id, "mine")
    assert started.start_latency == timedelta(seconds=2)


async def test_the_most_urgent_jobs_are_leased_up_to_the_limit(
    stage: Stage, service: OwnLoops
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
    stage: Stage, service: OwnLoops
) -> None:
    """Without another scheduler at work: a store may show what is due only once promoted."""
    job = await added(stage.memory, run_at=later(10))

    early = await lease(service)
    stage.clock.advance(10)
    mine = await lease(service)

    assert early == []
    assert [each.id for each in mine] == [job.id]
    assert stage.store.calls["promote"] == 2


async def test_a_cancel_that_overtakes_the_claim_costs_only_its_job(
    stage: Stage, service: OwnLoops
) -> None:
    """The compare-and-set of the claim fails for that one."""
    jobs = [await added(stage.memory) for _ in range(2)]

    async def cancel() -> None:
        await happened(stage.memory, await stage.job(jobs[0]), Cancelled())

    stage.store.before("claim", cancel)

    mine = await lease(service)

    assert [job.id for job in mine] == [jobs[1].id]
    assert [fact.job_id for fact in stage.telemetry.of(JobStarted)] == [jobs[1].id]


async def test_an_unknown_use_case_cannot_be_leased(service: OwnLoops) -> None:
    """A typing error is not an empty answer."""
    with pytest.raises(InvalidJobError, match="use_case"):
        await service.lease_jobs_for_use_case("notification", worker_id="mine")


# --- Outcomes -----------------------------------------------------------------------------------


async def test_a_success_is_saved_with_its_result(stage: Stage, service: OwnLoops) -> None:
    """And makes room, which a scheduler may fill at once."""
    job = await in_phase(stage.memory, Phase.CLAIMED)
    stage.clock.advance(3)

    done = await service.mark_job_succeeded(job, {"sent": True})

    assert done == await stage.job(job)
    assert (done.status, done.result) == (JobStatus.SUCCEEDED, {"sent": True})
    (fact,) = stage.telemetry.of(JobSucceeded)
    assert fact.ran_for == timedelta(seconds=3)
    assert await woken(stage)


async def test_a_result_that_is_no_json_is_refused(stage: Stage, service: OwnLoops) -> None:
    """The job still runs, and the caller may tell another outcome."""
    job = await in_phase(stage.memory, Phase.CLAIMED)

    with pytest.raises(InvalidJobError, match="result"):
        await service.mark_job_succeeded(job, {"at": later(0)})  # type: ignore[dict-item]

    assert await stage.job(job) == job


async def test_a_retry_waits_for_its_backoff(stage: Stage, service: OwnLoops) -> None:
    """The job's own policy decides."""
    job = await in_phase(stage.memory, Phase.CLAIMED, backoff_policy=DELAYS)

    back = await service.mark_job_retry(job, "the mail server is busy")

    assert back == await stage.job(job)
    assert (back.status, back.run_at) == (JobStatus.PENDING, later(30))
    assert back.last_error == "the mail server is busy"
    assert told(stage) == [JobFailed]


async def test_a_retry_may_name_its_own_delay(stage: Stage, service: OwnLoops) -> None:
    """Instead of the backoff's."""
    job = await in_phase(stage.memory, Phase.CLAIMED, backoff_policy=DELAYS)

    back = await service.mark_job_retry(job, "busy", retry_after=timedelta(seconds=7))

    assert back.run_at == later(7)


async def test_a_retry_after_the_last_attempt_is_the_end(stage: Stage, service: OwnLoops) -> None:
    """Attempts never exceed their maximum."""
    job = await in_phase(stage.memory, Phase.CLAIMED, max_attempts=1)

    dead = await service.mark_job_retry(job, "busy")

    assert dead.status is JobStatus.DEAD
    assert told(stage) == [JobDied]


async def test_a_job_can_be_marked_dead(stage: Stage, service: OwnLoops) -> None:
    """Whatever attempts it has left; the error may be of any length."""
    job = await in_phase(stage.memory, Phase.CLAIMED)

    dead = await service.mark_job_dead(job, "no such address\0" + "x" * 5_000)

    assert (dead.status, dead.attempts) == (JobStatus.DEAD, 1)
    assert dead.last_error is not None
    assert len(dead.last_error) == 2_000


OUTCOMES = ["succeeded", "retry", "dead"]


async def mark(service: OwnLoops, outcome: str, job: Job) -> Job:
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
    stage: Stage, service: OwnLoops, outcome: str, again: bool
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
async def test_an_outcome_may_be_told_again(stage: Stage, service: OwnLoops, outcome: str) -> None:
    """The reply to the first call was lost; the second one says the same and changes nothing."""
    job = await in_phase(stage.memory, Phase.CLAIMED)
    first = await mark(service, outcome, job)
    stage.clock.advance(3)

    again = await mark(service, outcome, job)

    assert again == first == await stage.job(job)


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_another_outcome_of_the_same_lease_comes_too_late(
    stage: Stage, service: OwnLoops, outcome: str
) -> None:
    """A lease has one outcome."""
    job = await in_phase(stage.memory, Phase.CLAIMED)
    await service.mark_job_retry(job, "something else")

    with pytest.raises(IllegalTransition, match="the lease was lost"):
        await mark(service, outcome, job)


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_renewal_in_between_does_not_stand_in_the_way(
    stage: Stage, service: OwnLoops, outcome: str
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
    stage: Stage, service: OwnLoops, outcome: str, status: JobStatus
) -> None:
    """The caller need not know of the request; only a retry gives way to it."""
    job = await in_phase(stage.memory, Phase.CLAIMED)
    await happened(stage.memory, job, CancelRequested())

    after = await mark(service, outcome, job)

    assert after == await stage.job(job)
    assert after.status is status


async def test_an_outcome_of_a_job_that_was_never_leased_is_refused(
    stage: Stage, service: OwnLoops
) -> None:
    """Handed off is not claimed."""
    job = await in_phase(stage.memory, Phase.HANDED_OFF)

    with pytest.raises(IllegalTransition):
        await service.mark_job_succeeded(job)

    assert await stage.job(job) == job


async def test_an_outcome_is_fenced_by_its_lease_not_by_what_the_caller_knows(
    stage: Stage, service: OwnLoops
) -> None:
    """A job object with another lease's number writes in vain."""
    job = await in_phase(stage.memory, Phase.CLAIMED)

    with pytest.raises(IllegalTransition):
        await service.mark_job_succeeded(replace(job, lease_seq=job.lease_seq - 1))

    assert await stage.job(job) == job
