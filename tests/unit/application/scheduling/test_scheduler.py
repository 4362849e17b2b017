"""What one tick does: reap, dispatch, bury what is late."""

from __future__ import annotations

from typing import Any

import pytest

from async_jobs.application.scheduling.scheduler import Scheduler, Tick
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import (
    DeadlineMissed,
    UseCaseSkipped,
)
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
)
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.testing.builders import later
from async_jobs.testing.contracts.scenes import (
    added,
    all_jobs,
    happened,
    in_phase,
)
from tests.unit.application.faults import unavailable
from tests.unit.application.stage import Stage, handoff_of, limits, sent, waiting

# --- One tick ---------------------------------------------------------------------------------


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


async def test_a_tick_follows_at_once_where_leases_were_refused() -> None:
    """Behind them there may be jobs for the places; those refused are left alone."""
    stage = Stage()
    job = await added(stage.memory)
    stage.store.unwritable = {job.id}
    scheduler = stage.scheduler()

    ticks = [await scheduler.tick() for _ in range(2)]

    assert [tick.more for tick in ticks] == [True, False]


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


async def order_of(stage: Stage, scheduler: Scheduler, calls: list[str]) -> list[str]:
    """Tick; return in which order the store was asked."""
    del calls[:]
    await scheduler.tick()
    return calls.copy()


def watched(stage: Stage, calls: list[str], promoted: int = 0) -> Any:
    """A store that notes when it is asked to promote, and for a turn."""

    class Watched(type(stage.store)):  # type: ignore[misc]
        async def promote(self, *args: Any, **kwargs: Any) -> Any:
            calls.append("promote")
            upcoming = await super().promote(*args, **kwargs)
            return upcoming._replace(promoted=promoted)

        def turn(self, *args: Any) -> Any:
            calls.append("turn")
            return super().turn(*args)

    return Watched(stage.memory)


async def test_what_is_ready_waits_for_no_promotion() -> None:
    """Unless something is known to have come due, or nothing is known yet."""
    stage = Stage()
    await added(stage.memory, run_at=later(7))
    calls: list[str] = []
    scheduler = stage.scheduler(store=watched(stage, calls))

    assert await order_of(stage, scheduler, calls) == ["promote", "turn"]
    assert await order_of(stage, scheduler, calls) == ["turn", "promote"]
    stage.clock.advance(7)
    assert await order_of(stage, scheduler, calls) == ["promote", "turn"]
    assert await order_of(stage, scheduler, calls) == ["turn", "promote"]


async def test_late_jobs_stand_back_once_a_turn_was_shown_some() -> None:
    """Without late jobs nobody looks for any."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=1)))
    scheduler = stage.scheduler()
    await scheduler.tick()
    before = stage.store.sidelined
    await added(stage.memory, deadline_at=later(5))
    stage.clock.advance(6)
    await added(stage.memory, run_at=later(6), deadline_at=later(11))

    await scheduler.tick()

    assert (before, stage.store.sidelined) == ([], ["notifications"])


async def test_what_came_due_after_the_dispatch_has_a_tick_at_once() -> None:
    """Before it, the dispatch sees it: then no other tick need follow."""
    stage = Stage()
    calls: list[str] = []
    scheduler = stage.scheduler(store=watched(stage, calls, promoted=1))

    first, second = await scheduler.tick(), await scheduler.tick()

    assert calls == ["promote", "turn", "turn", "promote"]
    assert (first.more, second.more) == (False, True)


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


# --- Late jobs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "first"), [(LatePolicy.RUN, "late"), (LatePolicy.SIDELINE, "punctual")]
)
async def test_the_late_policy_decides_who_goes_first(policy: LatePolicy, first: str) -> None:
    """There is one place, and of what presses the late job is the more urgent one."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=1, late_policy=policy)))
    await added(stage.memory, type="late", deadline_at=later(5))
    stage.clock.advance(6)
    await added(stage.memory, type="punctual", run_at=later(6), deadline_at=later(11))

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
