"""From outcomes to saved jobs: in groups, fenced, and patient while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from async_jobs.application import failpoints
from async_jobs.application.working.attempt import Attempt
from async_jobs.application.working.settlement import GROUP_MAX, Settler
from async_jobs.domain.facts import (
    JobCancelled,
    JobDied,
    JobFailed,
    JobReleased,
    JobSnoozed,
    JobSucceeded,
    StaleOutcomeDropped,
)
from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    CancelRequested,
    Change,
    Claimed,
    Failed,
    Fence,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Snoozed,
    Succeeded,
)
from async_jobs.ports.signal import DISPATCH
from async_jobs.testing.builders import an_id, later
from async_jobs.testing.contracts.scenes import happened, in_phase
from tests.unit.application.faults import Killed, unavailable
from tests.unit.application.stage import Stage, quiet


class Settling:
    """A settler on a stage, and what it has let go of."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.settled: list[Attempt] = []
        self.settler = Settler(
            stage.store,
            clock=stage.clock,
            chance=stage.chance,
            signal=stage.signal,
            telemetry=stage.telemetry,
            on_settled=self.settled.append,
        )

    async def attempt(self, **overrides: Any) -> Attempt:
        """Return an attempt of a job that was claimed until a minute from the beginning."""
        return self.of(await in_phase(self.stage.memory, Phase.CLAIMED, **overrides))

    def of(self, job: Job) -> Attempt:
        """Return an attempt of a claimed job."""
        return Attempt(job, None, timeout_seconds=900)

    async def settle(self, attempt: Attempt, event: JobEvent) -> Job:
        """Settle one outcome; returns the job as it then stands."""
        self.settler.add(attempt, event)
        await self.settler.settle_group()
        return await self.stage.job(attempt.job)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Run the settler for the length of a block, then let it end."""
        task = asyncio.create_task(self.settler.run())
        await quiet()
        yield task
        self.settler.close()
        await self.stage.seconds_until_done(task, at_most=600)
        await task


@pytest.fixture
def settling(stage: Stage) -> Settling:
    return Settling(stage)


# --- One outcome -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "phase", "fact"),
    [
        (Succeeded({"sent": True}), Phase.SUCCEEDED, JobSucceeded),
        (Failed("boom"), Phase.PENDING, JobFailed),
        (Rejected("never"), Phase.DEAD, JobDied),
        (Snoozed(later(30)), Phase.PENDING, JobSnoozed),
        (Released(), Phase.PENDING, JobReleased),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_outcome_is_saved_and_told(
    stage: Stage, settling: Settling, event: JobEvent, phase: Phase, fact: type[Any]
) -> None:
    """The lease ends, and the schedulers hear that a place is free."""
    attempt = await settling.attempt()

    job = await settling.settle(attempt, event)

    assert (job.phase, job.lease_expires_at) == (phase, None)
    assert job.worker_id == (attempt.job.worker_id if job.finished_at else None)
    assert [type(each) for each in stage.telemetry.facts] == [fact]
    assert settling.settled == [attempt]
    assert await stage.signal.wait(DISPATCH, timeout_seconds=0)


async def test_the_outcome_told_first_counts(stage: Stage, settling: Settling) -> None:
    """A handler that comes to its end after it was given up is no news any more."""
    attempt = await settling.attempt()

    async with settling.running():
        settling.settler.add(attempt, Rejected("stuck"))
        settling.settler.add(attempt, Succeeded())

    assert (await stage.job(attempt.job)).status is JobStatus.DEAD
    assert [type(fact) for fact in stage.telemetry.facts] == [JobDied]


async def test_nothing_is_asked_when_there_is_nothing_to_settle(
    stage: Stage, settling: Settling
) -> None:
    """No save, and nobody is woken."""
    await settling.settler.settle_group()

    assert not stage.store.calls
    assert not await stage.signal.wait(DISPATCH, timeout_seconds=0)


# --- Groups ----------------------------------------------------------------------------------


async def test_outcomes_that_arrive_during_a_save_form_the_next_group(
    stage: Stage, settling: Settling
) -> None:
    """Commits are few when they are slow."""
    attempts = [await settling.attempt() for _ in range(4)]
    slow = asyncio.Event()
    stage.store.before("succeed", slow.wait)

    async with settling.running():
        settling.settler.add(attempts[0], Succeeded())
        await quiet()
        for attempt in attempts[1:]:
            settling.settler.add(attempt, Succeeded())
            await quiet()
        slow.set()

    ids = [attempt.job.id for attempt in attempts]
    assert stage.store.saved == [ids[:1], ids[1:]]
    assert len(stage.telemetry.of(JobSucceeded)) == 4


async def test_an_outcome_on_its_own_does_not_wait_for_others(
    stage: Stage, settling: Settling
) -> None:
    """Commits are prompt when they are quick: the clock has not moved."""
    attempt = await settling.attempt()

    async with settling.running():
        settling.settler.add(attempt, Succeeded())
        await quiet()
        job = await stage.job(attempt.job)

    assert job.status is JobStatus.SUCCEEDED


async def test_a_group_has_a_bound(stage: Stage, settling: Settling) -> None:
    """The rest forms the next one."""
    job = (await settling.attempt()).job
    for _ in range(GROUP_MAX + 5):
        settling.settler.add(settling.of(replace(job, id=an_id())), Succeeded())

    await settling.settler.settle_group()
    await settling.settler.settle_group()

    assert [len(batch) for batch in stage.store.saved] == [GROUP_MAX, 5]


async def test_a_group_may_hold_outcomes_of_all_kinds(stage: Stage, settling: Settling) -> None:
    """Each is carried out and told."""
    events: list[JobEvent] = [Succeeded(1), Failed("boom"), Succeeded(2), Released()]
    attempts = [await settling.attempt() for _ in events]
    for attempt, event in zip(attempts, events, strict=True):
        settling.settler.add(attempt, event)

    await settling.settler.settle_group()

    jobs = [await stage.job(attempt.job) for attempt in attempts]
    assert [job.phase for job in jobs] == [
        Phase.SUCCEEDED,
        Phase.PENDING,
        Phase.SUCCEEDED,
        Phase.PENDING,
    ]
    assert [job.result for job in jobs] == [1, None, 2, None]
    told = {(type(fact), fact.job_id) for fact in stage.telemetry.facts if hasattr(fact, "job_id")}
    kinds = (JobSucceeded, JobFailed, JobSucceeded, JobReleased)
    assert told == {(kind, job.id) for kind, job in zip(kinds, jobs, strict=True)}


async def test_a_closed_settler_ends_once_everything_is_settled(
    stage: Stage, settling: Settling
) -> None:
    """What was handed in before is not lost, though the store is away for a while."""
    attempts = [await settling.attempt() for _ in range(3)]
    stage.store.before("succeed", *[unavailable] * 3)

    async with settling.running():
        for attempt in attempts:
            settling.settler.add(attempt, Succeeded())

    assert [(await stage.job(each.job)).status for each in attempts] == [JobStatus.SUCCEEDED] * 3


# --- The fence -------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["pending", "claimed again"])
async def test_an_outcome_after_the_lease_was_lost_is_dropped_and_told(
    stage: Stage, settling: Settling, again: bool
) -> None:
    """It changes nothing and is not repeated."""
    attempt = await settling.attempt()
    events: list[JobEvent] = [LeaseExpired()]
    if again:
        events += [Leased(later(300)), Claimed("worker-1", later(300))]
    now = await happened(stage.memory, attempt.job, *events, now=later(60))

    job = await settling.settle(attempt, Succeeded())

    assert job == now
    (fact,) = stage.telemetry.facts
    assert isinstance(fact, StaleOutcomeDropped)
    assert (fact.job_id, fact.outcome) == (job.id, "Succeeded")
    assert stage.store.calls["succeed"] == 1
    assert settling.settled == [attempt]


@pytest.mark.parametrize("event", [Succeeded(), Failed("boom")], ids=["succeeded", "failed"])
async def test_an_outcome_under_a_number_that_another_has_anew_is_dropped_and_told(
    stage: Stage, settling: Settling, event: JobEvent
) -> None:
    """A failover lost the first lease that had it; the second one is left alone."""
    attempt = await settling.attempt()
    anew = replace(attempt.job, worker_id="worker-2")
    await stage.memory.save([Change(Fence(attempt.job.lease_seq, attempt.job.phase), anew)])

    job = await settling.settle(attempt, event)

    assert job == anew
    assert [type(fact) for fact in stage.telemetry.facts] == [StaleOutcomeDropped]


async def test_an_outcome_of_a_forgotten_job_is_dropped(stage: Stage, settling: Settling) -> None:
    """An operator removed the row."""
    attempt = await settling.attempt()
    await happened(stage.memory, attempt.job, Succeeded())
    await stage.memory.purge("notifications", before=later(60), limit=1)
    settling.settler.add(attempt, Failed("boom"))

    await settling.settler.settle_group()

    assert [type(fact) for fact in stage.telemetry.facts] == [StaleOutcomeDropped]


async def test_a_stale_outcome_costs_the_others_of_its_group_nothing(
    stage: Stage, settling: Settling
) -> None:
    """They are saved."""
    attempts = [await settling.attempt() for _ in range(3)]
    await happened(stage.memory, attempts[1].job, LeaseExpired(), now=later(60))
    for attempt in attempts:
        settling.settler.add(attempt, Succeeded())

    await settling.settler.settle_group()

    phases = [(await stage.job(attempt.job)).phase for attempt in attempts]
    assert phases == [Phase.SUCCEEDED, Phase.PENDING, Phase.SUCCEEDED]
    assert settling.settled == attempts


async def test_a_renewal_does_not_stand_in_the_way(stage: Stage, settling: Settling) -> None:
    """It only moved the end of the lease."""
    attempt = await settling.attempt()
    await happened(stage.memory, attempt.job, Renewed(later(300)))

    job = await settling.settle(attempt, Succeeded())

    assert job.status is JobStatus.SUCCEEDED
    assert stage.store.calls["succeed"] == 1


@pytest.mark.parametrize(
    ("event", "phase"),
    [
        (Succeeded(), Phase.SUCCEEDED),
        (Rejected("never"), Phase.DEAD),
        (Failed("boom"), Phase.CANCELLED),
        (Snoozed(later(30)), Phase.CANCELLED),
        (Released(), Phase.CANCELLED),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_cancel_request_may_come_between_the_end_and_the_save(
    stage: Stage, settling: Settling, event: JobEvent, phase: Phase
) -> None:
    """A final outcome stands; one that would bring the job back gives way to the request."""
    attempt = await settling.attempt()
    await happened(stage.memory, attempt.job, CancelRequested())

    job = await settling.settle(attempt, event)

    assert (job.phase, len(stage.telemetry.of(StaleOutcomeDropped))) == (phase, 0)
    assert len(stage.telemetry.of(JobCancelled)) == (phase is Phase.CANCELLED)


async def test_an_outcome_that_cannot_happen_is_dropped(stage: Stage, settling: Settling) -> None:
    """Nobody asked for this cancellation."""
    attempt = await settling.attempt()

    job = await settling.settle(attempt, Cancelled())

    assert job == attempt.job
    assert [type(fact) for fact in stage.telemetry.facts] == [StaleOutcomeDropped]


@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_stale_outcome_does_not_take_the_place_of_a_good_one(
    stage: Stage, settling: Settling, newest_first: bool
) -> None:
    """This worker lost a lease and claimed the same job again: both attempts end together."""
    stale = await settling.attempt()
    again = await happened(
        stage.memory,
        stale.job,
        LeaseExpired(),
        Leased(later(300)),
        Claimed("worker-1", later(300)),
        now=later(60),
    )
    good = settling.of(again)
    outcomes = [(good, Succeeded({"attempt": 2})), (stale, Succeeded({"attempt": 1}))]
    for attempt, event in outcomes if newest_first else outcomes[::-1]:
        settling.settler.add(attempt, event)

    async with settling.running():
        await quiet()

    job = await stage.job(again)
    assert (job.status, job.result) == (JobStatus.SUCCEEDED, {"attempt": 2})
    assert len(stage.telemetry.of(StaleOutcomeDropped)) == 1
    assert len(settling.settled) == 2


# --- A store that does not answer ------------------------------------------------------------


async def test_a_settle_is_repeated_while_the_store_is_away(
    stage: Stage, settling: Settling
) -> None:
    """With pauses that grow; the outcome waits."""
    attempt = await settling.attempt()
    stage.store.down = True

    async with settling.running():
        settling.settler.add(attempt, Succeeded())
        await stage.elapse(30)
        tries = stage.store.calls["succeed"]
        stage.store.down = False
        await stage.elapse(5)

    assert 8 <= tries <= 20
    assert (await stage.job(attempt.job)).status is JobStatus.SUCCEEDED
    assert len(stage.telemetry.of(JobSucceeded)) == 1


async def test_a_save_whose_reply_was_lost_counts_as_applied(
    stage: Stage, settling: Settling
) -> None:
    """The second time says applied, and the fact is told once."""
    attempt = await settling.attempt()
    stage.store.after("save", unavailable)

    async with settling.running():
        settling.settler.add(attempt, Failed("boom"))
        await stage.elapse(1)

    job = await stage.job(attempt.job)
    assert (job.phase, job.attempts, len(job.errors)) == (Phase.PENDING, 1, 1)
    assert [type(fact) for fact in stage.telemetry.facts] == [JobFailed]


async def test_a_success_whose_reply_was_lost_counts_as_applied(
    stage: Stage, settling: Settling
) -> None:
    """Though it is told again at a later instant."""
    attempt = await settling.attempt()
    stage.store.after("succeed", unavailable)

    async with settling.running():
        settling.settler.add(attempt, Succeeded("done"))
        await stage.elapse(1)

    job = await stage.job(attempt.job)
    assert (job.phase, job.result, stage.store.calls["succeed"]) == (Phase.SUCCEEDED, "done", 2)
    assert [type(fact) for fact in stage.telemetry.facts] == [JobSucceeded]


async def test_a_settle_is_given_up_when_the_lease_is_over(
    stage: Stage, settling: Settling
) -> None:
    """The job belongs to whoever claims it next; other outcomes wait no longer."""
    attempt = await settling.attempt()
    stage.store.down = True

    async with settling.running():
        settling.settler.add(attempt, Succeeded())
        await stage.elapse(70, step_seconds=5)
        given_up = list(settling.settled)
        stage.store.down = False

    assert given_up == [attempt]
    assert (await stage.job(attempt.job)).phase is Phase.CLAIMED
    assert [type(fact) for fact in stage.telemetry.facts] == [StaleOutcomeDropped]


async def test_a_lease_that_is_being_renewed_is_not_over(stage: Stage, settling: Settling) -> None:
    """Renewals have a connection of their own, and get through where the settler does not."""
    attempt = await settling.attempt()
    stage.store.down = True

    async with settling.running():
        settling.settler.add(attempt, Succeeded())
        for _ in range(4):
            await stage.elapse(30, step_seconds=5)
            until = later(stage.clock.monotonic() + 60)
            attempt.job = await happened(
                stage.memory, attempt.job, Renewed(until), now=stage.clock.now()
            )
        stage.store.down = False
        await stage.elapse(6)

    assert (await stage.job(attempt.job)).status is JobStatus.SUCCEEDED


async def test_a_group_is_not_given_up_while_one_lease_of_it_lives(
    stage: Stage, settling: Settling
) -> None:
    """The store may come back in time for that one."""
    over = await settling.attempt()
    alive = await settling.attempt()
    alive.job = await happened(stage.memory, alive.job, Renewed(later(300)))
    stage.store.down = True

    async with settling.running():
        settling.settler.add(over, Succeeded())
        settling.settler.add(alive, Succeeded())
        await stage.elapse(120, step_seconds=5)
        stage.store.down = False
        await stage.elapse(6)

    assert (await stage.job(alive.job)).status is JobStatus.SUCCEEDED


# --- Crashes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failpoint", "phase"),
    [
        (failpoints.WORKER_AFTER_HANDLER_BEFORE_OUTCOME, Phase.CLAIMED),
        (failpoints.WORKER_AFTER_OUTCOME, Phase.SUCCEEDED),
    ],
)
async def test_a_worker_may_die_before_and_after_the_outcome(
    stage: Stage, settling: Settling, failpoint: str, phase: Phase
) -> None:
    """Before, the lease runs out and the job is tried again; after, nothing is left to do."""
    attempt = await settling.attempt()
    settling.settler.add(attempt, Succeeded())

    async def die() -> None:
        raise Killed

    with failpoints.armed(failpoint, die), pytest.raises(Killed):
        await settling.settler.settle_group()

    assert (await stage.job(attempt.job)).phase is phase
