"""The loops of the scheduler and the worker, on objects that the caller owns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import asyncpg

from async_jobs.application.handling.registry import JobRegistry
from async_jobs.application.working.worker import Worker
from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.programs.blocked import telling_what_blocks
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.container import Container, wired
from async_jobs.entrypoints.wiring.renewing import error_logger


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
        sqs_client: any client compatible with aiobotocore's; it is not closed. None where
            Postgres carries the hand-offs.
        logger: told of facts and passing failures.
        stop: set it to end after the tick under way.

    Raises:
        ConfigurationError: there is nothing to schedule, or the transport is not set up.
    """
    async with wired(config, logger, db_pool, sqs_client) as container:
        await schedule(container, stop or asyncio.Event())


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

    A handler that blocks the loop is told of from another thread, as `loop_blocked`.
    Leases are renewed from a thread of their own, with connections of their own to
    `config.db_dsn`; where passwords change, with those that `config.db_password` gives.

    Args:
        config: how to run them.
        db_pool: the caller's own pool; it is not closed.
        sqs_client: any client compatible with aiobotocore's; it is not closed. None where
            Postgres carries the hand-offs.
        registry: the handlers.
        queue_name: the queue to receive from: its name, or its URL.
        logger: told of facts and passing failures.
        stop: set it to shut down gracefully.

    Raises:
        ConfigurationError: `config.db_dsn` leads nowhere or is refused, the transport is not
            set up, or what becomes of jobs could not be saved: a migration is due, or its grants.
        Unavailable: nobody answers at `config.db_dsn`.
    """
    config, names = listening(config, [queue_name])
    async with wired(config, logger, db_pool, sqs_client) as container:
        # Without it every job that runs for longer than a lease would be stopped, again and again.
        async with container.open_renewal_store()():
            pass
        worker = container.worker(registry=registry, queue_names=names)
        with telling_what_blocks(worker, container):
            await execute(container, worker, stop or asyncio.Event())


def check_use_cases(container: Container) -> None:
    """Raise `ConfigurationError` when there is nothing to schedule, or no way to hand it off."""
    config = container.config()
    if not config.use_case_configs:
        raise ConfigurationError(
            "no use case is declared: set ASYNC_JOBS_USE_CASES, for example"
            ' {"notifications": {"max_concurrent": 8}}'
        )
    for name in config.queue_names:
        container.queues().queue_of(name)  # before the first job needs it


async def schedule(container: Container, stop: asyncio.Event) -> None:
    """Run the container's scheduler until `stop` is set."""
    check_use_cases(container)
    on_error = error_logger(container.logger(), "scheduler_degraded")
    await container.scheduler().run(stop, on_error)


async def execute(container: Container, worker: Worker, stop: asyncio.Event) -> None:
    """Run a worker until `stop` is set, and tell meanwhile if no scheduler feeds it.

    Raises:
        ConfigurationError: nothing that becomes of jobs could be saved.
    """
    await container.saves_outcomes()()
    looking = asyncio.create_task(container.scheduler_watch().run())
    try:
        await worker.run(stop)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


def listening(config: AsyncJobsConfig, queues: Iterable[str]) -> tuple[AsyncJobsConfig, list[str]]:
    """Return the names of the queues to receive from, and the configuration that knows them.

    Args:
        config: as the environment has it.
        queues: names, or URLs of SQS queues. A URL means every queue that has it. Where no
            queue has it, it means the queue that is named like the last part of it.

    Raises:
        ConfigurationError: no use case feeds a queue, two URLs mean one name, or a URL is
            given although SQS carries nothing.
    """
    urls = dict(config.sqs_queue_urls)
    names: list[str] = []
    for queue in queues:
        if "://" not in queue:
            names.append(_fed(queue, config))
            continue
        url = queue.rstrip("/")
        having = [name for name, each in urls.items() if each == url]
        if not having:
            name = _fed(url.rpartition("/")[2], config)
            if name in urls:
                raise ConfigurationError(f"the queue {name!r} has another URL")
            urls[name] = url
            having = [name]
        names += having
    if len(urls) > len(config.sqs_queue_urls):
        if config.queue_backend != "sqs" and "queue_backend" in config.model_fields_set:
            raise ConfigurationError(
                "a queue is named by its URL, but ASYNC_JOBS_QUEUE_BACKEND is"
                f" {config.queue_backend}"
            )
        config = config.model_copy(update={"sqs_queue_urls": urls, "queue_backend": "sqs"})
    return config, list(dict.fromkeys(names))


def _fed(name: str, config: AsyncJobsConfig) -> str:
    """Return the queue's name; a worker that knows no use cases at all may know it by itself."""
    known = config.queue_names
    if known and name not in known:
        raise ConfigurationError(
            f"the queue {name!r} is fed by no use case; known: {', '.join(known)}"
        )
    return name
