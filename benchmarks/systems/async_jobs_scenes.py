"""What async_jobs meets in W5, W7 and growth: backlogs of a million rows, and ticks by themselves.

Rows are copies of a row that the service itself has written, so that they are what it would
have written a million times, whatever columns there are.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from async_jobs import JobService, PostgresJobStore
from async_jobs.ports.workers import WorkerInfo
from benchmarks.systems import protocol
from benchmarks.systems.async_jobs_setup import (
    FULL,
    PLAIN,
    QUEUE,
    SETTINGS,
    config,
    connected,
    request_of,
)
from benchmarks.systems.moved import found

opened = found("opened", "entrypoints.wiring.container", "entrypoints.container")

ELSEWHERE = "elsewhere"
FOR_LONG_SECONDS = 86_400.0
EARLIER = timedelta(hours=1)
LATER = timedelta(days=2)
FILL_SECONDS = 600.0
# Distinct for each kind of row, and in order within it, as ids made by the service are.
PREFIXES = {
    "pending": "00000001",
    "scheduled": "00000002",
    "finished": "00000003",
    "full": "00000004",
}
COPY = """
    INSERT INTO jobs ({columns})
    SELECT {values} FROM (SELECT * FROM jobs WHERE id = $1) AS model,
           generate_series(0, $2::bigint - 1) AS number
"""
COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = 'jobs'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
EXECUTED = """
    SELECT count(*) AS executed,
           count(*) FILTER (WHERE attempts = 1 AND errors IS NULL) AS once
    FROM jobs WHERE status = 'succeeded'
    AND id BETWEEN ($1 || '-0000-0000-0000-000000000000')::uuid
               AND ($1 || '-ffff-ffff-ffff-ffffffffffff')::uuid
"""


def backlog() -> None:
    """Add rows of a kind: `backlog <kind> <jobs> [<tenants>]`."""
    kind, jobs, *tenants = protocol.arguments()
    several = bool(tenants) and int(tenants[0]) > 1
    _told(_backlog(kind, int(jobs), int(tenants[0]) if several else 0))


def spread() -> None:
    """Add rows that may run: `spread <jobs> <tenants> <use cases>`.

    They are shared by tenants with limits and by capped use cases, 0 standing for one tenant
    without limits, and for the use case that has room for everything.
    """
    jobs, tenants, use_cases = map(int, protocol.arguments())
    _told(_backlog("pending", jobs, tenants, use_cases))


def outcomes() -> None:
    """Tell how many of the jobs that may run have succeeded, and how many of them `once`."""
    _told(_outcomes())


def ticks() -> None:
    """Measure ticks of a scheduler by itself: `ticks <count>`."""
    (count,) = protocol.arguments()
    _told(_ticks(int(count)))


def _told(answer: Awaitable[Mapping[str, Any]]) -> None:
    async def answered() -> Mapping[str, Any]:
        return await answer

    print(json.dumps(protocol.run(answered())), flush=True)


async def _backlog(kind: str, jobs: int, tenants: int, use_cases: int = 0) -> Mapping[str, Any]:
    async with connected(2) as pool:
        service = JobService(config(), PostgresJobStore(pool))
        model = await _model(kind, service)
        changed = {
            "id": _id(PREFIXES[kind]),
            "payload": _payload(),
            "deadline_at": "model.deadline_at + number * interval '1 microsecond'",
            "run_at": "model.run_at",
        }
        if kind == "scheduled":
            changed["run_at"] += " + number * interval '1 microsecond'"
        if kind == "full":
            changed["deadline_at"] += f" - interval '{EARLIER.total_seconds()} s'"
        if tenants:
            changed["tenant_id"] = f"'tenant-' || number % {tenants}"
        if use_cases:
            changed["use_case"] = f"'capped-' || number % {use_cases}"
        columns = [row["attname"] for row in await pool.fetch(COLUMNS)]
        values = ", ".join(changed.get(each, f"model.{each}") for each in columns)
        statement = COPY.format(columns=", ".join(columns), values=values)
        await pool.execute(statement, model, jobs, timeout=FILL_SECONDS)
        await pool.execute("DELETE FROM jobs WHERE id = $1", model)
        if kind == "full":
            await _occupy(service)
    return {"jobs": jobs}


def _id(prefix: str) -> str:
    return f"('{prefix}-0000-7000-8000-' || lpad(to_hex(number), 12, '0'))::uuid"


def _payload() -> str:
    return '(\'{"n": \' || number || \', "t": 0, "pad": "' + protocol.PAD + "\"}')::json"


async def _model(kind: str, service: JobService) -> UUID:
    """Have the service write a row of the kind; return its id."""
    request = request_of(0, False)
    if kind == "full":
        request = replace(request, use_case=FULL)
    if kind == "scheduled":
        request = replace(request, run_at=datetime.now(UTC) + LATER)
    enqueued = await service.enqueue(request)
    if kind == "finished":
        (job,) = await service.lease_jobs_for_use_case(PLAIN, worker_id=ELSEWHERE, limit=1)
        await service.mark_job_succeeded(job)
    return enqueued.job_id


async def _occupy(service: JobService) -> None:
    """Take the one place of the full use case for longer than the benchmark takes."""
    leased = await service.lease_jobs_for_use_case(
        FULL, worker_id=ELSEWHERE, limit=1, lease_seconds=FOR_LONG_SECONDS
    )
    if len(leased) != 1:
        raise RuntimeError("the full use case could not be filled")


async def _outcomes() -> Mapping[str, Any]:
    async with connected(2) as pool:
        found = await pool.fetchrow(EXECUTED, PREFIXES["pending"])
        assert found is not None
        return dict(found)


async def _ticks(count: int) -> Mapping[str, Any]:
    """Tick, and take away what was leased, so that each tick meets the same use case."""
    taken: list[float] = []
    leased: list[int] = []
    logger = logging.getLogger("async_jobs")
    async with opened(config(), logger, application_name="async_jobs bench") as container:
        scheduler, clock = container.scheduler(), container.clock()
        await clock.sync()
        await container.workers().announce(_many_slots(clock.now()))
        pool = container.pool()
        for _ in range(count + 1):
            at = time.monotonic()
            tick = await scheduler.tick()
            taken.append(time.monotonic() - at)
            leased.append(tick.leased)
            await _take_away(pool)
    # The first one prepares its statements.
    return {"leased": leased[1:], **protocol.percentiles(taken[1:])}


def _many_slots(now: datetime) -> WorkerInfo:
    return WorkerInfo(
        worker_id=ELSEWHERE,
        queues=(QUEUE,),
        slots=protocol.settings(SETTINGS)["slots"],
        busy=0,
        host=ELSEWHERE,
        version="0",
        seen_at=now,
        alive_until=now + timedelta(seconds=FOR_LONG_SECONDS),
    )


async def _take_away(pool: asyncpg.Pool) -> None:
    await pool.execute("DELETE FROM jobs WHERE status = 'running'")
    await pool.execute("DELETE FROM handoffs")
    await pool.execute("VACUUM jobs, handoffs")
