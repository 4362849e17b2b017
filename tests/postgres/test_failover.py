"""Failovers with a real standby: the address moved by hand, or found among several hosts."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import httpx
import pytest

from async_jobs import AsyncJobsConfig, JobContext, JobRegistry
from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.entrypoints.programs.loops import schedule
from async_jobs.entrypoints.programs.processes import api_of
from async_jobs.entrypoints.wiring.container import opened
from async_jobs.host import SystemChance
from tests.kit.harness import clock, eventually
from tests.postgres.pairs import Pair, a_pair, an_address, is_in_recovery, port_of

SETTINGS = {
    "ASYNC_JOBS_USE_CASES": json.dumps({"mail": {"max_concurrent": 8}}),
    "ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS": "0.2",
    "ASYNC_JOBS_WORKER_POLL_INTERVAL_SECONDS": "0.2",
    "ASYNC_JOBS_WORKER_CONCURRENCY": "4",
    "ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": "3",
    "ASYNC_JOBS_LEASE_DURATION_SECONDS": "6",
}
# An outcome that replication lost is a crash to the new primary: the job comes back after its
# backoff, which by default is a minute, and the second time two.
BACKOFF = {"type": "constant", "base_delay_seconds": 0.5, "jitter": 0}
PAUSE_SECONDS = 0.02


class Told(logging.Handler):
    """Counts the events that the programs log, and keeps the problems they tell."""

    def __init__(self) -> None:
        super().__init__()
        self.events: Counter[str] = Counter()
        self.problems: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        event = record.getMessage()
        self.events[event] += 1
        self.problems.setdefault(event, []).append(str(record.__dict__.get("problem", "")))


OF_A_STANDBY = ("the database takes no writes", "during recovery")
"""What a write, and a statement that reads unlogged rows, are told there."""


@dataclass
class Programs:
    """A scheduler, a worker and an API at an address, and what came of what they were asked."""

    told: Told
    client: httpx.AsyncClient
    tasks: list[asyncio.Task[None]]
    statuses: Counter[int] = field(default_factory=Counter)
    acknowledged: list[UUID] = field(default_factory=list)
    ran: Counter[str] = field(default_factory=Counter)

    async def enqueue(self) -> int:
        """Enqueue a job; returns the status of the answer."""
        job_id = SystemChance().uuid(clock.now())
        request = {"tenant_id": "acme", "use_case": "mail", "type": "send", "payload": {}}
        request |= {"id": str(job_id), "backoff_policy": BACKOFF}
        answer = await self.client.post("/jobs/enqueue", json=request)
        self.statuses[answer.status_code] += 1
        if answer.is_success:
            self.acknowledged.append(job_id)
        return answer.status_code

    async def is_ready(self) -> bool:
        return (await self.client.get("/health/ready")).status_code == 200

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[None]:
        """Enqueue one job after the other for the length of a block."""

        async def load() -> None:
            while True:
                await self.enqueue()
                await clock.sleep(PAUSE_SECONDS)

        task = asyncio.create_task(load())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def acknowledge(self, count: int) -> None:
        """Wait until so many more jobs were enqueued."""
        wanted = len(self.acknowledged) + count

        async def look() -> bool:
            self.check()
            return len(self.acknowledged) >= wanted

        await eventually(look, f"{count} more jobs are enqueued")

    async def have_told(self, event: str, problems: tuple[str, ...]) -> None:
        async def look() -> bool:
            self.check()
            told = self.told.problems.get(event, ())
            return any(problem in each for each in told for problem in problems)

        await eventually(look, f"{event} of {' or '.join(problems)}")

    def check(self) -> None:
        """Raise what a program ended by: none may end."""
        for task in self.tasks:
            if task.done():
                task.result()
                raise AssertionError(f"{task.get_name()} ended")


@asynccontextmanager
async def programs(dsn: str) -> AsyncIterator[Programs]:
    """Run the programs on an address."""
    config = AsyncJobsConfig.from_env(SETTINGS | {"ASYNC_JOBS_DB_DSN": dsn})
    logger = logging.getLogger("tests.failover")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    told = Told()
    logger.addHandler(told)
    ran: Counter[str] = Counter()
    registry = JobRegistry()

    @registry.handler("send")
    async def send(ctx: JobContext, payload: dict[str, object]) -> None:
        ran[str(ctx.job_id)] += 1

    stop = asyncio.Event()
    containers = [opened(config, logger, application_name=name, hands_off=True) for name in "swa"]
    async with containers[0] as one, containers[1] as two, containers[2] as three:
        worker = two.worker(registry=registry, queue_names=["mail"])
        transport = httpx.ASGITransport(api_of(config, no_auth=True)(three))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            tasks = [
                asyncio.create_task(schedule(one, stop), name="scheduler"),
                asyncio.create_task(worker.run(stop), name="worker"),
            ]
            try:
                yield Programs(told, client, tasks, ran=ran)
            finally:
                stop.set()
                await asyncio.gather(*tasks, return_exceptions=True)
                logger.removeHandler(told)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with a_pair() as pair:
        yield pair


def dsn_of(pair: Pair, *ports: int, options: str = "") -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://postgres:{pair.password}@{hosts}/postgres{options}"


async def statuses(pair: Pair) -> dict[UUID, str]:
    connection = await asyncpg.connect(pair.primary.dsn)
    try:
        rows = await connection.fetch("SELECT id, status FROM jobs")
    finally:
        await connection.close()
    return {row["id"]: row["status"] for row in rows}


async def everything_has_ended(pair: Pair, running: Programs) -> None:
    """All that the new primary knows comes to its end; what it does not know, replication lost."""
    found: dict[UUID, str] = {}

    async def look() -> bool:
        nonlocal found
        running.check()
        found = await statuses(pair)
        return bool(found) and set(found.values()) == {"succeeded"}

    await eventually(look, "every job that was not lost succeeds")


async def test_an_address_that_leads_to_a_standby_for_a_while(pair: Pair) -> None:
    """Nothing ends and nobody is told of a failure inside: all wait, and go on by themselves."""
    await migrate(pair.primary.dsn)
    async with (
        an_address(port_of(pair.primary)) as address,
        programs(dsn_of(pair, address.port)) as running,
    ):
        async with running.under_load():
            await running.acknowledge(20)
            pair.crash_and_promote()
            pair.join_again()
            address.leads_to = port_of(pair.standby)
            assert await is_in_recovery(dsn_of(pair, address.port))
            # The read-only transaction of a busy one, or the unlogged table of an idle one.
            await running.have_told("scheduler_degraded", OF_A_STANDBY)
            await running.have_told("worker_degraded", OF_A_STANDBY)
            assert not await running.is_ready()
            assert await running.enqueue() == 503

            before = len(running.acknowledged)
            address.leads_to = port_of(pair.primary)
            await running.acknowledge(20)
        assert await running.is_ready()
        await everything_has_ended(pair, running)

        assert set(running.statuses) <= {200, 201, 202, 503}
        known = (await statuses(pair)).keys()
        lost = [job_id for job_id in running.acknowledged if job_id not in known]
        assert not set(lost) & set(running.acknowledged[before:]), "lost without a failover"
        assert "chore_skipped" not in running.told.events


async def test_the_primary_is_found_among_several_hosts(pair: Pair) -> None:
    """The programs find it by themselves, there and back again."""
    await migrate(pair.primary.dsn)
    async with (
        an_address(port_of(pair.primary)) as first,
        an_address(port_of(pair.standby)) as second,
    ):
        dsn = dsn_of(pair, first.port, second.port, options="?target_session_attrs=read-write")
        async with programs(dsn) as running:
            for fallen in itertools.islice(itertools.cycle((first, second)), 2):
                async with running.under_load():
                    await running.acknowledge(20)
                    pair.crash_and_promote()
                    await running.acknowledge(20)
                    pair.join_again()
                    fallen.leads_to = port_of(pair.standby)
                    await running.acknowledge(20)
                await everything_has_ended(pair, running)
            assert await running.is_ready()
            assert set(running.statuses) <= {200, 201, 202, 503}
