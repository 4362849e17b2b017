"""PgQueuer: the highest priority first, then the order in which jobs came."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.fairness.peers.played import Part, Peer, by_priority, dsn, execute, main

ENTRYPOINT = "play"


class PgQueuerPeer(Peer):
    """One entrypoint; the slots are its `concurrency_limit`, and a batch is one job."""

    async def setup(self) -> None:
        connection = await asyncpg.connect(dsn())
        try:
            await Queries(AsyncpgDriver(connection)).install()
        finally:
            await connection.close()

    async def open(self) -> None:
        self._connection = await asyncpg.connect(dsn())
        self._queries = Queries(AsyncpgDriver(self._connection))

    async def close(self) -> None:
        await self._connection.close()

    async def enqueue(self, parts: Sequence[Part]) -> None:
        payloads: list[bytes | None] = [json.dumps(part.payload).encode() for part in parts]
        priorities = [part.priority if by_priority() else 0 for part in parts]
        await self._queries.enqueue([ENTRYPOINT] * len(parts), payloads, priorities)

    async def work(self, slots: int) -> None:
        async with asyncpg.create_pool(dsn(), min_size=4, max_size=8) as pool:
            queue = PgQueuer(AsyncpgPoolDriver(pool))

            @queue.entrypoint(ENTRYPOINT, concurrency_limit=slots)
            async def perform(job: Job) -> None:
                await execute(json.loads(job.payload or b""))

            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
            await queue.run(batch_size=1, dequeue_timeout=timedelta(seconds=1))


if __name__ == "__main__":
    main(PgQueuerPeer)
