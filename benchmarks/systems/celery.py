"""Celery on Redis, whose client and workers are synchronous."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery
from redis import Redis

from benchmarks.systems.protocol import Payload, System, done, main, payload, redis_url, settings

SETTINGS = {
    # "Concurrency": jobs are executed in the worker's own thread, so that a worker is one process.
    # "prefork" has one more at least, and hands it every job.
    "pool": "solo",
    # "Optimizing": 64 or 128 where there are lots of short tasks.
    "worker_prefetch_multiplier": 64,
    # "Tasks": a job is acknowledged when it is finished, so that a worker that dies loses none.
    "task_acks_late": True,
    # "Tasks": results that nobody asks for cost time.
    "task_ignore_result": True,
    "worker_enable_remote_control": False,
}
# "Workers": no word of several workers to one another.
OPTIONS = (
    "--concurrency=1",
    "--loglevel=ERROR",
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
)
NO_CAP = "Celery's `concurrency` is a worker process's own, and `rate_limit` is no cap"

PENDING, UNACKNOWLEDGED = "celery", "unacked"


class CelerySystem(System):
    """One caller is served in the loop's own thread, several in a thread each."""

    async def setup(self) -> None:
        """Empty the database."""
        with Redis.from_url(redis_url()) as redis:
            redis.flushdb()

    async def open(self, pool: int) -> None:
        """Make a client; it connects when it is first used."""
        self._app, self._noop = _app(broker_pool_limit=pool)
        self._redis = Redis.from_url(redis_url())
        self._threads = ThreadPoolExecutor(pool) if pool > 1 else None

    async def close(self) -> None:
        """Disconnect."""
        if self._threads is not None:
            self._threads.shutdown()
        self._redis.close()
        self._app.close()

    async def enqueue(self, payload: Payload) -> None:
        """Enqueue one job."""
        if self._threads is None:
            self._noop.delay(payload)
        else:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self._noop.delay, payload)

    async def bulk(self, n: int, cap: bool) -> None:
        """Enqueue one after the other on one connection, which is what its groups do."""
        if cap:
            raise ValueError(NO_CAP)
        with self._app.producer_or_acquire() as producer:
            for number in range(n):
                self._noop.apply_async((payload(number),), producer=producer)

    async def work(self) -> None:
        """Execute jobs; the loop has nothing else to do meanwhile."""
        app, _ = _app()
        app.worker_main(["worker", f"--pool={settings(SETTINGS)['pool']}", *OPTIONS])

    async def remaining(self) -> int:
        """Count the jobs that wait, and those that have been delivered but not acknowledged."""
        pipeline = self._redis.pipeline()
        pipeline.llen(PENDING)
        pipeline.hlen(UNACKNOWLEDGED)
        return sum(pipeline.execute())


def _app(**more: Any) -> tuple[Celery, Any]:
    app = Celery("bench", broker=redis_url())
    own = settings(SETTINGS)
    app.conf.update({name: own[name] for name in own if name != "pool"}, **more)
    return app, app.task(name="noop")(noop)


def noop(payload: Payload) -> None:
    """Do nothing but note it."""
    done(payload)


if __name__ == "__main__":
    main(CelerySystem)
