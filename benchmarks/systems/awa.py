"""Awa: an engine in Rust with bindings for Python, on append-only tables in Postgres."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from awa import AsyncClient

from benchmarks.systems.protocol import Payload, System, done, dsn, main, payload, settings

SETTINGS = {
    # "QueueConfig": how many jobs a worker process executes at a time. From 512 on it completes
    # jobs in four shards (its ADR 026). 128 was slower.
    "max_workers": 1024,
    # Its own default since 0.6.0, with completions in batches of as many.
    "claim_batch_size": 512,
    # "Python start() kwargs": the fallback where a notification is lost; a quarter of its default.
    "poll_interval_ms": 50,
    "pool": 20,
    # How many jobs one call of `enqueue_many_copy` is given.
    "batch": 10_000,
}
NO_CAP = "awa's `max_workers` and `global_max_workers` are a worker process's own"

QUEUE = "bench"

# A claim and what closes it are in the same slot of a ring; slots are emptied when all are closed.
CLAIMED = """
    WITH changes (claim_slot, n) AS (
        SELECT claim_slot, 1 FROM awa.lease_claims
        UNION ALL SELECT claim_slot, claimed_count FROM awa.lease_claim_batches
        UNION ALL SELECT claim_slot, -1 FROM awa.lease_claim_closures
        UNION ALL SELECT claim_slot, -closed_count FROM awa.lease_claim_closure_batches
    ), slots (open) AS (
        SELECT greatest(0, sum(n)) FROM changes GROUP BY claim_slot
    )
    SELECT coalesce(sum(open), 0)::bigint + (SELECT count(*) FROM awa.leases) AS n FROM slots
"""


@dataclass
class Noop:
    """The arguments of a job, whose class names its kind."""

    n: int
    t: float
    pad: str


class Awa(System):
    """Its asynchronous client on the queue storage, which new databases get."""

    async def setup(self) -> None:
        """Create its tables, and start a worker once, which activates the queue storage."""
        client = AsyncClient(dsn(), max_connections=5)
        await client.migrate()
        client.task(Noop, queue=QUEUE)(noop)
        await client.start([(QUEUE, 1)], poll_interval_ms=50)
        while json.loads(await client.storage_status())["state"] != "active":
            await asyncio.sleep(0.05)
        await client.shutdown()
        await client.close()

    async def open(self, pool: int) -> None:
        """Connect."""
        self._client = AsyncClient(dsn(), max_connections=max(2, pool))  # one does not suffice it

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    async def enqueue(self, payload: Payload) -> None:
        """Enqueue one job."""
        await self._client.insert(Noop(**payload), queue=QUEUE)

    async def bulk(self, n: int, cap: bool) -> None:
        """Enqueue many jobs with COPY."""
        if cap:
            raise ValueError(NO_CAP)
        size = settings(SETTINGS)["batch"]
        for first in range(0, n, size):
            jobs = [Noop(**payload(i)) for i in range(first, min(first + size, n))]
            await self._client.enqueue_many_copy(jobs, queue=QUEUE)

    async def work(self) -> None:
        """Execute jobs."""
        own = settings(SETTINGS)
        client = AsyncClient(dsn(), max_connections=own["pool"])
        client.task(Noop, queue=QUEUE)(noop)
        limits = {name: own[name] for name in ("max_workers", "claim_batch_size")}
        await client.start([{"name": QUEUE, **limits}], poll_interval_ms=own["poll_interval_ms"])
        await asyncio.Event().wait()

    async def remaining(self) -> int:
        """Count the jobs that wait, and then the claims that no outcome has closed.

        `queue_stats` leaves out jobs that are executed until their first heartbeat.
        """
        waiting = sum(stat.total_queued for stat in await self._client.queue_stats())
        async with await self._client.transaction() as transaction:
            row = await transaction.fetch_one(CLAIMED)
        return int(waiting + row["n"])


async def noop(job: Any) -> None:
    """Do nothing but note it."""
    done(vars(job.args))


if __name__ == "__main__":
    main(Awa)
