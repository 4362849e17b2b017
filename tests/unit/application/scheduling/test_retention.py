"""Finished jobs are forgotten after their retention, a few in each tick."""

from __future__ import annotations

import math

import pytest

from async_jobs.application.scheduling.chores.purging import PURGE_SECONDS, PURGES_MAX
from async_jobs.application.scheduling.scheduler import Tick
from async_jobs.domain.facts import (
    JobsPurged,
)
from async_jobs.domain.job import Phase
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.testing.builders import later
from async_jobs.testing.contracts.scenes import (
    all_jobs,
    in_phase,
)
from tests.unit.application.faults import unavailable
from tests.unit.application.stage import Stage, limits


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


async def test_retention_is_looked_after_at_intervals() -> None:
    """It is no hurry."""
    stage = Stage()
    scheduler = stage.scheduler(purge_interval_seconds=60)

    for _ in range(12):
        await scheduler.tick()
        stage.clock.advance(10)

    assert stage.store.calls["oldest_finished"] == 2
