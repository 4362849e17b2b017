"""Time and chance that a test owns: nothing moves unless the test says so."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from uuid import UUID

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
"""The instant at which the stories that tests tell begin."""

_MICROSECONDS = 1_000_000


class ManualClock:
    """Implements `Clock`: stands still until `advance` moves it.

    Time is kept in whole microseconds, so that ten times 0.1 s is one second. Sleepers may
    live on other event loops and threads than the one that moves the clock.
    """

    def __init__(self, start: datetime = NOW) -> None:
        self._start = start
        self._elapsed = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._slept = 0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """See `Clock`."""
        return self._start + timedelta(microseconds=self._elapsed)

    def monotonic(self) -> float:
        """See `Clock`."""
        return self._elapsed / _MICROSECONDS

    async def sleep(self, seconds: float) -> None:
        """See `Clock`. Waits until the clock was advanced far enough."""
        if seconds <= 0:
            await let_others_run()
            return
        sleeper = asyncio.get_running_loop().create_future()
        with self._lock:
            self._slept += 1
            due = self._elapsed + round(seconds * _MICROSECONDS)
            heapq.heappush(self._sleepers, (due, self._slept, sleeper))
        await sleeper

    async def sync(self, *, within: object | None = None) -> None:
        """See `Clock`. There is nothing to measure."""

    def advance(self, seconds: float) -> None:
        """Move `now` and `monotonic` on, and wake who is due by then, the earliest first."""
        if seconds < 0:
            raise ValueError("time does not go back; shift() models clocks that disagree")
        with self._lock:
            self._elapsed += round(seconds * _MICROSECONDS)
            due = []
            while self._sleepers and self._sleepers[0][0] <= self._elapsed:
                due.append(heapq.heappop(self._sleepers)[-1])
        for sleeper in due:
            _wake(sleeper)

    def shift(self, seconds: float) -> None:
        """Move `now` only, either way: the host's clock was set, and nobody wakes."""
        self._start += timedelta(seconds=seconds)

    @property
    def sleepers(self) -> int:
        """How many tasks sleep."""
        with self._lock:
            return sum(not sleeper.done() for *_, sleeper in self._sleepers)

    @property
    def next_sleeper_due(self) -> float | None:
        """By how many seconds the clock must advance to wake somebody; None if nobody sleeps."""
        with self._lock:
            while self._sleepers and self._sleepers[0][-1].done():
                heapq.heappop(self._sleepers)
            if not self._sleepers:
                return None
            return (self._sleepers[0][0] - self._elapsed) / _MICROSECONDS


class ManualChance:
    """Implements `Chance`: the same seed draws the same numbers and ids, in the same order."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._draws = 0
        self._ids = 0
        self._lock = threading.Lock()

    def uniform(self) -> float:
        """See `Chance`."""
        with self._lock:
            self._draws += 1
            return (self._hashed(f"draw {self._draws}") >> 11) / 2**53

    def uuid(self, at: datetime) -> UUID:
        """See `Chance`. A counter above 32 bits of chance keeps ids growing and apart."""
        with self._lock:
            self._ids += 1
            tail = self._ids << 32 | self._hashed(f"id {self._ids}") >> 32
        milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        high, low = tail >> 62, tail & (2**62 - 1)
        return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)

    def _hashed(self, name: str) -> int:
        """Return 64 bits that depend on the seed and `name` only."""
        return int.from_bytes(hashlib.sha256(f"{self._seed} {name}".encode()).digest()[:8])


class _OneTurn:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def let_others_run(turns: int = 1) -> None:
    """Give every other task of the event loop `turns` turns."""
    for _ in range(turns):
        await _OneTurn()


def _wake(sleeper: asyncio.Future[None]) -> None:
    loop = sleeper.get_loop()
    if loop is _running_loop():
        _finish(sleeper)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(_finish, sleeper)


def _finish(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
