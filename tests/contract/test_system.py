"""The clocks and chances keep the ports' promises: the host's, and the ones that tests own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta

import pytest

from async_jobs.host import SystemChance, SystemClock
from async_jobs.ports.clock import Chance, Clock
from async_jobs.testing.clocks import NOW, ManualChance, ManualClock, let_others_run
from async_jobs.testing.contracts import ChanceContract, ClockContract
from async_jobs.testing.contracts.scenes import Elapse

FORKS = """
import os
from async_jobs.host import SystemChance
from async_jobs.testing.clocks import NOW
chance = SystemChance()
chance.uuid(NOW)
child = os.fork()
os.write(1, f"{chance.uuid(NOW)} {chance.uniform()}\\n".encode())
if child:
    os.waitpid(child, 0)
"""
"""A program that draws, becomes two, and draws in both."""


def test_a_fork_draws_otherwise_than_its_parent() -> None:
    """As the processes of an application server do that forks its workers."""
    ran = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=60
    )

    (first, one), (second, other) = [line.split() for line in ran.stdout.splitlines()]
    assert first != second
    assert one != other


class TestSystemClock(ClockContract):
    @pytest.fixture
    async def clock(self) -> Clock:
        return SystemClock()

    @pytest.fixture
    async def elapse(self, clock: Clock) -> Elapse:
        return clock.sleep


class TestManualClock(ClockContract):
    @pytest.fixture
    async def clock(self) -> Clock:
        return ManualClock()

    @pytest.fixture
    async def elapse(self, clock: ManualClock) -> Elapse:
        async def elapse(seconds: float) -> None:
            clock.advance(seconds)

        return elapse

    async def test_sleepers_wake_in_the_order_of_their_time(self) -> None:
        """Whatever the order in which they fell asleep, and one step wakes all that are due."""
        clock, woken = ManualClock(), list[float]()

        async def sleeper(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(seconds)

        tasks = [asyncio.ensure_future(sleeper(seconds)) for seconds in (3, 1, 2, 9)]
        await let_others_run()
        assert (clock.sleepers, clock.next_sleeper_due) == (4, 1)

        clock.advance(seconds=5)
        await let_others_run(2)

        assert woken == [1, 2, 3]
        assert (clock.sleepers, clock.next_sleeper_due) == (1, 4)
        tasks[3].cancel()
        await asyncio.wait(tasks)
        assert (clock.sleepers, clock.next_sleeper_due) == (0, None)

    async def test_ten_tenths_are_a_whole(self) -> None:
        """Time adds up exactly."""
        clock = ManualClock()
        sleeping = asyncio.ensure_future(clock.sleep(1))
        await let_others_run()

        for _ in range(10):
            clock.advance(seconds=0.1)

        await asyncio.wait_for(sleeping, timeout=1)
        assert clock.now() == NOW + timedelta(seconds=1)

    async def test_a_shifted_clock_wakes_nobody(self) -> None:
        """It models a host whose clock was set: only `now` jumps."""
        clock = ManualClock()
        sleeping = asyncio.ensure_future(clock.sleep(1))
        await let_others_run()

        clock.shift(seconds=-3_600)
        await let_others_run(2)

        assert clock.now() == NOW - timedelta(hours=1)
        assert (clock.monotonic(), sleeping.done()) == (0, False)
        sleeping.cancel()

    async def test_a_sleeper_on_another_loop_is_woken(self) -> None:
        """A worker renews its leases from a thread of its own."""
        clock = ManualClock()
        thread = asyncio.ensure_future(asyncio.to_thread(asyncio.run, clock.sleep(1)))
        while not clock.sleepers:
            await let_others_run()

        clock.advance(seconds=1)

        await asyncio.wait_for(thread, timeout=10)


class TestSystemChance(ChanceContract):
    @pytest.fixture
    def chance(self) -> Chance:
        return SystemChance()


class TestManualChance(ChanceContract):
    @pytest.fixture
    def chance(self) -> Chance:
        return ManualChance()

    def test_a_seed_decides_all_draws(self) -> None:
        """The same one the same, another one others."""
        first, same, other = ManualChance(7), ManualChance(7), ManualChance(8)

        assert first.uniform() == same.uniform() != other.uniform()
        assert first.uuid(NOW) == same.uuid(NOW) != other.uuid(NOW)
