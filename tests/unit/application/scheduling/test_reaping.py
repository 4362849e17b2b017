"""Leases that are over: their jobs are tried again or end, and unreadable rows are set aside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from async_jobs.application import failpoints
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.facts import (
    JobDied,
    JobFailed,
    JobLeased,
    LeaseExpired,
)
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Claimed,
    Renewed,
    Succeeded,
)
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.testing.builders import later
from async_jobs.testing.contracts.scenes import (
    added,
    happened,
    in_phase,
    race,
)
from tests.unit.application.stage import Stage, count, limits

DELAYS = BackoffPolicy(base_delay_seconds=30, jitter=0)


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
