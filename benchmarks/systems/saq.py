"""SAQ on Redis: a list of what waits, a list of what is executed, and a key for each job.

A worker that starts sweeps the second list, and hands out again what has been taken from the first
one but is not yet marked as active: then a job is executed twice, which the marks show.
"""

from __future__ import annotations

import asyncio
from typing import Any

from saq import Queue, Worker

from benchmarks.systems.protocol import Payload, System, done, main, payload, redis_url, settings

SETTINGS = {
    # `Worker`: how many jobs one process executes at a time; its default is 10.
    "concurrency": 100,
    # There is no call for many jobs that does not wait for their results: so many coroutines
    # enqueue one after the other.
    "producers": 32,
}
NO_CAP = "SAQ's `concurrency` is a worker process's own"


class Saq(System):
    """Its queue on Redis with hiredis; results are kept for ten minutes, its default."""

    async def setup(self) -> None:
        """Empty the database."""
        await self.open(1)
        await self._queue.redis.flushdb()
        await self.close()

    async def open(self, pool: int) -> None:
        """Connect; `max_concurrent_ops` is how many may enqueue at a time, 20 by default."""
        self._queue = Queue.from_url(redis_url(), max_concurrent_ops=max(pool, 20))
        await self._queue.connect()

    async def close(self) -> None:
        """Disconnect."""
        await self._queue.disconnect()

    async def enqueue(self, payload: Payload) -> None:
        """Enqueue one job."""
        await self._queue.enqueue("noop", payload=payload)

    async def bulk(self, n: int, cap: bool) -> None:
        """Enqueue one after the other, in several coroutines."""
        if cap:
            raise ValueError(NO_CAP)
        numbers = iter(range(n))

        async def produce() -> None:
            for number in numbers:
                await self.enqueue(payload(number))

        await asyncio.gather(*(produce() for _ in range(settings(SETTINGS)["producers"])))

    async def work(self) -> None:
        """Execute jobs."""
        concurrency = settings(SETTINGS)["concurrency"]
        await self.open(concurrency)
        await Worker(self._queue, functions=[("noop", noop)], concurrency=concurrency).start()

    async def remaining(self) -> int:
        """Count the jobs that wait, are executed, or are being written off."""
        return int(await self._queue.count("incomplete"))


async def noop(context: Any, *, payload: Payload) -> None:
    """Do nothing but note it."""
    done(payload)


if __name__ == "__main__":
    main(Saq)
