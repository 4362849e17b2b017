"""The database's time, so that hosts whose clocks differ agree."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import datetime, timedelta
from typing import cast

import asyncpg

from async_jobs.adapters.postgres.callers import connection_of, in_callers_transaction
from async_jobs.adapters.postgres.errors import translated
from async_jobs.adapters.postgres.pool import AnyConnection, borrowed
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.errors import Unavailable
from async_jobs.ports.clock import Clock

REFRESH_SECONDS = 30.0
RETRY_SECONDS = 5.0
SAMPLES = 3


class PostgresClock:
    """Implements `Clock`: `now` is the database's, measured against `host.monotonic`.

    Call `refresh` (or `sync`) before what depends on it. Between measurements time runs on
    by the host's monotonic clock. It is never ahead of the database's, and behind by at most a
    round trip, but for the drift of 30 seconds: what one host writes as due or visible now,
    another one finds so when it hears of it.
    """

    def __init__(self, pool: asyncpg.Pool, *, host: Clock) -> None:
        self._pool = pool
        self._host = host
        self._lock = threading.Lock()
        self._origin: datetime | None = None
        self._origin_monotonic = 0.0
        self._measured = (float("-inf"), 0.0)  # when, and by how long a round trip
        self._refresh_due = 0.0
        self._latest: datetime | None = None
        self._first: asyncio.Task[None] | None = None

    def now(self) -> datetime:
        """See `Clock`. The host's own time as long as the database's has never been measured.

        Whoever decides by the time calls `sync` before; whoever only tells of something need not.
        """
        with self._lock:
            if self._origin is None:
                return self._host.now()
            passed = timedelta(seconds=self._host.monotonic() - self._origin_monotonic)
            now = self._origin + passed
            # A new measurement may lie behind the last answer; time then stands still a while.
            if self._latest is None or now > self._latest:
                self._latest = now
            return self._latest

    def monotonic(self) -> float:
        """See `Clock`."""
        return self._host.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await self._host.sleep(seconds)

    async def sync(self, *, within: object | None = None) -> None:
        """See `Clock`. Measures when the last measurement is 30 seconds old.

        Args:
            within: what `connection_of` takes; then no other connection is asked.

        Raises:
            Unavailable: the database's time has never been measured and cannot be now.
        """
        if within is not None:
            if self._origin is None or self.monotonic() >= self._refresh_due:
                connection = await connection_of(within)
                async with in_callers_transaction(connection):
                    await self._measure(connection)
        elif self._origin is None:
            await self._first_refresh()
        elif self.monotonic() >= self._refresh_due:
            # Whoever asks next goes by the last measurement meanwhile.
            self._refresh_due = self.monotonic() + RETRY_SECONDS
            with suppress(Unavailable):
                await self.refresh()

    async def _first_refresh(self) -> None:
        """Measure once for all who come meanwhile: they would open a connection each."""
        loop = asyncio.get_running_loop()
        if self._first is None or self._first.done() or self._first.get_loop() is not loop:
            self._first = loop.create_task(self.refresh())
            # Whoever waits for it may be gone by the time it fails.
            self._first.add_done_callback(_noted)
        await asyncio.shield(self._first)

    async def refresh(self) -> None:
        """Measure the database's time: the sample with the shortest round trip counts.

        Raises:
            Unavailable: the database does not answer; the last measurement stays in force.
        """
        async with translated(self._pool), borrowed(self._pool) as connection:
            await self._measure(connection)

    async def _measure(self, connection: AnyConnection) -> None:
        best: tuple[float, float, datetime] | None = None
        began = self.monotonic()
        for _ in range(SAMPLES):
            sent = self.monotonic()
            time = cast("datetime", await connection.fetchval(sql("database_time")))
            trip = self.monotonic() - sent
            best = min(best or (trip, sent, time), (trip, sent, time))
        assert best is not None
        trip, sent, time = best
        with self._lock:
            measured_at, shorter_trip = self._measured
            if measured_at > began and shorter_trip <= trip:
                return  # somebody measured better in the meantime
            self._measured = (self.monotonic(), trip)
            self._origin = time
            self._origin_monotonic = sent + trip
            self._refresh_due = self.monotonic() + REFRESH_SECONDS


def _noted(task: asyncio.Task[None]) -> None:
    """Take note of how a task ended, or asyncio would complain that nobody has."""
    if not task.cancelled():
        task.exception()
