"""Oban for Python: jobs in a Postgres table; a producer a queue fetches and acknowledges."""

from __future__ import annotations

import asyncio
from typing import Any

from oban import Oban, worker
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from benchmarks.systems.protocol import Payload, System, done, dsn, main, payload, settings

SETTINGS = {
    # `queues`: how many jobs of the queue one node executes at a time, and so how many it fetches
    # at once. 100 and 2,000 were as fast.
    "limit": 500,
    # `Oban.create_pool`: its own default.
    "pool": 10,
    # How many jobs one call of `enqueue_many` is given.
    "batch": 5_000,
}
NO_CAP = "Oban's `limit` is a node's own; `global_limit` is a part of Oban Pro"

PENDING = """
    SELECT count(*) FROM oban_jobs
    WHERE state IN ('available', 'scheduled', 'executing', 'retryable')
"""
DONE_ONCE = "SELECT count(*) FROM oban_jobs WHERE state = 'completed' AND attempt = 1"


class Noop:
    """Does nothing but note it."""

    async def process(self, job: Any) -> None:
        """Execute one job."""
        done(job.args)


NoopWorker: Any = worker(queue="default")(Noop)


class ObanSystem(System):
    """The library without Oban Pro."""

    async def setup(self) -> None:
        """Create its tables."""
        async with _pool(1) as pool:
            await install(pool)

    async def open(self, pool: int) -> None:
        """Start a client, which enqueues only."""
        self._pool = _pool(pool)
        await self._pool.open(wait=True)
        self._oban = await Oban(pool=self._pool).start()

    async def close(self) -> None:
        """Stop the client."""
        await self._oban.stop()
        await self._pool.close()

    async def enqueue(self, payload: Payload) -> None:
        """Enqueue one job."""
        await self._oban.enqueue(NoopWorker.new(payload))

    async def bulk(self, n: int, cap: bool) -> None:
        """Enqueue many jobs in one transaction."""
        if cap:
            raise ValueError(NO_CAP)
        size = settings(SETTINGS)["batch"]
        for first in range(0, n, size):
            numbers = range(first, min(first + size, n))
            await self._oban.enqueue_many(*(NoopWorker.new(payload(i)) for i in numbers))

    async def work(self) -> None:
        """Execute jobs."""
        own = settings(SETTINGS)
        async with (
            _pool(own["pool"]) as pool,
            Oban(pool=pool, queues={"default": own["limit"]}),
        ):
            await asyncio.Event().wait()

    async def remaining(self) -> int:
        """Count the jobs that wait or are executed."""
        return await self._count(PENDING)

    async def verify(self, jobs: int) -> str | None:
        """Count what is kept of the jobs that succeeded at the first attempt."""
        done_once = await self._count(DONE_ONCE)
        return None if done_once == jobs else f"{done_once} of {jobs} jobs have completed once"

    async def _count(self, statement: str) -> int:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(statement)).fetchone()
        return int(row[0])


def _pool(size: int) -> AsyncConnectionPool:
    return AsyncConnectionPool(dsn(), min_size=1, max_size=size, open=False)


if __name__ == "__main__":
    main(ObanSystem)
