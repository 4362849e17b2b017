"""The register of live workers on Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg

from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import fetched
from async_jobs.adapters.postgres.rows import decoded, encoded
from async_jobs.adapters.postgres.schemas import Whereabouts
from async_jobs.adapters.postgres.statements import sql
from async_jobs.ports.clock import Clock
from async_jobs.ports.workers import WorkerInfo

FORGET_AFTER = timedelta(hours=1)


class PostgresWorkers:
    """Implements `Workers` on the table `workers`."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        clock: Clock | None = None,
        whereabouts: Whereabouts | None = None,
    ) -> None:
        self._pool = pool
        self._whereabouts = whereabouts
        self._clock = clock

    async def announce(self, worker: WorkerInfo) -> None:
        """See `Workers`."""
        await self._fetch(
            "announce_worker",
            worker.worker_id,
            list(worker.queues),
            worker.slots,
            worker.busy,
            worker.host,
            worker.version,
            worker.seen_at,
            worker.alive_until,
            encoded(dict(worker.run_times)),
            worker.transport,
            None if worker.types is None else list(worker.types),
        )

    async def live(self, now: datetime) -> Sequence[WorkerInfo]:
        """See `Workers`."""
        rows = await self._fetch("live_workers", now)
        return [_worker(row) for row in rows]

    async def withdraw(self, worker_id: str) -> None:
        """See `Workers`. Forgets those as well that fell silent an hour ago."""
        long_ago = None if self._clock is None else self._clock.now() - FORGET_AFTER
        await self._fetch("withdraw_worker", worker_id, long_ago)

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def once() -> list[asyncpg.Record]:
            return await fetched(
                self._pool, sql(statement), *arguments, whereabouts=self._whereabouts
            )

        async with translated(self._pool):
            return await retried(once)


def _worker(row: asyncpg.Record) -> WorkerInfo:
    types = row["types"]
    told = {
        "queues": tuple(row["queues"]),
        "run_times": decoded(row["run_times"]),
        "types": None if types is None else tuple(types),
    }
    return WorkerInfo(**{**row, **told})
