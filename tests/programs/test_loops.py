"""The loops of scheduler and worker, in the caller's own process."""

from __future__ import annotations

import asyncio
import logging
import threading

import asyncpg

from async_jobs import (
    AsyncJobsConfig,
    EnqueueJobRequest,
    JobContext,
    JobRegistry,
    JobService,
    JobStatus,
    PostgresJobStore,
    run_scheduler_loop,
    run_worker_loop,
)
from tests.kit.harness import eventually
from tests.programs.systems import SETTINGS


async def test_the_loops_run_on_the_callers_own_pool(database_dsn: str) -> None:
    """They take handlers from the caller's registry, end when told, and give the pool back."""
    config = AsyncJobsConfig.from_env(SETTINGS | {"ASYNC_JOBS_DB_DSN": database_dsn})
    logger, registry = logging.getLogger("an_application"), JobRegistry()
    executed, stop = asyncio.Event(), asyncio.Event()

    @registry.handler("note")
    async def note(context: JobContext, payload: dict[str, object]) -> None:
        executed.set()

    async with asyncpg.create_pool(database_dsn, min_size=1, max_size=6) as pool:
        service = JobService(config, PostgresJobStore(pool))
        async with asyncio.TaskGroup() as group:
            group.create_task(run_scheduler_loop(config, pool, None, logger, stop=stop))
            group.create_task(
                run_worker_loop(config, pool, None, registry, "mail", logger, stop=stop)
            )
            request = EnqueueJobRequest(tenant_id="acme", use_case="mail", type="note", payload={})
            job_id = (await service.enqueue(request)).job_id
            await asyncio.wait_for(executed.wait(), 60)
            stop.set()
        job = await service.get_job(job_id)
        given_back = pool.get_idle_size() == pool.get_size()

    assert job.status is JobStatus.SUCCEEDED
    assert given_back


class Hearing(logging.Handler):
    """Lets a thread wait for a line of the log."""

    def __init__(self, event: str) -> None:
        super().__init__()
        self._event = event
        self.records: list[logging.LogRecord] = []
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self._event:
            self.records.append(record)
            self.heard.set()


async def test_a_handler_that_blocks_the_callers_own_loop_is_told(database_dsn: str) -> None:
    """To the caller's logger, while it does; and the thread that saw it ends with the loop."""
    config = AsyncJobsConfig.from_env(SETTINGS | {"ASYNC_JOBS_DB_DSN": database_dsn})
    hearing, registry, stop = Hearing("loop_blocked"), JobRegistry(), asyncio.Event()
    logger = logging.Logger("an_application")  # noqa: LOG001 - of this test alone
    logger.addHandler(hearing)

    @registry.handler("block")
    async def block(context: JobContext, payload: dict[str, object]) -> None:
        hearing.heard.wait(60)
        stop.set()

    async with asyncpg.create_pool(database_dsn, min_size=1, max_size=6) as pool:
        service = JobService(config, PostgresJobStore(pool))
        async with asyncio.TaskGroup() as group:
            group.create_task(run_scheduler_loop(config, pool, None, logger, stop=stop))
            group.create_task(
                run_worker_loop(config, pool, None, registry, "mail", logger, stop=stop)
            )
            request = EnqueueJobRequest(tenant_id="acme", use_case="mail", type="block", payload={})
            job_id = (await service.enqueue(request)).job_id

    async def is_alone() -> bool:
        return "loop-watch" not in [each.name for each in threading.enumerate()]

    await eventually(is_alone, "the end of the thread")
    (told,) = map(vars, hearing.records)
    assert (told["type"], told["job_id"]) == ("block", str(job_id))
    assert told["places"][-1].endswith(".block")


async def test_a_cancelled_loop_gives_the_pool_back(database_dsn: str) -> None:
    """Cancelling is how applications end tasks; nothing of the caller's stays taken."""
    config = AsyncJobsConfig.from_env(SETTINGS | {"ASYNC_JOBS_DB_DSN": database_dsn})
    logger, registry = logging.getLogger("an_application"), JobRegistry()

    async with asyncpg.create_pool(database_dsn, min_size=1, max_size=6) as pool:
        loops = [
            asyncio.create_task(run_scheduler_loop(config, pool, None, logger)),
            asyncio.create_task(run_worker_loop(config, pool, None, registry, "mail", logger)),
        ]

        async def announced() -> bool:
            return bool(await pool.fetchval("SELECT count(*) FROM workers"))

        await eventually(announced, "the worker announces itself")
        for loop in loops:
            loop.cancel()
        ends = await asyncio.gather(*loops, return_exceptions=True)
        given_back = pool.get_idle_size() == pool.get_size()

    assert [type(end) for end in ends] == [asyncio.CancelledError] * 2
    assert given_back
