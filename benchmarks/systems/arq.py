"""arq on Redis: a sorted set that workers poll, and keys for each job."""

from __future__ import annotations

import asyncio
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.constants import default_queue_name
from arq.worker import Worker

from benchmarks.systems.protocol import Payload, System, done, main, payload, redis_url, settings

SETTINGS = {
    # `Worker`: how many jobs one process executes at a time; its default is 10.
    "max_jobs": 100,
    # `Worker`: seconds between two looks at the queue; its default is 0.5.
    "poll_delay": 0.01,
    # `Worker`: results are not kept, and not logged.
    "keep_result": 0,
    "log_results": False,
    # There is no call for many jobs: so many coroutines enqueue one after the other.
    "producers": 32,
}
NO_CAP = "arq's `max_jobs` is a worker process's own"


class Arq(System):
    """Its pool and its worker, with hiredis."""

    async def setup(self) -> None:
        """Empty the database."""
        await self.open(1)
        await self._pool.flushdb()
        await self.close()

    async def open(self, pool: int) -> None:
        """Connect; the pool opens as many connections as there are callers at a time."""
        self._pool = await create_pool(RedisSettings.from_dsn(redis_url()))

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.aclose()

    async def enqueue(self, payload: Payload) -> None:
        """Enqueue one job."""
        await self._pool.enqueue_job("noop", payload)

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
        own = settings(SETTINGS)
        worker = Worker(
            [func(noop, name="noop")],
            redis_settings=RedisSettings.from_dsn(redis_url()),
            handle_signals=False,
            **{
                name: own[name] for name in ("max_jobs", "poll_delay", "keep_result", "log_results")
            },
        )
        await worker.async_run()

    async def remaining(self) -> int:
        """Count the jobs that wait or are executed: they leave the set when they are finished."""
        return int(await self._pool.zcard(default_queue_name))


async def noop(context: Any, payload: Payload) -> None:
    """Do nothing but note it."""
    done(payload)


if __name__ == "__main__":
    main(Arq)
