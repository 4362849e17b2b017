"""What a host gives to the process that runs on it: a clock, a signal, and ways to tell things."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.domain.facts import Fact
from async_jobs.ports.clock import Clock
from tests.simulation.judge import Judge
from tests.simulation.loop import SimulatedLoop
from tests.simulation.records import SECRET
from tests.simulation.wire import Session

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class HostClock:
    """Implements `Clock` by the clocks of a host, which are right about nothing but durations.

    Args:
        wrong_by: how far its time of day is from the truth, in seconds.
        counts_from: what its monotonic clock showed when the simulation began.
    """

    def __init__(
        self, loop: SimulatedLoop, *, wrong_by: float = 0.0, counts_from: float = 0.0
    ) -> None:
        self._loop = loop
        self._wrong_by = timedelta(seconds=wrong_by)
        self._counts_from = counts_from
        self._at, self._now = 0.0, EPOCH + self._wrong_by

    def now(self) -> datetime:
        # Time stands still most of the time: what was told for an instant is told again.
        at = self._loop.time()
        if at != self._at:
            self._at, self._now = at, EPOCH + timedelta(seconds=at) + self._wrong_by
        return self._now

    def monotonic(self) -> float:
        return self._counts_from + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        awake = self._loop.create_future()
        timer = self._loop.call_later(max(0.0, seconds), _finish, awake)
        try:
            await awake
        except BaseException:
            timer.cancel()
            raise

    async def sync(self, *, within: object | None = None) -> None:
        return


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class LossySignal:
    """Implements `Signal`: what one process says, all processes hear, but for what is lost.

    Args:
        clock: the true one.
        broadcast: lets everybody hear a topic, or not.
    """

    def __init__(self, clock: Clock, broadcast: Callable[[str], None]) -> None:
        self._broadcast = broadcast
        self.heard = MemorySignal(clock=clock)

    def notify(self, topic: str) -> None:
        self._broadcast(topic)

    async def notify_within(self, topic: str, within: object) -> None:
        assert isinstance(within, Session)
        within.inner.on_commit(partial(self._broadcast, topic))

    async def wait(self, topic: str, *, timeout_seconds: float) -> bool:
        return await self.heard.wait(topic, timeout_seconds=timeout_seconds)


class SecretiveTelemetry:
    """Implements `Telemetry`: whatever a fact tells, it is not what a payload holds."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._seen = 0

    def wants(self, kind: type[Fact]) -> bool:
        return True

    def record(self, fact: Fact) -> None:
        self._seen += 1
        # Facts of a kind are alike; writing every one of them out would be most of the work.
        told = repr(fact) if self._seen % 16 == 1 else str(getattr(fact, "error", ""))
        self._judge.require(SECRET not in told, "S19", f"{type(fact).__name__} tells")


class RenewalProcess:
    """Implements `RenewalHost`: goes on while the worker's own loop is blocked, dies with it."""

    def __init__(self, start: Callable[[], asyncio.Task[None]]) -> None:
        self._start = start
        self._task: asyncio.Task[None] | None = None
        self.wanted = asyncio.Event()

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        self._task = self._start()

    def want(self) -> None:
        self.wanted.set()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
