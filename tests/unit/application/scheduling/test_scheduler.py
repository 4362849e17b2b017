"""What one tick does: reap, dispatch, bury what is late, forget what is old."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from async_jobs.application import failpoints
from async_jobs.application.scheduling.chores.purging import PURGE_SECONDS, PURGES_MAX
from async_jobs.application.scheduling.scheduler import Scheduler, Tick
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import (
    DeadlineMissed,
    JobDied,
    JobFailed,
    JobLeased,
    JobsPurged,
    LeaseExpired,
    UseCaseSkipped,
)
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Claimed,
    Renewed,
    Succeeded,
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
from tests.unit.application.faults import unavailable
from tests.unit.application.stage import Stage, count, handoff_of, limits, sent, waiting

DELAYS = BackoffPolicy(base_delay_seconds=30, jitter=0)


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


# --- Reaping ----------------------------------------------------------------------------------


async def test_a_dead_workers_job_is_tried_again_after_its_backoff() -> None:
    """The attempt is not charged; a crash is."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.CLAIMED, backoff_policy=DELAYS)
    scheduler = stage.scheduler()
    stage.clock.advance(60)

    reaping = await scheduler.tick()
    back = await stage.job(job)
    stage.clock.advance(30)
    leasing = await scheduler.tick()

    assert (reaping.reaped, reaping.leased, leasing.leased) == (1, 0, 1)
    assert (back.phase, back.run_at) == (Phase.PENDING, later(90))
    assert (back.attempts, back.crashes) == (0, 1)
    assert back.last_error == "lease expired"


async def test_a_job_whose_last_worker_died_is_dead() -> None:
    """Crashes have a maximum of their own, whatever attempts are left."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.CLAIMED, crashes=CRASHES_MAX - 1)
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

    facts = stage.telemetry.of(LeaseExpired)
    told = {(fact.claimed, fact.worker_id, fact.crashes) for fact in facts}
    assert told == {(False, None, 0), (True, "worker-1", 1)}
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


# --- Retention --------------------------------------------------------------------------------


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


async def test_what_a_use_case_left_that_is_configured_no_more_is_forgotten() -> None:
    """By the retention of those that set none: nobody may keep its payloads for ever."""
    stage = Stage(limits(reports=UseCaseConfig(max_concurrent=1, retention_seconds=10**6)))
    await in_phase(stage.memory, Phase.SUCCEEDED, use_case="removed")
    kept = await in_phase(stage.memory, Phase.SUCCEEDED, use_case="reports")
    stage.clock.advance(120)

    await stage.scheduler(retention_seconds=60).tick()

    assert await all_jobs(stage.memory) == [kept]
    assert [fact.use_case for fact in stage.telemetry.of(JobsPurged)] == ["removed"]


async def test_a_tick_forgets_no_more_than_its_limit_of_all_use_cases() -> None:
    """However many they are: what is left is forgotten in the ticks that follow at once."""
    names = [f"use_case_{number}" for number in range(5)]
    stage = Stage(limits(**{name: UseCaseConfig(max_concurrent=1) for name in names}))
    for name in names:
        await in_phase(stage.memory, Phase.SUCCEEDED, use_case=name)
    stage.clock.advance(120)
    scheduler = stage.scheduler(retention_seconds=60, purge_limit=2)

    left = []
    for _ in range(3):
        await scheduler.tick()
        left.append(len(await all_jobs(stage.memory)))

    assert left == [3, 1, 0]


async def test_a_tick_purges_few_use_cases_and_dispatches_before_the_next() -> None:
    """Of a thousand that have something to forget: the look is one for all of them."""
    names = [f"use_case_{number:03}" for number in range(1_000)]
    stage = Stage(limits(**{name: UseCaseConfig(max_concurrent=1) for name in names[:1]}))
    for name in names:
        await in_phase(stage.memory, Phase.SUCCEEDED, use_case=name)
    stage.clock.advance(120)
    scheduler = stage.scheduler(retention_seconds=60)
    ticks: list[Tick] = []

    while not ticks or ticks[-1].more:
        before = stage.store.calls.copy()
        ticks.append(await scheduler.tick())
        calls = stage.store.calls - before
        assert (calls["turn"], calls["purge"] <= PURGES_MAX) == (1, True)

    assert await all_jobs(stage.memory) == []
    assert len(ticks) == math.ceil(len(names) / PURGES_MAX)
    assert stage.store.calls["oldest_finished"] == 1


async def test_a_purge_that_takes_its_time_leaves_the_rest_to_the_next_ticks() -> None:
    """However many use cases have rows that are refused, a dispatch waits for one call's worth."""
    names = ["a", "b", "c"]
    stage = Stage()
    for name in names:
        await in_phase(stage.memory, Phase.SUCCEEDED, use_case=name)
    stage.clock.advance(120)
    scheduler = stage.scheduler(retention_seconds=60)

    async def take_long() -> None:
        stage.clock.advance(PURGE_SECONDS)

    stage.store.before("purge", *[take_long for _ in names])

    ticks = [await scheduler.tick() for _ in names]

    assert [tick.more for tick in ticks] == [True, True, False]
    assert stage.store.calls["purge"] == len(names)
    assert await all_jobs(stage.memory) == []


async def test_a_use_case_that_cannot_be_purged_keeps_no_other_from_it() -> None:
    """It is left out until the next look."""
    stage = Stage()
    for name in ("a", "b", "c"):
        await in_phase(stage.memory, Phase.SUCCEEDED, use_case=name)
    stage.clock.advance(120)
    scheduler = stage.scheduler(retention_seconds=60, purge_interval_seconds=10)
    stage.store.before("purge", unavailable)

    for _ in range(2):
        await scheduler.tick()
        stage.clock.advance(10)

    assert [job.use_case for job in await all_jobs(stage.memory)] == ["a"]
    await scheduler.tick()
    assert await all_jobs(stage.memory) == []


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


async def test_a_use_case_of_one_slot_goes_on_behind_an_unreadable_row() -> None:
    """Nobody can claim the row, and its slot is free within its lease and a minute."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=1)))
    scheduler = stage.scheduler(purge_interval_seconds=60, unreadable_delay_seconds=300)
    bad, *good = [await added(stage.memory) for _ in range(3)]
    stage.memory.corrupt(bad.id)

    await scheduler.tick()
    stage.clock.advance(59)
    assert (await scheduler.tick()).leased == 0
    stage.clock.advance(1)
    await scheduler.tick()
    for job in good:
        leased = await stage.job(job)
        claimed = Claimed("worker-1", later(10**6))
        await happened(stage.memory, leased, claimed, Succeeded(), now=stage.clock.now())
        await scheduler.tick()
    stage.clock.advance(299)
    assert (await scheduler.tick()).leased == 0
    stage.clock.advance(1)
    await scheduler.tick()

    leases = [each.job_id for each in stage.telemetry.of(JobLeased)]
    assert leases == [bad.id, *(job.id for job in good), bad.id]


async def test_unreadable_rows_are_looked_for_at_intervals() -> None:
    """Usually there are none; a batch that was full is followed by the next at once."""
    stage = Stage()
    scheduler = stage.scheduler(purge_interval_seconds=60, reap_limit=2)
    jobs = [await in_phase(stage.memory, Phase.CLAIMED) for _ in range(5)]
    for job in jobs:
        stage.memory.corrupt(job.id)

    for _ in range(6):
        await scheduler.tick()
        stage.clock.advance(10)
    calls = [stage.store.calls["set_aside"]]
    ticks = [await scheduler.tick() for _ in range(4)]

    assert [*calls, stage.store.calls["set_aside"]] == [1, 4]
    assert [tick.more for tick in ticks] == [True, True, False, False]


async def test_retention_is_looked_after_at_intervals() -> None:
    """It is no hurry."""
    stage = Stage()
    scheduler = stage.scheduler(purge_interval_seconds=60)

    for _ in range(12):
        await scheduler.tick()
        stage.clock.advance(10)

    assert stage.store.calls["oldest_finished"] == 2
