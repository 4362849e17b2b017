"""The floor: the least that asyncpg and SQL need for the same steps, with nothing around it.

`hops: 3` leases in a scheduler process, hands off through an unlogged table and completes in the
worker process; capped, it counts what runs per use case once a tick and picks per use case.
`hops: 1` leases and completes in the worker alone, the least durable SQL.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from benchmarks.systems import protocol

SETTINGS = {
    "hops": 3,
    "batch": 1_000,
    "workers_at_once": 2,  # two overlapping connections use the second core
    "use_cases": 10,
    "cap": 200,
    "coalesce": False,  # concurrent enqueues share a statement
    "notify": False,  # enqueue wakes the scheduler; only latency needs it
}
IDLE_SECONDS = 0.05

SCHEMA = """
CREATE TABLE jobs (
    id          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    use_case    smallint    NOT NULL DEFAULT 0,
    status      smallint    NOT NULL DEFAULT 0,
    deadline    timestamptz NOT NULL DEFAULT now(),
    attempts    smallint    NOT NULL DEFAULT 0,
    lease_until timestamptz,
    finished_at timestamptz,
    payload     text        NOT NULL
);
CREATE INDEX jobs_ready ON jobs (use_case, deadline, id) WHERE status = 0;
CREATE INDEX jobs_running ON jobs (use_case) WHERE status = 1;
CREATE UNLOGGED TABLE handoffs (
    id     bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    job_id bigint NOT NULL
);
"""
INSERT = "INSERT INTO jobs (payload) VALUES ($1)"
INSERT_AND_WAKE = f"WITH added AS ({INSERT} RETURNING 1) SELECT pg_notify('jobs', '') FROM added"
INSERT_MANY = "INSERT INTO jobs (payload) SELECT unnest($1::text[])"

LEASE = """UPDATE jobs SET status = 1, lease_until = now() + interval '60 s',
           attempts = attempts + 1 WHERE status = 0 AND id = ANY (ARRAY({pick}))"""
PICK = """SELECT id FROM jobs WHERE status = 0 AND use_case = 0
          ORDER BY deadline, id LIMIT $1 FOR UPDATE SKIP LOCKED"""
PICK_CAPPED = """
    SELECT id FROM jobs WHERE status = 0 AND id = ANY (ARRAY(
        SELECT ready.id
        FROM (SELECT name, $2 - (SELECT count(*) FROM jobs WHERE status = 1 AND use_case = name)
                     AS free
              FROM generate_series(0, $3 - 1) AS name) AS use_cases
        CROSS JOIN LATERAL (
            SELECT id, deadline FROM jobs WHERE status = 0 AND use_case = name
            ORDER BY deadline, id LIMIT least(greatest(free, 0), $1)) AS ready
        ORDER BY ready.deadline, ready.id LIMIT $1))
    FOR UPDATE SKIP LOCKED"""
LEASE_AND_READ = LEASE.format(pick=PICK) + " RETURNING id, payload"
HAND_OFF = """
    WITH leased AS ({lease} RETURNING id),
         sent AS (INSERT INTO handoffs (job_id) SELECT id FROM leased RETURNING 1),
         woken AS (SELECT pg_notify('handoffs', '') WHERE EXISTS (SELECT FROM sent))
    SELECT (SELECT count(*) FROM sent), (SELECT count(*) FROM woken)"""
CLAIM = """
    WITH taken AS (DELETE FROM handoffs WHERE id = ANY (ARRAY(
        SELECT id FROM handoffs ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING job_id)
    SELECT jobs.id, payload FROM taken JOIN jobs ON jobs.id = job_id AND status = 1"""
COMPLETE = """UPDATE jobs SET status = 2, finished_at = now(), lease_until = NULL
              WHERE status = 1 AND id = ANY ($1::bigint[])"""


async def connect(**settings: str) -> asyncpg.Connection:
    """Connect with plans that suit a table that has just been filled."""
    plans = {"enable_seqscan": "off", "jit": "off"}
    return await asyncpg.connect(protocol.dsn(), server_settings={**plans, **settings})


class Floor(protocol.System):
    """The programs of the floor."""

    def __init__(self) -> None:
        super().__init__()
        self._settings = protocol.settings(SETTINGS)
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def setup(self) -> None:
        connection = await connect()
        await connection.execute(SCHEMA)
        await connection.close()

    async def open(self, pool: int) -> None:
        size = 2 if self._settings["coalesce"] else pool
        self._pool = await asyncpg.create_pool(
            protocol.dsn(), min_size=size, max_size=size, reset=_leave_as_is
        )

    async def close(self) -> None:
        await self._pool.close()

    async def enqueue(self, payload: protocol.Payload) -> None:
        text = json.dumps(payload)
        if self._settings["coalesce"]:
            await self._enqueue_together(text)
            return
        async with self._pool.acquire() as connection:
            await connection.execute(INSERT_AND_WAKE if self._settings["notify"] else INSERT, text)

    async def _enqueue_together(self, text: str) -> None:
        added = asyncio.get_running_loop().create_future()
        self._waiting.append((text, added))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await added

    async def _flush(self) -> None:
        async with self._pool.acquire() as connection:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                await connection.execute(INSERT_MANY, [text for text, _ in taken])
                for _, added in taken:
                    added.set_result(None)
            # At once: what comes while the connection is given back needs another flush.
            self._flushing = None

    async def bulk(self, n: int, cap: bool) -> None:
        names = self._settings["use_cases"] if cap else 1
        now = datetime.now(UTC)
        async with self._pool.acquire() as connection:
            await connection.copy_records_to_table(
                "jobs",
                columns=["use_case", "deadline", "payload"],
                records=(
                    (
                        number // 100 % names,
                        now + timedelta(milliseconds=number),
                        json.dumps(protocol.payload(number)),
                    )
                    for number in range(n)
                ),
            )

    async def work(self) -> None:
        stop = stopping()
        lanes = range(self._settings["workers_at_once"])
        await asyncio.gather(*(self._execute(stop) for _ in lanes))

    async def _execute(self, stop: asyncio.Event) -> None:
        connection = await connect()
        woken = await _listening(connection, "handoffs")
        take = CLAIM if self._settings["hops"] == 3 else LEASE_AND_READ
        taking, completing = await connection.prepare(take), await connection.prepare(COMPLETE)
        while not stop.is_set():
            woken.clear()
            jobs = await taking.fetch(self._settings["batch"])
            for job in jobs:
                await noop(json.loads(job["payload"]))
            if jobs:
                await completing.fetch([job["id"] for job in jobs])
            else:
                await _until_set(woken)
        await connection.close()

    async def schedule(self) -> None:
        """Lease and hand off until SIGTERM."""
        stop = stopping()
        connection = await connect()
        woken = await _listening(connection, "jobs")
        batch, cap = self._settings["batch"], self._settings["cap"]
        arguments: Sequence[int] = (batch, cap, self._settings["use_cases"])
        pick = PICK_CAPPED
        if not self.capped:
            pick, arguments = PICK, (batch,)
        ticking = await connection.prepare(HAND_OFF.format(lease=LEASE.format(pick=pick)))
        while not stop.is_set():
            woken.clear()
            if not await ticking.fetchval(*arguments):
                # While caps hold jobs back, nothing tells when there is room again.
                await _until_set(woken, 0.001 if self.capped else IDLE_SECONDS)
        await connection.close()

    async def remaining(self) -> int:
        async with self._pool.acquire() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM jobs WHERE status <> 2"))

    async def verify(self, jobs: int) -> str | None:
        """Every row has ended by its first attempt."""
        async with self._pool.acquire() as connection:
            ended = await connection.fetchval(
                "SELECT count(*) FROM jobs WHERE status = 2 AND attempts = 1"
            )
        return None if ended == jobs else f"{ended} rows ended by their first attempt, not {jobs}"


async def noop(payload: protocol.Payload) -> None:
    """Do nothing, as a handler of any system does."""
    protocol.done(payload)


def stopping() -> asyncio.Event:
    """Return the event that SIGTERM sets."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop


async def _listening(connection: asyncpg.Connection, channel: str) -> asyncio.Event:
    woken = asyncio.Event()
    await connection.add_listener(channel, lambda *_: woken.set())
    return woken


async def _until_set(woken: asyncio.Event, seconds: float = IDLE_SECONDS) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return


async def _leave_as_is(connection: asyncpg.Connection) -> None:
    """Skip the reset of asyncpg, a round trip at each release."""


def schedule() -> None:
    """Run the scheduler's program."""
    floor = Floor()
    floor.capped = "--capped" in protocol.arguments()
    protocol.run(floor.schedule())


if __name__ == "__main__":
    protocol.main(Floor, also={"schedule": schedule})
