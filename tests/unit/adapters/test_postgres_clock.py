"""Two tasks that measure the database's time at once: the better measurement counts."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import cast

import asyncpg
import pytest

from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.domain.errors import Unavailable
from async_jobs.testing.clocks import NOW, ManualClock, let_others_run


class Slow:
    """A connection whose answers travel as long as a test says; there is no hurry one way."""

    def __init__(self, host: ManualClock, there: float, back: float) -> None:
        self._host = host
        self._there = there
        self._back = back

    async def fetchval(self, query: str) -> datetime:
        await self._host.sleep(self._there)
        time = NOW + timedelta(seconds=self._host.monotonic())
        await self._host.sleep(self._back)
        return time


class Connections:
    """As much of a pool as the clock needs; lends each connection once."""

    def __init__(self, *connections: Slow) -> None:
        self._connections = list(connections)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Slow]:
        yield self._connections.pop(0)


async def elapsed(host: ManualClock, tasks: list[asyncio.Task[None]]) -> None:
    """Let time pass until all tasks are done."""
    while not all(task.done() for task in tasks):
        await let_others_run(10)
        host.advance(host.next_sleeper_due or 0)


@pytest.mark.parametrize("better_first", [True, False])
async def test_a_worse_measurement_that_ends_later_changes_nothing(better_first: bool) -> None:
    """Though both began before the clock had been measured at all."""
    host = ManualClock()
    good, bad = Slow(host, 0.01, 0.01), Slow(host, 0.0, 4.0)
    lent = (good, bad) if better_first else (bad, good)
    clock = PostgresClock(cast("asyncpg.Pool", Connections(*lent)), host=host)

    tasks = [asyncio.create_task(clock.refresh()) for _ in lent]
    await elapsed(host, tasks)

    error = clock.now() - (NOW + timedelta(seconds=host.monotonic()))
    assert abs(error) <= timedelta(seconds=0.01)


async def test_a_later_measurement_replaces_a_better_one() -> None:
    """Clocks drift: what was right an hour ago need not be now."""
    host = ManualClock()
    pool = Connections(Slow(host, 0.01, 0.01), Slow(host, 0.0, 2.0))
    clock = PostgresClock(cast("asyncpg.Pool", pool), host=host)
    await elapsed(host, [asyncio.create_task(clock.refresh())])

    host.advance(3_600)
    await elapsed(host, [asyncio.create_task(clock.refresh())])

    # The slow one's own error: all of its trip was on the way back.
    assert clock.now() - (NOW + timedelta(seconds=host.monotonic())) == timedelta(seconds=-2)


@pytest.mark.parametrize(("there", "back"), [(2.0, 0.0), (0.0, 2.0), (1.0, 1.0)])
async def test_a_clock_is_never_ahead_of_the_database(there: float, back: float) -> None:
    """Or another host would not yet see what this one has just made due."""
    host = ManualClock()
    clock = PostgresClock(cast("asyncpg.Pool", Connections(Slow(host, there, back))), host=host)
    await elapsed(host, [asyncio.create_task(clock.refresh())])

    assert clock.now() - (NOW + timedelta(seconds=host.monotonic())) == timedelta(seconds=-back)


async def test_who_asks_first_asks_for_all() -> None:
    """A process that begins with many calls at once opens no connection for each of them."""
    host = ManualClock()
    clock = PostgresClock(cast("asyncpg.Pool", Connections(Slow(host, 0.01, 0.01))), host=host)

    tasks = [asyncio.create_task(clock.sync()) for _ in range(10)]
    await let_others_run(3)
    tasks[0].cancel()  # it takes nobody along
    await elapsed(host, tasks)

    assert [task.cancelled() for task in tasks] == [True] + [False] * 9
    assert all(task.exception() is None for task in tasks[1:])
    assert abs(clock.now() - (NOW + timedelta(seconds=host.monotonic()))) < timedelta(seconds=0.02)


async def test_a_first_measurement_that_failed_is_made_again() -> None:
    """Whoever comes later is not told of a database that was away before."""
    host = ManualClock()

    class Away(Slow):
        async def fetchval(self, query: str) -> datetime:
            raise OSError("no route to host")

    pool = Connections(Away(host, 0, 0), Slow(host, 0.01, 0.01))
    clock = PostgresClock(cast("asyncpg.Pool", pool), host=host)

    tasks = [asyncio.create_task(clock.sync()) for _ in range(3)]
    await elapsed(host, tasks)
    later = asyncio.create_task(clock.sync())
    await elapsed(host, [later])

    assert all(isinstance(task.exception(), Unavailable) for task in tasks)
    assert later.exception() is None


async def test_a_first_measurement_that_fails_when_nobody_waits_is_no_complaint() -> None:
    """A program that gives up for a better reason has no traceback above it."""
    host = ManualClock()

    class Away(Slow):
        async def fetchval(self, query: str) -> datetime:
            await self._host.sleep(1)
            raise OSError("no route to host")

    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    clock = PostgresClock(cast("asyncpg.Pool", Connections(Away(host, 0, 0))), host=host)
    gone = asyncio.create_task(clock.sync())
    await let_others_run(10)
    gone.cancel()
    await elapsed(host, [gone])
    host.advance(1)
    await let_others_run(10)
    assert gone.cancelled()
    del clock, gone  # asyncio complains when nobody can ask any more
    gc.collect()

    assert not complaints


def test_before_the_first_measurement_it_is_the_hosts_time() -> None:
    """Whoever only tells of something need not measure; later answers may lie before this one."""
    host = ManualClock()
    clock = PostgresClock(cast("asyncpg.Pool", Connections()), host=host)

    assert clock.now() == host.now()
