"""async-jobs dev: all parts in one process, for a developer's machine."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import typer

from async_jobs.domain.limits import UseCaseConfig
from async_jobs.entrypoints.config import AsyncJobsConfig
from async_jobs.entrypoints.container import (
    Container,
    EmbeddedPostgres,
    memory_container,
    opened,
)
from async_jobs.entrypoints.loops import schedule
from async_jobs.entrypoints.programs import load_handlers, run_migrate, stopping_on_signals

EXAMPLE_USE_CASES = {
    "notifications": UseCaseConfig(max_concurrent=20, default_delay_tolerance_seconds=30),
    "message_analysis": UseCaseConfig(max_concurrent=10, default_delay_tolerance_seconds=120),
}
EXAMPLE_HANDLERS = "async_jobs.handlers.notifications,async_jobs.handlers.messaging"


async def run_dev(logger: logging.Logger, *, data_dir: Path | None) -> None:
    """Run a scheduler and a worker until interrupted.

    Args:
        logger: told of everything.
        data_dir: where the embedded Postgres keeps its data; None keeps all in memory.
    """
    with stopping_on_signals(logger) as stop:
        async with _container(logger, data_dir) as container:
            config = container.config()
            registry = load_handlers(config.handler_modules)
            worker = container.worker(registry=registry, queue_names=list(config.queue_names))
            if data_dir is not None:
                _tell_how_to_use(config)
            else:
                typer.echo("running in memory; press Ctrl-C to stop")
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(schedule(container, stop))
                    group.create_task(worker.run(stop))
            except ExceptionGroup as failed:
                # The part that failed first is what there is to tell; the other was cancelled.
                raise failed.exceptions[0] from failed


@asynccontextmanager
async def _container(logger: logging.Logger, data_dir: Path | None) -> AsyncIterator[Container]:
    if data_dir is None:
        yield memory_container(_config("memory"), logger)
        return
    async with AsyncExitStack() as stack:
        typer.echo(f"starting Postgres in {data_dir} …")
        postgres = EmbeddedPostgres(data_dir / "postgres")
        dsn = await asyncio.to_thread(postgres.start)
        stack.push_async_callback(asyncio.to_thread, postgres.stop)
        config = _config(dsn)
        await run_migrate(config, logger)
        yield await stack.enter_async_context(
            opened(config, logger, application_name="async_jobs dev")
        )


def _config(dsn: str) -> AsyncJobsConfig:
    return AsyncJobsConfig(
        db_dsn=dsn,
        use_case_configs=EXAMPLE_USE_CASES,
        handlers_module=EXAMPLE_HANDLERS,
        queue_backend="postgres",
    )


def _tell_how_to_use(config: AsyncJobsConfig) -> None:
    use_cases = json.dumps({name: {} for name in config.use_case_configs})
    typer.echo(
        "\n".join(
            (
                f"use cases: {', '.join(config.use_case_configs)}",
                f"database:  {config.db_dsn}",
                "try, in another terminal:",
                f"  export ASYNC_JOBS_DB_DSN='{config.db_dsn}'",
                f"  export ASYNC_JOBS_USE_CASES='{use_cases}'",
                "  async-jobs jobs enqueue --tenant acme --use-case notifications \\",
                """    --type send_email --payload '{"to": "a@b.example"}'""",
                "  async-jobs jobs list",
                "press Ctrl-C to stop",
            )
        )
    )
