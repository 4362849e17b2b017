"""From leases to the transport: the hand-off window, failures, and crashes in between."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from async_jobs.application import failpoints
from async_jobs.application.scheduling.scheduler import Tick
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import (
    JobHandOffFailed,
)
from async_jobs.domain.job import HandOff, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Claimed,
    HandOffFailed,
    Leased,
    Succeeded,
)
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.ports.queue import JobQueue, Sent
from async_jobs.testing.builders import a_worker, an_id, later
from async_jobs.testing.contracts.scenes import (
    added,
    happened,
    in_phase,
)
from tests.unit.application.faults import Killed, die
from tests.unit.application.stage import Stage, handoff_of, limits, sent, waiting, wide

# --- The hand-off window ----------------------------------------------------------------------


async def test_without_a_live_worker_a_small_window_goes_out() -> None:
    """The first worker to come finds work."""
    stage = wide()
    await waiting(stage, 50)

    tick = await stage.scheduler(window_min=4).tick()

    assert tick.leased == 4


async def test_no_more_is_handed_off_than_slots_are_idle() -> None:
    """What is handed off can hardly be overtaken; what runs takes a slot like what waits."""
    stage = wide()
    await stage.workers.announce(a_worker(worker_id="worker-1", slots=6))
    for phase in (Phase.CLAIMED, Phase.HANDED_OFF):
        await in_phase(stage.memory, phase)
    await waiting(stage, 50)

    tick = await stage.scheduler().tick()

    assert tick.leased == 4


async def test_what_dead_workers_had_claimed_takes_no_slot_of_the_living() -> None:
    """Or the living would idle until the leases of the dead end."""
    stage = wide()
    await stage.workers.announce(a_worker(worker_id="alive", slots=6))
    for _ in range(9):
        await in_phase(stage.memory, Phase.CLAIMED)
    await waiting(stage, 50)

    tick = await stage.scheduler().tick()

    assert tick.leased == 6


async def test_queues_of_one_pool_share_its_slots() -> None:
    """What is handed off for one of them takes a place from the other."""
    stage = wide()
    await stage.workers.announce(a_worker(slots=4, queues=("notifications", "reports")))
    await waiting(stage, 10)
    await waiting(stage, 10, use_case="reports", queue="reports")

    tick = await stage.scheduler().tick()

    assert tick.leased == 4


async def test_what_is_short_is_handed_off_ahead_of_idle_slots() -> None:
    """As much as all slots work off within the time of a hand-off."""
    stage = wide()
    await stage.workers.announce(a_worker(slots=10, run_times={"send_email": 0.01}))
    await waiting(stage, 200)

    tick = await stage.scheduler(hand_off_seconds=0.03125).tick()

    assert tick.leased == 10 + 31


async def test_where_turns_take_long_more_is_handed_off_ahead() -> None:
    """A slot that falls idle waits for the turn under way, for the next one, and for its claim."""
    stage = wide()
    await stage.workers.announce(a_worker(slots=10, run_times={"send_email": 0.01}))
    await waiting(stage, 400)
    scheduler = stage.scheduler(hand_off_seconds=0.03125)

    async def dawdle() -> None:
        stage.clock.advance(0.5)

    with failpoints.armed(failpoints.SCHEDULER_AFTER_LEASE_BEFORE_SEND, dawdle):
        first = await scheduler.tick()
    for handoff in await sent(stage):
        await happened(stage.memory, await stage.job(handoff.job_id), Claimed("w", later(60)))
        await happened(stage.memory, await stage.job(handoff.job_id), Succeeded())
    second = await scheduler.tick()

    assert first.leased == 10 + 31
    assert second.leased > first.leased


async def test_a_queue_is_not_filled_for_slots_that_do_not_receive_it() -> None:
    """Though they are of the same pool."""
    stage = wide()
    await stage.workers.announce(a_worker(slots=3))
    await stage.workers.announce(a_worker(slots=5, queues=("reports", "notifications")))
    await stage.workers.announce(a_worker(slots=9, queues=("reports",)))
    await waiting(stage, 50)

    tick = await stage.scheduler(window_min=4).tick()

    assert tick.leased == 3 + 5


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


async def test_the_first_worker_of_a_queue_is_noticed_at_the_next_tick() -> None:
    """Whoever sends to nobody looks again at once; further workers wait for the interval."""
    stage = wide()
    await waiting(stage, 200)
    scheduler = stage.scheduler(window_min=4)

    ticks = [await scheduler.tick()]
    for _ in range(2):
        await stage.workers.announce(a_worker(slots=6))
        ticks.append(await scheduler.tick())
    stage.clock.advance(1)
    ticks.append(await scheduler.tick())

    assert [tick.leased for tick in ticks] == [4, 2, 0, 6]


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


# --- Hand-offs that fail ----------------------------------------------------------------------


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

    assert (tick.leased, tick.unsent, tick.more) == (3, 1, True)
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


# --- Crashes ----------------------------------------------------------------------------------


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
