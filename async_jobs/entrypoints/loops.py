"""The loops of the scheduler and the worker, on objects that the caller owns."""

from __future__ import annotations

import asyncio
import logging

import asyncpg

from async_jobs.application.registry import JobRegistry
from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.config import AsyncJobsConfig
from async_jobs.entrypoints.container import Container, close_signal, error_logger


async def run_scheduler_loop(
    config: AsyncJobsConfig,
    db_pool: asyncpg.Pool,
    sqs_client: object | None,
    logger: logging.Logger,
    *,
    stop: asyncio.Event | None = None,
) -> None:
    """Schedule until `stop` is set, or until cancelled.

    Args:
        config: the use cases to schedule; at least one.
        db_pool: the caller's own pool; it is not closed.
        sqs_client: None where Postgres carries the hand-offs.
        logger: told of facts and passing failures.
        stop: set it to end after the tick under way.

    Raises:
        ConfigurationError: there is nothing to schedule, or the transport is not set up.
    """
    container = Container(config=config, logger=logger, pool=db_pool)
    try:
        await schedule(container, stop or asyncio.Event())
    finally:
        await close_signal(container)


async def run_worker_loop(
    config: AsyncJobsConfig,
    db_pool: asyncpg.Pool,
    sqs_client: object | None,
    registry: JobRegistry,
    queue_name: str,
    logger: logging.Logger,
    *,
    stop: asyncio.Event | None = None,
) -> None:
    """Execute the jobs of one queue until `stop` is set, then drain; see `Worker.run`.

    Leases are renewed from a thread of their own, with connections of their own to
    `config.db_dsn`.

    Args:
        config: how to run them.
        db_pool: the caller's own pool; it is not closed.
        sqs_client: None where Postgres carries the hand-offs.
        registry: the handlers.
        queue_name: the queue to receive from.
        logger: told of facts and passing failures.
        stop: set it to shut down gracefully.
    """
    container = Container(config=config, logger=logger, pool=db_pool)
    try:
        worker = container.worker(registry=registry, queue_names=[queue_name])
        await worker.run(stop or asyncio.Event())
    finally:
        await close_signal(container)


async def schedule(container: Container, stop: asyncio.Event) -> None:
    """Run the container's scheduler until `stop` is set."""
    if not container.config().use_case_configs:
        raise ConfigurationError(
            "no use case is declared: set ASYNC_JOBS_USE_CASES, for example"
            ' {"notifications": {"max_concurrent": 8}}'
        )
    on_error = error_logger(container.logger(), "scheduler_degraded")
    await container.scheduler().run(stop, on_error)
