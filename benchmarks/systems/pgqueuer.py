"""PgQueuer: as its documentation advises for throughput, in an environment of its own."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver, Driver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.systems import protocol

SETTINGS = {
    "batch_size": 1_000,  # best of 100, 500 and 1,000
    "pool": 8,  # a pool instead of one connection is worth a quarter
    "concurrency_limit": 2_000,  # what the capped use cases of the others sum up to
    "bulk": 10_000,  # jobs in one call of enqueue
}
ENTRYPOINT = "noop"


class PgQueuerSystem(protocol.System):
    """One entrypoint; a cap is its `concurrency_limit`."""

    def __init__(self) -> None:
        super().__init__()
        self._settings = protocol.settings(SETTINGS)

    async def setup(self) -> None:
        connection = await asyncpg.connect(protocol.dsn())
        try:
            await Queries(AsyncpgDriver(connection)).install()
        finally:
            await connection.close()

    async def open(self, pool: int) -> None:
        driver: Driver
        self._connections: asyncpg.Connection | asyncpg.Pool
        if pool == 1:
            connection = await asyncpg.connect(protocol.dsn())
            self._connections, driver = connection, AsyncpgDriver(connection)
        else:
            connections = await asyncpg.create_pool(protocol.dsn(), min_size=pool, max_size=pool)
            self._connections, driver = connections, AsyncpgPoolDriver(connections)
        self._queries = Queries(driver)

    async def close(self) -> None:
        await self._connections.close()

    async def enqueue(self, payload: protocol.Payload) -> None:
        await self._queries.enqueue(ENTRYPOINT, json.dumps(payload).encode())

    async def bulk(self, n: int, cap: bool) -> None:
        size = self._settings["bulk"]
        for start in range(0, n, size):
            numbers = range(start, min(n, start + size))
            payloads: list[bytes | None] = [
                json.dumps(protocol.payload(number)).encode() for number in numbers
            ]
            await self._queries.enqueue([ENTRYPOINT] * len(numbers), payloads, [0] * len(numbers))

    async def work(self) -> None:
        size = self._settings["pool"]
        async with asyncpg.create_pool(protocol.dsn(), min_size=size, max_size=size) as pool:
            queue = PgQueuer.from_asyncpg_pool(pool)
            limit = self._settings["concurrency_limit"] if self.capped else 0

            @queue.entrypoint(ENTRYPOINT, concurrency_limit=limit)
            async def noop(job: Job) -> None:
                protocol.done(json.loads(job.payload or b""))

            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
            await queue.run(
                batch_size=self._settings["batch_size"], dequeue_timeout=timedelta(seconds=5)
            )

    async def remaining(self) -> int:
        rows = await self._queries.driver.fetch("SELECT count(*) AS n FROM pgqueuer")
        return int(rows[0]["n"])

    async def verify(self, jobs: int) -> str | None:
        """Its log has one row for every change of a job's status."""
        rows = await self._queries.driver.fetch(
            "SELECT count(*) AS all, count(DISTINCT job_id) AS jobs FROM pgqueuer_log"
            " WHERE status = 'successful'"
        )
        if tuple(rows[0].values()) != (jobs, jobs):
            return f"its log tells of {dict(rows[0])} outcomes for {jobs} jobs"
        return None


if __name__ == "__main__":
    protocol.main(PgQueuerSystem)
