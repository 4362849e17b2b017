"""taskiq on taskiq-pg: a Postgres table, and a notification for each of its rows.

The notification is the only way to a worker, and it reaches all of them. So a job that nobody
listened for is never executed, and with two workers many a job is executed twice, which the marks
of the handlers show.
"""

from __future__ import annotations

import asyncio
from typing import Any

from taskiq.api import run_receiver_task
from taskiq_pg import AsyncpgBroker

from benchmarks.systems.protocol import Payload, System, done, dsn, main, payload, settings

SETTINGS = {
    # `--max-async-tasks` of its command line: its own default.
    "max_async_tasks": 100,
    # `pool_kwargs`: by which jobs are enqueued and finished jobs are deleted; it opens a connection
    # when all others are busy.
    "pool": 16,
    # There is no call for many jobs: so many coroutines enqueue one after the other.
    "producers": 32,
}
NO_CAP = "taskiq's `max_async_tasks` is a worker process's own"

TABLE = "taskiq_messages"
PENDING = f"SELECT count(*) FROM {TABLE}"
MISSED = f"SELECT id FROM {TABLE} ORDER BY id"


class Notifications(asyncio.Queue[str]):
    """What a worker has been notified of, once each: some of it may have been missed before."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[str] = set()

    def put_nowait(self, item: str) -> None:
        """Take a job's number, unless it is known."""
        if item not in self._known:
            self._known.add(item)
            super().put_nowait(item)


class TaskiqPg(System):
    """A receiver in the worker's own loop; its default acknowledges a job that is finished."""

    async def setup(self) -> None:
        """Create its table."""
        await self.open(2)
        await self.close()

    async def open(self, pool: int) -> None:
        """Connect."""
        size = max(pool, settings(SETTINGS)["pool"])
        self._broker = AsyncpgBroker(dsn(), pool_kwargs={"min_size": 1, "max_size": size})
        self._noop = self._broker.task(task_name="noop")(noop)
        await self._broker.startup()

    async def close(self) -> None:
        """Disconnect."""
        await self._broker.shutdown()

    async def enqueue(self, payload: Payload) -> None:
        """Enqueue one job."""
        await self._noop.kiq(payload)

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
        """Execute jobs, and first those whose notification came before there was a worker.

        Their numbers are put where notifications put them; the library has no way to do so, and
        without it there were nothing to measure.
        """
        own = settings(SETTINGS)
        await self.open(1)
        self._broker._queue = Notifications()
        for row in await self._rows(MISSED):
            self._broker._queue.put_nowait(str(row["id"]))
        await run_receiver_task(self._broker, max_async_tasks=own["max_async_tasks"])

    async def remaining(self) -> int:
        """Count the jobs that have not been acknowledged."""
        (row,) = await self._rows(PENDING)
        return int(row["count"])

    async def _rows(self, statement: str) -> list[Any]:
        async with self._broker.write_pool.acquire() as connection:
            return list(await connection.fetch(statement))


async def noop(payload: Payload) -> None:
    """Do nothing but note it."""
    done(payload)


if __name__ == "__main__":
    main(TaskiqPg)
