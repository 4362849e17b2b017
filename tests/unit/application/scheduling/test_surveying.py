"""Surveying: all that waits is looked at for gauges, by one scheduler, if somebody wants them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.adapters.memory.overview import MemoryLook, MemoryOverview
from async_jobs.adapters.memory.schedulers import MemorySchedulers
from async_jobs.application.scheduling.chores.announcing import BEAT_SECONDS
from async_jobs.application.scheduling.chores.remembering import CHECKPOINT_SECONDS
from async_jobs.application.scheduling.chores.surveying import SURVEY_SECONDS
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.domain.facts import ChoreSkipped
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.readings import BacklogSurveyed, SharesSurveyed
from async_jobs.testing.builders import (
    RecordingTelemetry,
    SimpleLimits,
    a_control,
    a_scheduler,
    a_worker,
    an_operation,
    later,
)
from async_jobs.testing.contracts.scenes import added
from tests.unit.application.faults import unavailable
from tests.unit.application.stage import Stage

ONE = SimpleLimits(use_case_configs={"notifications": UseCaseConfig(max_concurrent=1)})


class Looked(MemoryOverview):
    """Counts the looks."""

    looks = 0
    fails = False

    @asynccontextmanager
    async def looking(self, use_cases: Collection[str]) -> AsyncIterator[MemoryLook]:
        self.looks += 1
        if self.fails:
            await unavailable()
        async with super().looking(use_cases) as look:
            yield look


class Watched:
    """A scheduler whose looks are counted."""

    def __init__(self, *, readings: bool = True) -> None:
        self.stage = Stage(ONE)
        self.stage.telemetry = RecordingTelemetry(readings=readings)
        self.overview = Looked(self.stage.memory)
        self.schedulers = MemorySchedulers()

    def scheduler(self) -> Scheduler:
        return self.stage.scheduler(
            overview=self.overview,
            schedulers=self.schedulers,
            checkpoints=MemoryCheckpoints(),
            controls=self.stage.memory.controls,
        )

    @property
    def told(self) -> list[BacklogSurveyed]:
        return self.stage.telemetry.of(BacklogSurveyed)

    async def beside(self, scheduler_id: str, *, measures: bool) -> None:
        """Let another scheduler be alive."""
        now = self.stage.clock.now()
        alive_until = now + timedelta(minutes=1)
        await self.schedulers.announce(
            a_scheduler(
                scheduler_id=scheduler_id,
                ticked_at=now,
                alive_until=alive_until,
                measures=measures,
            )
        )


async def test_a_scheduler_tells_of_all_that_waits_as_often_as_it_is_scraped() -> None:
    """However often it ticks: what runs after the tick, and what waits then."""
    watched = Watched()
    stage = watched.stage
    await stage.workers.announce(a_worker(queues=("notifications",), slots=3))
    for _ in range(3):
        await added(stage.memory, deadline_at=later(60))
    scheduler = watched.scheduler()

    await scheduler.tick()
    await scheduler.tick()
    stage.clock.advance(SURVEY_SECONDS)
    await scheduler.tick()

    assert watched.overview.looks == len(watched.told) == 2
    (load,), (queue,) = watched.told[0].use_cases, watched.told[0].queues
    assert (load.running, load.ready, load.limit) == (1, 2, 1)
    assert (queue.workers, queue.slots) == (1, 3)


async def test_what_operators_pause_has_no_capacity() -> None:
    """The limits told are those that the turn keeps, or an alarm cries about every pause."""
    watched = Watched()
    control = a_control()
    await watched.stage.memory.controls.change(an_operation(control), control, expected=0)
    await watched.stage.workers.announce(a_worker(queues=("notifications",), slots=3))
    await added(watched.stage.memory, deadline_at=later(60))

    await watched.scheduler().tick()

    (load,) = watched.told[0].use_cases
    assert (load.running, load.limit, load.capacity_rate) == (0, 0, 0.0)


async def test_nobody_looks_where_nobody_wants_to_know() -> None:
    """Not one statement more while metrics are off."""
    watched = Watched(readings=False)

    await watched.scheduler().tick()

    assert watched.overview.looks == 0


async def test_whose_it_is_is_told_of_those_who_wait() -> None:
    """By what schedulers remember: of the tenants that compete, both."""
    watched = Watched()
    stage = watched.stage
    await stage.workers.announce(a_worker(queues=("notifications",), slots=3))
    for tenant in ("acme", "bolt"):
        await added(stage.memory, tenant_id=tenant)
    scheduler = watched.scheduler()
    for _ in range(4):
        await scheduler.tick()
        stage.clock.advance(CHECKPOINT_SECONDS)

    shares = stage.telemetry.of(SharesSurveyed)[-1].capacity
    assert sorted((each.entitled, each.used) for each in shares) == [(0.5, 0.0), (0.5, 1.0)]


@pytest.mark.parametrize(
    ("other", "measures", "looks"),
    [("a", True, 0), ("z", True, 1), ("a", False, 1)],
    ids=["behind another", "before another", "beside one without metrics"],
)
async def test_one_scheduler_of_many_looks(other: str, measures: bool, looks: int) -> None:
    """The first by its id, of those that measure: they need not talk about it."""
    watched = Watched()
    await watched.beside(other, measures=measures)

    await watched.scheduler().tick()

    assert watched.overview.looks == looks


async def test_whoever_looks_no_longer_takes_back_what_it_told() -> None:
    """Else its last numbers would stand beside the other one's for ever."""
    watched = Watched()
    scheduler = watched.scheduler()
    await scheduler.tick()
    await watched.beside("a", measures=True)

    for _ in range(3):
        watched.stage.clock.advance(BEAT_SECONDS)
        await watched.beside("a", measures=True)
        await scheduler.tick()

    assert watched.overview.looks == 1
    assert [bool(each.use_cases) for each in watched.told] == [True, False]


async def test_a_look_that_fails_keeps_nothing_from_being_dispatched() -> None:
    """It is told of like other chores, once it fails again."""
    watched = Watched()
    watched.overview.fails = True
    await added(watched.stage.memory)
    scheduler = watched.scheduler()

    tick = await scheduler.tick()
    watched.stage.clock.advance(SURVEY_SECONDS)
    await scheduler.tick()

    assert tick.leased == 1
    assert [each.chore for each in watched.stage.telemetry.of(ChoreSkipped)] == ["survey"]
