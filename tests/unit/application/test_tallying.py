"""What a process has counted reaches the database once; where there is nothing, nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import pytest

from async_jobs.adapters.memory.tallies import MemoryTallies
from async_jobs.application.tallying import FLUSH_SECONDS, Tallying
from async_jobs.domain.errors import StoreRefused, Unavailable
from async_jobs.domain.tallies import DAY, MINUTE, Batch, Group, floor_of, query_of
from async_jobs.testing.builders import a_request
from async_jobs.testing.clocks import NOW, ManualClock, let_others_run
from tests.unit.application.stage import Stage

GROUP = Group(floor_of(NOW, MINUTE), "mail", "", "send")


class Counting:
    """Counts what a test says."""

    def __init__(self) -> None:
        self._number = 0
        self.counted = 0

    def take(self) -> Batch | None:
        if not self.counted:
            return None
        self._number += 1
        sums, self.counted = {GROUP: [self.counted]}, 0
        return Batch("one", self._number, sums)


class Tallies(MemoryTallies):
    """Tallies that fail, before or after what they do.

    Attributes:
        calls: how often something was added, or that was tried.
        fails: raised by the next call, after it took effect if it is `Unavailable`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.fails: Exception | None = None

    async def add(self, batch: Batch, *, at: datetime) -> None:
        self.calls += 1
        error, self.fails = self.fails, None
        if not isinstance(error, StoreRefused):
            await super().add(batch, at=at)
        if error is not None:
            raise error


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.counting, self.tallies = Counting(), Tallies()
        self.errors: list[Exception] = []
        self.tallying = Tallying(
            self.counting, self.tallies, clock=self.clock, on_error=self.errors.append
        )

    async def kept(self) -> int:
        query = query_of(now=NOW, since=GROUP.starting, until=NOW + DAY)
        sums: Mapping[Group, Sequence[int]] = await self.tallies.sums(query, limit=10)
        return sum(each[0] for each in sums.values())


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_nothing_counted_is_no_statement(scene: Scene) -> None:
    """An idle process asks nobody anything."""
    await scene.tallying.flush()

    assert scene.tallies.calls == 0


async def test_a_batch_that_nobody_answered_counts_once(scene: Scene) -> None:
    """It is repeated as it is, and what was counted since follows."""
    scene.counting.counted = 2
    scene.tallies.fails = Unavailable("the answer was lost")
    with pytest.raises(Unavailable):
        await scene.tallying.flush()
    scene.counting.counted = 3

    await scene.tallying.flush()

    assert scene.tallies.calls == 3
    assert await scene.kept() == 5


async def test_a_batch_that_is_refused_keeps_no_other_back(scene: Scene) -> None:
    """It is told of, and lost."""
    scene.counting.counted = 2
    scene.tallies.fails = StoreRefused("a trigger of somebody's")
    with pytest.raises(StoreRefused):
        await scene.tallying.flush()
    scene.counting.counted = 3

    await scene.tallying.flush()

    assert await scene.kept() == 3


async def test_it_is_told_every_ten_seconds_and_at_the_end(scene: Scene) -> None:
    """Whatever failed in between."""
    running = asyncio.create_task(scene.tallying.run())
    await let_others_run()
    scene.counting.counted, scene.tallies.fails = 1, Unavailable("nobody answers")
    scene.clock.advance(FLUSH_SECONDS)
    await let_others_run()
    after_ten_seconds = await scene.kept()
    scene.counting.counted = 1
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await scene.tallying.end()

    assert after_ten_seconds == 1
    assert await scene.kept() == 2
    assert len(scene.errors) == 1


async def test_schedulers_roll_up_where_something_runs() -> None:
    """Once an hour, in bounded batches that follow each other at once; an idle one asks nothing."""
    stage = Stage()
    tallies = MemoryTallies()
    old = GROUP.starting - 3 * DAY
    minutes = {GROUP._replace(starting=old, type=str(n)): [1] for n in range(1_500)}
    await tallies.add(Batch("one", 1, minutes), at=NOW)
    scheduler = stage.scheduler(tallies=tallies)

    await scheduler.tick()
    idle = len(tallies._minutes)
    stage.clock.advance(3_600)
    await stage.service().enqueue(a_request())
    left = []
    for _ in range(3):
        await scheduler.tick()
        left.append(len(tallies._minutes))

    assert idle == 1_500
    assert left == [500, 0, 0]
    assert len(tallies._hours) == 1_500
