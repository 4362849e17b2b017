"""The scheduler: what one tick does, what a failure costs, and when the loop ticks."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from async_jobs.application import failpoints
from async_jobs.application.scheduler import Scheduler, Tick
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import (
    DeadlineMissed,
    JobDied,
    JobFailed,
    JobHandOffFailed,
    JobLeased,
    JobsPurged,
    LeaseExpired,
    UseCaseSkipped,
)
from async_jobs.domain.job import HandOff, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Claimed,
    HandOffFailed,
    Leased,
    Renewed,
    Succeeded,
)
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.ports.queue import JobQueue, Sent
from async_jobs.testing.builders import a_job, a_request, a_worker, an_id, later
from async_jobs.testing.clocks import ManualChance, let_others_run
from async_jobs.testing.contracts.scenes import (
    added,
    all_jobs,
    happened,
    in_phase,
    race,
    stored,
)
from tests.unit.application.stage import Stage, handoff_of, limits, quiet, unavailable

DELAYS = BackoffPolicy(base_delay_seconds=30)


class Killed(Exception):
    """The process dies here."""


async def die() -> None:
    """Be a process that is killed."""
    raise Killed


async def count(stage: Stage, phase: Phase) -> int:
    """Return how many jobs are in a phase."""
    return sum(job.phase is phase for job in await all_jobs(stage.memory))


async def sent(stage: Stage, queue: str = "notifications") -> list[HandOff]:
    """Receive what is on a lane."""
    deliveries = await stage.queue(queue).inner.receive(max_messages=1_000, wait_seconds=0)
    return [delivery.handoff for delivery in deliveries if delivery.handoff is not None]


# --- One tick --------------------------------------------------------------------------------


async def test_a_tick_hands_off_what_is_due() -> None:
    """From the backlog to the lane."""
    stage = Stage()
    job = await added(stage.memory)

    tick = await stage.scheduler().tick()

    assert tick == Tick(leased=1)
    assert await sent(stage) == [handoff_of(await stage.job(job))]


async def test_a_tick_without_work_is_idle() -> None:
    """Nothing happened, and nothing is known to be left to do."""
    stage = Stage()

    tick = await stage.scheduler().tick()

    assert tick.idle
    assert stage.telemetry.facts == []


async def test_what_is_reaped_is_dispatched_in_the_same_tick() -> None:
    """A hand-off was lost: it is sent again after the dispatch timeout and one tick."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.HANDED_OFF)
    stage.clock.advance(60)

    tick = await stage.scheduler().tick()

    assert tick == Tick(leased=1, reaped=1)
    again = await stage.job(job)
    assert (again.lease_seq, again.attempts, again.dispatches) == (2, 0, 1)
    assert await sent(stage) == [handoff_of(again)]


async def test_a_tick_tells_when_the_next_job_comes_due() -> None:
    """So that the loop need not wait for its interval."""
    stage = Stage()
    await added(stage.memory, run_at=later(7))

    tick = await stage.scheduler().tick()

    assert tick.next_run_at == later(7)
    assert tick.idle


async def test_a_tick_asks_for_more_when_not_everything_due_was_promoted() -> None:
    """A store that promotes by and by says so with an instant that has passed."""
    stage = Stage()
    upcoming = await stage.memory.promote(later(0), limit=1)
    stage.clock.advance(1)

    class Slow(type(stage.store)):  # type: ignore[misc]
        async def promote(self, *args: Any, **kwargs: Any) -> Any:
            return upcoming._replace(run_at=later(1))

    tick = await stage.scheduler(store=Slow(stage.memory)).tick()

    assert tick.more


async def test_a_failed_tick_leaves_what_it_did() -> None:
    """What was reaped stays reaped, and the rest waits for the next tick."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.HANDED_OFF)
    stage.clock.advance(60)
    stage.store.before("turn", unavailable)
    scheduler = stage.scheduler()

    with pytest.raises(Unavailable):
        await scheduler.tick()
    between = await stage.job(job)
    tick = await scheduler.tick()

    assert between.phase is Phase.PENDING
    assert tick.leased == 1


async def test_a_use_case_that_fails_does_not_stop_the_tick() -> None:
    """It is told and skipped; the others are handed off, reaped and purged."""
    stage = Stage(limits(notifications=UseCaseConfig(), reports=UseCaseConfig()))
    stage.store.broken.add("notifications")
    await added(stage.memory)
    mine = await added(stage.memory, use_case="reports")

    tick = await stage.scheduler().tick()

    assert tick.leased == 1
    assert [handoff.job_id for handoff in await sent(stage, "reports")] == [mine.id]
    assert [fact.use_case for fact in stage.telemetry.of(UseCaseSkipped)] == ["notifications"]


# --- Reaping ---------------------------------------------------------------------------------


async def test_a_dead_workers_job_is_tried_again_after_its_backoff() -> None:
    """The attempt is charged, so a job that kills its worker ends up dead."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.CLAIMED, backoff_policy=DELAYS)
    scheduler = stage.scheduler()
    stage.clock.advance(60)

    reaping = await scheduler.tick()
    back = await stage.job(job)
    stage.clock.advance(30)
    leasing = await scheduler.tick()

    assert (reaping.reaped, reaping.leased, leasing.leased) == (1, 0, 1)
    assert (back.phase, back.attempts, back.run_at) == (Phase.PENDING, 1, later(90))
    assert back.last_error == "lease expired"


async def test_a_job_whose_last_worker_died_is_dead() -> None:
    """Attempts never exceed their maximum, whoever ends them."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.CLAIMED, max_attempts=1)
    stage.clock.advance(60)

    await stage.scheduler().tick()

    assert (await stage.job(job)).status is JobStatus.DEAD
    assert len(stage.telemetry.of(JobDied)) == 1


async def test_a_lease_that_ran_out_is_told() -> None:
    """With its worker, so that the one who died can be found."""
    stage = Stage()
    await in_phase(stage.memory, Phase.HANDED_OFF)
    await in_phase(stage.memory, Phase.CLAIMED)
    stage.clock.advance(60)

    await stage.scheduler().tick()

    told = {(fact.claimed, fact.worker_id) for fact in stage.telemetry.of(LeaseExpired)}
    assert told == {(False, None), (True, "worker-1")}
    assert len(stage.telemetry.of(JobFailed)) == 1


async def test_a_lease_is_left_alone_until_it_is_over() -> None:
    """Its last moment is the worker's."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.CLAIMED)
    stage.clock.advance(59.999)

    tick = await stage.scheduler().tick()

    assert tick.reaped == 0
    assert await stage.job(job) == job


@pytest.mark.parametrize(
    "event", [Succeeded({"sent": True}), Renewed(later(120))], ids=["settled", "renewed"]
)
async def test_a_worker_that_comes_in_between_wins_over_the_reaper(
    event: Succeeded | Renewed,
) -> None:
    """`reaper.between_read_and_save`: the reaper read a lease that was about to be over."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.CLAIMED)
    stage.clock.advance(60)

    async def come_in_between() -> None:
        await happened(stage.memory, job, event, now=later(59.999))

    with failpoints.armed(failpoints.REAPER_BETWEEN_READ_AND_SAVE, come_in_between):
        tick = await stage.scheduler().tick()

    after = await stage.job(job)
    assert (tick.reaped, after.updated_at) == (0, later(59.999))
    assert stage.telemetry.of(LeaseExpired) == []


async def test_a_job_that_settled_in_between_costs_the_others_nothing() -> None:
    """Row by row on conflict."""
    stage = Stage()
    jobs = [await in_phase(stage.memory, Phase.CLAIMED) for _ in range(3)]
    stage.clock.advance(60)

    async def settle() -> None:
        await happened(stage.memory, jobs[1], Succeeded(), now=later(60))

    with failpoints.armed(failpoints.REAPER_BETWEEN_READ_AND_SAVE, settle):
        tick = await stage.scheduler().tick()

    assert tick.reaped == 2
    assert await count(stage, Phase.PENDING) == 2


async def test_two_reapers_end_a_lease_once() -> None:
    """Both read it; one save is applied, and one fact is told."""
    stage = Stage()
    await in_phase(stage.memory, Phase.CLAIMED, backoff_policy=replace(DELAYS, jitter=1.0))
    stage.clock.advance(60)

    ticks = await race(*(stage.scheduler().tick() for _ in range(2)))

    assert sum(tick.reaped for tick in ticks) == len(stage.telemetry.of(LeaseExpired)) == 1


async def test_what_was_cancelled_while_its_worker_died_stays_cancelled() -> None:
    """The request outlives the attempt it met."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.CANCELLING)
    stage.clock.advance(60)

    await stage.scheduler().tick()

    assert (await stage.job(job)).status is JobStatus.CANCELLED


async def test_a_bound_on_the_reaping_is_met_again_at_once() -> None:
    """A host with many jobs died: none of them waits for an interval because of the bound."""
    stage = Stage()
    for _ in range(5):
        await in_phase(stage.memory, Phase.CLAIMED, backoff_policy=DELAYS)
    stage.clock.advance(60)
    scheduler = stage.scheduler(reap_limit=2)

    ticks = [await scheduler.tick() for _ in range(4)]

    assert [tick.reaped for tick in ticks] == [2, 2, 1, 0]
    assert [tick.more for tick in ticks] == [True, True, False, False]


async def test_the_reaper_looks_once_an_interval() -> None:
    """However often the scheduler is woken."""
    stage = Stage()
    scheduler = stage.scheduler(interval_seconds=2)

    for _ in range(8):
        await scheduler.tick()
        stage.clock.advance(0.5)

    assert stage.store.calls["expired"] == 2


# --- The hand-off window ---------------------------------------------------------------------


async def waiting(stage: Stage, jobs: int, **overrides: Any) -> None:
    """Add so many jobs that are due."""
    await stored(stage.memory, *(a_job(**overrides) for _ in range(jobs)))


def wide() -> Stage:
    """Return a stage whose use cases are limited by their windows only."""
    return Stage(
        limits(
            notifications=UseCaseConfig(max_concurrent=1_000),
            reports=UseCaseConfig(max_concurrent=1_000),
        )
    )


async def test_without_a_live_worker_a_small_window_goes_out() -> None:
    """The first worker to come finds work."""
    stage = wide()
    await waiting(stage, 50)

    tick = await stage.scheduler(window_min=4).tick()

    assert tick.leased == 4


async def test_two_hand_offs_a_live_slot_may_wait() -> None:
    """Of the queue's own workers, whatever others there are."""
    stage = wide()
    await stage.workers.announce(a_worker(slots=3))
    await stage.workers.announce(a_worker(slots=5, queues=("reports", "notifications")))
    await stage.workers.announce(a_worker(slots=9, queues=("reports",)))
    await waiting(stage, 50)

    tick = await stage.scheduler(window_min=4).tick()

    assert tick.leased == 2 * (3 + 5)


async def test_what_workers_claim_makes_room_in_the_window() -> None:
    """Only what waits on the lane counts."""
    stage = wide()
    await waiting(stage, 50)
    scheduler = stage.scheduler(window_min=4)

    first = await scheduler.tick()
    full = await scheduler.tick()
    for handoff in (await sent(stage))[:3]:
        await happened(stage.memory, await stage.job(handoff.job_id), Claimed("w", later(60)))
    third = await scheduler.tick()

    assert (first.leased, full.leased, third.leased) == (4, 0, 3)


async def test_a_worker_that_is_gone_no_longer_widens_the_window() -> None:
    """It has not announced itself again in time."""
    stage = wide()
    await stage.workers.announce(a_worker(slots=10, alive_until=later(15)))
    await waiting(stage, 50)
    scheduler = stage.scheduler(window_min=4)
    await scheduler.tick()
    for handoff in await sent(stage):
        await happened(stage.memory, await stage.job(handoff.job_id), Cancelled())
    stage.clock.advance(15)

    tick = await scheduler.tick()

    assert tick.leased == 4


# --- Hand-offs that fail ---------------------------------------------------------------------


async def test_a_hand_off_that_was_refused_is_taken_back_at_once() -> None:
    """No attempt is charged, and the job does not wait for its lease to run out."""
    stage = Stage()
    job = await added(stage.memory)
    stage.queue().refuses = lambda handoff: "throttled"
    stage.clock.advance(1)

    tick = await stage.scheduler().tick()

    back = await stage.job(job)
    assert tick == Tick(leased=1, unsent=1)
    assert (back.phase, back.enqueue_failed, back.attempts) == (Phase.PENDING, True, 0)
    assert (back.last_error, back.dispatches) == ("throttled", 1)
    assert (back.run_at, back.deadline_at) == (job.run_at, job.deadline_at)
    (fact,) = stage.telemetry.of(JobHandOffFailed)
    assert (fact.job_id, fact.error) == (job.id, "throttled")


async def test_only_what_was_refused_is_taken_back() -> None:
    """The rest of the batch is on its way."""
    stage = Stage()
    jobs = [await added(stage.memory) for _ in range(3)]
    stage.queue().refuses = lambda handoff: "too big" if handoff.job_id == jobs[1].id else None

    tick = await stage.scheduler().tick()

    assert (tick.leased, tick.unsent) == (3, 1)
    assert (await stage.job(jobs[1])).phase is Phase.PENDING
    assert {handoff.job_id for handoff in await sent(stage)} == {jobs[0].id, jobs[2].id}


async def test_a_hand_off_without_an_answer_counts_as_failed() -> None:
    """Answers are held against what was submitted, in whatever order they come."""
    stage = Stage()
    jobs = [await added(stage.memory) for _ in range(4)]
    stage.queue().answers = lambda sents: [sents[3], sents[0]]

    tick = await stage.scheduler().tick()

    assert (tick.leased, tick.unsent) == (4, 2)
    assert [(await stage.job(job)).phase is Phase.PENDING for job in jobs] == [
        False,
        True,
        True,
        False,
    ]
    assert {fact.error for fact in stage.telemetry.of(JobHandOffFailed)} == {
        "the transport gave no answer"
    }


async def test_an_answer_about_something_else_is_ignored() -> None:
    """It was never submitted."""
    stage = Stage()
    await added(stage.memory)
    stage.queue().answers = lambda sents: [Sent(HandOff(an_id(), 1, "acme"), "?"), *sents]

    tick = await stage.scheduler().tick()

    assert tick == Tick(leased=1)


@pytest.mark.parametrize("error", [Unavailable("no answer"), KeyError("a bug")])
async def test_a_transport_that_raises_costs_nobody_an_attempt(error: Exception) -> None:
    """Whatever it raises, its jobs come back, and the other lanes are served."""
    stage = Stage(limits(notifications=UseCaseConfig(), reports=UseCaseConfig()))
    job = await added(stage.memory)
    other = await added(stage.memory, use_case="reports")

    async def fail() -> None:
        raise error

    stage.queue().before("send", fail)

    tick = await stage.scheduler().tick()

    back = await stage.job(job)
    assert (tick.leased, tick.unsent) == (2, 1)
    assert (back.phase, back.attempts, back.enqueue_failed) == (Phase.PENDING, 0, True)
    assert [handoff.job_id for handoff in await sent(stage, "reports")] == [other.id]


async def test_a_lane_that_cannot_be_opened_fails_like_one_that_does_not_answer() -> None:
    """The job names a queue that is set up no longer."""
    stage = Stage()
    job = await added(stage.memory, queue="gone")

    def queue_of(name: str) -> JobQueue:
        if name == "gone":
            raise LookupError("no such queue")
        return stage.queue(name)

    tick = await stage.scheduler(queue_of=queue_of).tick()

    assert tick.unsent == 1
    assert (await stage.job(job)).enqueue_failed


async def test_a_job_that_was_claimed_all_the_same_is_not_taken_back() -> None:
    """`scheduler.after_send_before_mark`: the answer was lost, the message was not."""
    stage = Stage()
    job = await added(stage.memory)
    stage.queue().answers = lambda sents: []

    async def claim() -> None:
        await happened(stage.memory, await stage.job(job), Claimed("worker-1", later(60)))

    with failpoints.armed(failpoints.SCHEDULER_AFTER_SEND_BEFORE_MARK, claim):
        await stage.scheduler().tick()

    assert (await stage.job(job)).phase is Phase.CLAIMED
    assert stage.telemetry.of(JobHandOffFailed) == []


async def test_a_later_lease_is_not_taken_back() -> None:
    """The scheduler stood still after its send, and the job was handed off anew meanwhile."""
    stage = Stage()
    job = await added(stage.memory)
    stage.queue().refuses = lambda handoff: "throttled"

    async def hand_off_anew() -> None:
        lost = await stage.job(job)
        await happened(stage.memory, lost, HandOffFailed("slow"), Leased(later(60)))

    with failpoints.armed(failpoints.SCHEDULER_AFTER_SEND_BEFORE_MARK, hand_off_anew):
        await stage.scheduler().tick()

    now = await stage.job(job)
    assert (now.phase, now.lease_seq) == (Phase.HANDED_OFF, 2)


async def test_a_hand_off_is_stale_once_its_job_was_taken_back() -> None:
    """The transport delivered what it said it had refused: the worker drops it."""
    stage = Stage()
    job = await added(stage.memory)
    stage.queue().answers = lambda sents: []
    scheduler = stage.scheduler()
    await scheduler.tick()
    stage.queue().answers = lambda sents: sents
    stage.clock.advance(2)
    await scheduler.tick()
    ran: list[int] = []

    @stage.registry.handler("send_email")
    async def send_email(ctx: Any, payload: Any) -> None:
        ran.append(ctx.lease_seq)

    await stage.worker().step()

    assert ran == [2]
    assert (await stage.job(job)).attempts == 1


async def test_a_lane_that_takes_nothing_is_left_alone_longer_each_time() -> None:
    """Its jobs stay pending and are not leased for nothing; other lanes go on."""
    stage = Stage()
    await added(stage.memory)
    stage.queue().down = True
    scheduler = stage.scheduler()
    tried_at: list[float] = []

    for _ in range(300):
        if (await scheduler.tick()).leased:
            tried_at.append(stage.clock.monotonic())
        stage.clock.advance(0.5)

    pauses = [after - before for before, after in pairwise(tried_at)]
    assert 0.5 <= pauses[0] <= 1.5
    assert 15 <= pauses[-1] <= 30.5
    assert 6 <= len(pauses) <= 15


async def test_a_lane_that_takes_nothing_keeps_no_other_waiting() -> None:
    """Each lane has pauses of its own."""
    stage = wide()
    await added(stage.memory)
    stage.queue().down = True
    scheduler = stage.scheduler()
    await scheduler.tick()
    other = await added(stage.memory, use_case="reports")

    tick = await scheduler.tick()

    assert tick.leased == 1
    assert (await stage.job(other)).phase is Phase.HANDED_OFF


async def test_a_lane_that_recovers_is_used_again_at_once() -> None:
    """One accepted hand-off ends the pauses."""
    stage = Stage()
    await added(stage.memory)
    scheduler = stage.scheduler()
    stage.queue().down = True
    failing = await scheduler.tick()
    closed = await scheduler.tick()
    stage.queue().down = False
    stage.clock.advance(1)

    working = await scheduler.tick()
    await added(stage.memory)
    again = await scheduler.tick()

    assert [each.leased for each in (failing, closed, working, again)] == [1, 0, 1, 1]


async def test_a_lane_that_recovered_is_paused_as_briefly_as_at_first() -> None:
    """What it failed before is forgotten."""
    stage = Stage()
    await added(stage.memory)
    scheduler = stage.scheduler()
    stage.queue().down = True
    for _ in range(120):
        await scheduler.tick()
        stage.clock.advance(1)
    stage.queue().down = False
    stage.clock.advance(30)
    await scheduler.tick()
    stage.queue().down = True
    await added(stage.memory)
    failing = await scheduler.tick()
    stage.clock.advance(1)

    again = await scheduler.tick()

    assert (failing.leased, again.leased) == (1, 1)


# --- Crashes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failpoint",
    [
        failpoints.SCHEDULER_AFTER_LEASE_BEFORE_SEND,
        failpoints.SCHEDULER_AFTER_SEND_BEFORE_MARK,
    ],
)
async def test_a_scheduler_that_dies_in_between_costs_a_dispatch_timeout(failpoint: str) -> None:
    """The lease runs out, another scheduler reaps it and sends it; no attempt is charged."""
    stage = Stage()
    job = await added(stage.memory)
    if failpoint == failpoints.SCHEDULER_AFTER_SEND_BEFORE_MARK:
        stage.queue().refuses = lambda handoff: "throttled"
    with failpoints.armed(failpoint, die), suppress(Killed):
        await stage.scheduler(dispatch_timeout_seconds=20).tick()
    lost = await stage.job(job)
    stage.queue().refuses = lambda handoff: None
    other = stage.scheduler(dispatch_timeout_seconds=20)

    stage.clock.advance(19)
    early = await other.tick()
    stage.clock.advance(1)
    due = await other.tick()

    assert lost.phase is Phase.HANDED_OFF
    assert (early.leased, due.leased, (await stage.job(job)).attempts) == (0, 1, 0)
    assert await sent(stage) == [handoff_of(await stage.job(job))]


# --- Late jobs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "first"), [(LatePolicy.RUN, "late"), (LatePolicy.SIDELINE, "punctual")]
)
async def test_the_late_policy_decides_who_goes_first(policy: LatePolicy, first: str) -> None:
    """There is one place, and the late job is the more urgent one."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=1, late_policy=policy)))
    await added(stage.memory, type="late", deadline_at=later(5))
    stage.clock.advance(6)
    await added(stage.memory, type="punctual", run_at=later(6))

    await stage.scheduler().tick()

    (running,) = [job for job in await all_jobs(stage.memory) if job.phase is Phase.HANDED_OFF]
    assert running.type == first


async def test_a_job_that_missed_its_deadline_expires() -> None:
    """The use case says that a late start is worth nothing."""
    stage = Stage(limits(notifications=UseCaseConfig(late_policy=LatePolicy.EXPIRE)))
    job = await added(stage.memory, deadline_at=later(5))
    scheduler = stage.scheduler()
    stage.clock.advance(5.5)

    tick = await scheduler.tick()

    dead = await stage.job(job)
    assert (tick.leased, tick.expired) == (0, 1)
    assert (dead.status, dead.last_error) == (JobStatus.DEAD, "deadline_missed")
    (fact,) = stage.telemetry.of(DeadlineMissed)
    assert (fact.started, fact.late_by.total_seconds()) == (False, 0.5)


async def test_a_job_on_its_deadline_is_on_time() -> None:
    """It starts."""
    stage = Stage(limits(notifications=UseCaseConfig(late_policy=LatePolicy.EXPIRE)))
    await added(stage.memory, deadline_at=later(5))
    stage.clock.advance(5)

    tick = await stage.scheduler().tick()

    assert (tick.leased, tick.expired) == (1, 0)


async def test_a_late_job_that_was_cancelled_in_between_costs_the_others_nothing() -> None:
    """It was late when the dispatch looked."""
    stage = Stage(limits(notifications=UseCaseConfig(late_policy=LatePolicy.EXPIRE)))
    jobs = [await added(stage.memory, deadline_at=later(5)) for _ in range(3)]
    stage.clock.advance(6)

    async def cancel() -> None:
        await happened(stage.memory, jobs[1], Cancelled(), now=later(6))

    stage.store.before("get", cancel)

    tick = await stage.scheduler().tick()

    assert tick.expired == 2
    assert (await stage.job(jobs[1])).phase is Phase.CANCELLED


async def test_late_jobs_expire_although_there_is_no_room() -> None:
    """Capacity has nothing to do with it."""
    stage = Stage(
        limits(notifications=UseCaseConfig(max_concurrent=0, late_policy=LatePolicy.EXPIRE))
    )
    await added(stage.memory, deadline_at=later(5))
    stage.clock.advance(6)

    tick = await stage.scheduler().tick()

    assert tick.expired == 1


async def test_a_backlog_of_late_jobs_is_buried_without_a_pause() -> None:
    """The job behind it can still be on time, and there is room for it."""
    stage = Stage(limits(notifications=UseCaseConfig(late_policy=LatePolicy.EXPIRE)))
    await waiting(stage, 400, deadline_at=later(5))
    stage.clock.advance(6)
    mine = await added(stage.memory, run_at=later(6))

    async with looping(stage, stage.scheduler()):
        await let_others_run(300)

    assert await count(stage, Phase.DEAD) == 400
    assert (await stage.job(mine)).phase is Phase.HANDED_OFF


async def test_no_batch_is_larger_than_a_store_takes() -> None:
    """Several use cases may each have a thousand late jobs."""
    expire = UseCaseConfig(late_policy=LatePolicy.EXPIRE, max_concurrent=900)
    stage = Stage(limits(notifications=expire, reports=expire))
    for use_case in ("notifications", "reports"):
        await waiting(stage, 600, use_case=use_case, deadline_at=later(5))
    stage.clock.advance(6)

    tick = await stage.scheduler().tick()

    assert tick.expired == 1_200
    assert max(len(batch) for batch in stage.store.saved) <= 1_000


# --- Retention -------------------------------------------------------------------------------


async def test_finished_jobs_are_forgotten_after_their_retention() -> None:
    """Those that live stay, however old."""
    stage = Stage()
    for phase in (Phase.SUCCEEDED, Phase.DEAD, Phase.CANCELLED, Phase.PENDING):
        await in_phase(stage.memory, phase)
    scheduler = stage.scheduler(retention_seconds=600)

    stage.clock.advance(600)
    await scheduler.tick()
    kept = len(await all_jobs(stage.memory))
    stage.clock.advance(60)
    await scheduler.tick()

    assert kept == 4
    (left,) = await all_jobs(stage.memory)
    assert left.phase is Phase.HANDED_OFF
    assert stage.telemetry.of(JobsPurged) == [
        JobsPurged(at=later(660), use_case="notifications", count=3)
    ]


@pytest.mark.parametrize(
    ("own", "system", "kept"),
    [
        (None, 60, 0),
        (None, 0, 1),
        (None, math.inf, 1),
        (0, 60, 1),
        (60, 0, 0),
        (7_200, 60, 1),
        (1e300, 60, 1),
    ],
)
async def test_a_use_case_may_have_its_own_retention(
    own: float | None, system: float, kept: int
) -> None:
    """Zero keeps finished jobs for ever, as does what is longer than the calendar."""
    stage = Stage(limits(notifications=UseCaseConfig(retention_seconds=own)))
    await in_phase(stage.memory, Phase.SUCCEEDED)
    stage.clock.advance(3_600)

    await stage.scheduler(retention_seconds=system).tick()

    assert len(await all_jobs(stage.memory)) == kept


async def test_many_finished_jobs_are_forgotten_in_small_batches() -> None:
    """One after the other, without waiting for the next round."""
    stage = Stage()
    for _ in range(5):
        await in_phase(stage.memory, Phase.SUCCEEDED)
    stage.clock.advance(120)
    scheduler = stage.scheduler(retention_seconds=60, purge_limit=2)

    ticks = [await scheduler.tick() for _ in range(3)]

    assert [tick.more for tick in ticks] == [True, True, False]
    assert await all_jobs(stage.memory) == []


async def test_retention_is_looked_after_at_intervals() -> None:
    """It is no hurry."""
    stage = Stage()
    scheduler = stage.scheduler(purge_interval_seconds=60)

    for _ in range(12):
        await scheduler.tick()
        stage.clock.advance(10)

    assert stage.store.calls["purge"] == 2


# --- The loop --------------------------------------------------------------------------------


@asynccontextmanager
async def looping(stage: Stage, scheduler: Scheduler) -> AsyncIterator[asyncio.Event]:
    """Run a scheduler for the length of a block; yields what stops it."""
    stop = asyncio.Event()
    task = asyncio.create_task(scheduler.run(stop, stage.errors.append))
    await quiet()
    try:
        yield stop
    finally:
        stop.set()
        assert await stage.seconds_until_done(task, at_most=1) == 0
        await task


def ticks(stage: Stage) -> int:
    """Return how many ticks began."""
    return stage.store.calls["promote"]


async def test_the_loop_ticks_at_intervals() -> None:
    """With every signal lost."""
    stage = Stage()

    async with looping(stage, stage.scheduler(interval_seconds=2)):
        await stage.elapse(6)
        seen = ticks(stage)

    assert seen == 4


async def test_a_signal_makes_the_loop_tick_at_once() -> None:
    """The clock has not moved."""
    stage = Stage()

    async with looping(stage, stage.scheduler()):
        enqueued = await stage.service().enqueue(a_request())
        await quiet()
        job = await stage.job(enqueued.job_id)

    assert job.phase is Phase.HANDED_OFF


async def test_the_loop_wakes_when_the_next_job_comes_due() -> None:
    """Well before its interval is over."""
    stage = Stage()
    job = await added(stage.memory, run_at=later(3))

    async with looping(stage, stage.scheduler(interval_seconds=60)):
        await stage.elapse(2.75, step_seconds=0.25)
        before = await stage.job(job)
        await stage.elapse(0.25)
        due = await stage.job(job)

    assert (before.phase, due.phase) == (Phase.PENDING, Phase.HANDED_OFF)


async def test_the_loop_goes_on_at_once_while_there_is_more_to_do() -> None:
    """A bound of one tick is not a bound of the interval."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=0)))
    for _ in range(7):
        await in_phase(stage.memory, Phase.HANDED_OFF)
    stage.clock.advance(60)

    async with looping(stage, stage.scheduler(reap_limit=2)):
        reaped = await count(stage, Phase.PENDING)

    assert reaped == 7


async def test_hand_offs_that_all_fail_do_not_make_the_loop_spin() -> None:
    """It waits as if nothing had been leased."""
    stage = Stage()
    await added(stage.memory)
    stage.queue().down = True

    async with looping(stage, stage.scheduler()):
        await let_others_run(200)
        seen = ticks(stage)

    assert seen == 1


async def test_the_loop_survives_an_unavailable_store() -> None:
    """It tells, waits longer each time, and goes on when the store is back."""
    stage = Stage()
    job = await added(stage.memory)
    stage.store.down = True

    async with looping(stage, stage.scheduler()):
        await stage.elapse(120)
        failures = len(stage.errors)
        stage.store.down = False
        await stage.elapse(15)
        due = await stage.job(job)

    assert 8 <= failures <= 25
    assert {type(error) for error in stage.errors} == {Unavailable}
    assert due.phase is Phase.HANDED_OFF


async def test_a_failure_that_ended_is_forgotten() -> None:
    """The next one is waited for as briefly as the first."""
    stage = Stage()

    async with looping(stage, stage.scheduler()):
        for _ in range(4):
            stage.store.before("promote", unavailable)
            await stage.elapse(2.5)

    assert len(stage.errors) == 4


async def test_anything_but_unavailability_ends_the_loop() -> None:
    """A mistake in the set-up is not waited out."""
    stage = Stage()
    stage.store.before("promote", die)

    with pytest.raises(Killed):
        await stage.scheduler().run(asyncio.Event(), stage.errors.append)

    assert stage.errors == []


async def test_a_stop_lets_the_tick_under_way_end() -> None:
    """What was leased is sent."""
    stage = Stage()
    await added(stage.memory)
    stop = asyncio.Event()

    async def shut_down() -> None:
        stop.set()

    stage.store.after("lease", shut_down)

    await stage.scheduler().run(stop, stage.errors.append)

    assert len(await sent(stage)) == 1
    assert ticks(stage) == 1


async def test_a_cancelled_loop_leaves_nothing_behind() -> None:
    """No waiter on the signal, no sleeper on the clock."""
    stage = Stage()
    task = asyncio.create_task(stage.scheduler().run(asyncio.Event(), stage.errors.append))
    await quiet()

    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert task.cancelled()
    assert (len(asyncio.all_tasks()), stage.clock.sleepers) == (1, 0)


async def test_a_scheduler_is_ready_while_its_ticks_succeed() -> None:
    """Not before the first one, and no longer when the last one is long ago."""
    stage = Stage()
    scheduler = stage.scheduler()

    before = scheduler.ready()
    await scheduler.tick()
    after = scheduler.ready()
    stage.clock.advance(9)
    still = scheduler.ready()
    stage.store.down = True
    with suppress(Unavailable):
        await scheduler.tick()
    stage.clock.advance(1)
    silent = scheduler.ready()

    assert (before, after, still, silent) == (False, True, True, False)


# --- Several schedulers ----------------------------------------------------------------------


async def committed(stage: Stage) -> tuple[Counter[str], Counter[str]]:
    """Count the running jobs by use case and by tenant."""
    by_use_case: Counter[str] = Counter()
    by_tenant: Counter[str] = Counter()
    async with stage.memory.turn([]) as turn:
        for each in await turn.running():
            by_use_case[each.use_case] += each.claimed + each.unclaimed
            by_tenant[each.tenant_id] += each.claimed + each.unclaimed
    return by_use_case, by_tenant


@pytest.mark.parametrize("seed", range(12))
async def test_schedulers_side_by_side_never_break_a_limit(seed: int) -> None:
    """Interleaved at every call, beside workers and cancels; in the end everything has run."""
    config = limits(
        {"acme": TenantQuota(max_running=3)},
        notifications=UseCaseConfig(max_concurrent=2),
        reports=UseCaseConfig(max_concurrent=3),
    )
    stage = Stage(config, seed=seed)
    lanes = [stage.queue("notifications"), stage.queue("reports")]
    order = ManualChance(seed + 1_000)
    worst: Counter[str] = Counter()

    async def interleave() -> None:
        by_use_case, by_tenant = await committed(stage)
        for counts in (by_use_case, by_tenant):
            for name, running in counts.items():
                worst[name] = max(worst[name], running)
        await let_others_run(int(order.uniform() * 6))

    async def work(worker_id: str) -> None:
        worker = stage.worker(*lanes, worker_id=worker_id)
        for _ in range(8):
            await worker.step()

    async def schedule() -> None:
        scheduler = stage.scheduler(window_min=100)
        for _ in range(8):
            await scheduler.tick()

    @stage.registry.handler("send_email")
    async def send_email(ctx: Any, payload: Any) -> None:
        await let_others_run(int(order.uniform() * 10))

    jobs = [
        a_job(use_case=use_case, tenant_id=tenant)
        for use_case in ("notifications", "reports")
        for tenant in ("acme", "other")
        for _ in range(4)
    ]
    await stored(stage.memory, *jobs)
    stage.store.around = interleave

    await race(schedule(), schedule(), schedule(), work("one"), work("two"))
    stage.store.around = None
    scheduler, worker = (
        stage.scheduler(),
        stage.worker(*map(stage.queue, ("notifications", "reports"))),
    )
    for _ in range(20):
        await scheduler.tick()
        await worker.step()

    assert worst["notifications"] <= 2
    assert worst["reports"] <= 3
    assert worst["acme"] <= 3
    assert await count(stage, Phase.SUCCEEDED) == len(jobs)
    assert all(job.attempts == 1 for job in await all_jobs(stage.memory))


async def test_several_schedulers_share_the_work() -> None:
    """A use case is leased by one of them at a time, and every job once."""
    stage = wide()
    await waiting(stage, 5)
    await waiting(stage, 5, use_case="reports")

    results = await race(*(stage.scheduler().tick() for _ in range(4)))

    assert sum(tick.leased for tick in results) == len(stage.telemetry.of(JobLeased)) == 10
