"""What keeps jobs waiting is told in a scheduler's log, as an operator has it on Postgres."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from dependency_injector import providers

from async_jobs import AsyncJobsConfig, EnqueueJobRequest
from async_jobs.application.scheduling.noticing import PATIENCE_SECONDS
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.entrypoints.wiring.container import opened
from async_jobs.host import SystemClock
from async_jobs.testing.builders import a_request, a_worker
from async_jobs.testing.clocks import ManualClock

LOGGER = logging.getLogger("async_jobs")


def request(use_case: str) -> EnqueueJobRequest:
    return a_request(use_case=use_case)


async def test_every_trouble_is_told_once_by_its_name(
    database_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A queue without a worker, one that nobody feeds, a forgotten variable, a former use case."""
    names = ("lonely", "crossed", "former")
    known = {name: UseCaseConfig() for name in names}
    config = AsyncJobsConfig(db_dsn=database_dsn, use_case_configs=known)
    async with opened(config, LOGGER, application_name="test") as container:
        for name in names:
            await container.service().enqueue(request(name))
    paused = UseCaseConfig(max_concurrent=0)
    config = AsyncJobsConfig(
        db_dsn=database_dsn,
        use_case_configs={"lonely": known["lonely"], "crossed": known["crossed"], "idle": paused},
    )
    clock = ManualClock(SystemClock().now())
    with caplog.at_level(logging.INFO, logger="async_jobs"):
        async with opened(config, LOGGER, application_name="test") as container:
            container.clock.override(providers.Object(clock))
            for seconds in (0, PATIENCE_SECONDS / 2, PATIENCE_SECONDS / 2, PATIENCE_SECONDS):
                clock.advance(seconds=seconds)
                for worker_id, queue, transport in (("1", "crossed", "sqs"), ("2", "mial", "")):
                    await container.workers().announce(
                        a_worker(
                            worker_id=worker_id,
                            queues=(queue,),
                            transport=transport,
                            alive_until=clock.now() + timedelta(days=1),
                        )
                    )
                await container.scheduler().tick()

    told = [
        (record.message, getattr(record, "queue", None) or getattr(record, "use_case", None))
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]
    assert sorted(told) == [
        ("queue_unattended", "lonely"),
        ("queue_unfed", "mial"),
        ("transports_differ", "crossed"),
        ("use_case_paused", "idle"),
        ("use_case_unknown", "former"),
    ]
