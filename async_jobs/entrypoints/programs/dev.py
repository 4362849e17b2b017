"""async-jobs dev: all parts in one process, for a developer's machine."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import typer

from async_jobs.adapters.http.wire import TOKEN_HEADER
from async_jobs.adapters.postgres.embedded import ClusterInUseError, EmbeddedPostgres
from async_jobs.application.handling.registry import JobRegistry
from async_jobs.application.working.worker import Worker
from async_jobs.domain.errors import ConfigurationError
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.entrypoints.programs.loops import schedule
from async_jobs.entrypoints.programs.mounting import PAGES, PATH, ending
from async_jobs.entrypoints.programs.options import LOOPBACK
from async_jobs.entrypoints.programs.processes import (
    api_of,
    leaving_if_stuck,
    load_handlers,
    migrated,
    stopping_on_signals,
    watched,
)
from async_jobs.entrypoints.programs.signals import before_a_forced_exit
from async_jobs.entrypoints.serving.asgi import Serving, serving
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from async_jobs.entrypoints.wiring.container import Container, opened
from async_jobs.entrypoints.wiring.embedded import embedded_postgres
from async_jobs.entrypoints.wiring.memory import memory_container
from async_jobs.entrypoints.wiring.telemetry import keeping
from async_jobs.extras import is_there, require, want_of

IN_MEMORY = "memory"
STATISTICS = "ASYNC_JOBS_STATISTICS"

EXAMPLE_USE_CASES = {
    "notifications": UseCaseConfig(max_concurrent=20, default_delay_tolerance_seconds=30),
    "message_analysis": UseCaseConfig(max_concurrent=10, default_delay_tolerance_seconds=120),
}
EXAMPLE_HANDLERS = "async_jobs.handlers.notifications,async_jobs.handlers.messaging"


# What dev does in its own way. Of a queue's URL only the use case is taken.
OWN_WAY = {
    "ASYNC_JOBS_DB_DSN": "dev keeps a Postgres of its own",
    "ASYNC_JOBS_QUEUE_BACKEND": "nothing leaves this process",
}


async def run_dev(
    logger: logging.Logger, *, data_dir: Path | None, port: int, handlers: Sequence[str] = ()
) -> None:
    """Run the API, a scheduler and a worker until interrupted.

    Settings come from the environment, as everywhere; use cases and handlers that it does not
    name are the examples'.

    Args:
        logger: told of everything.
        data_dir: where the embedded Postgres keeps its data; None keeps all in memory.
        port: where the API listens, on the loopback interface.
        handlers: modules to import for their handlers; by default the environment's.

    Raises:
        ConfigurationError: a variable is wrong, a module cannot be imported, or another dev runs
            in `data_dir`.
    """
    require("async-jobs dev", "fastapi", "uvicorn")
    configured = _configured(handlers)
    registry = load_handlers(configured.handler_modules)
    _tell_what_is_left_out(configured, logger)
    async with AsyncExitStack() as stack:
        drain_seconds = configured.drain_timeout_seconds
        stopping = stack.enter_context(stopping_on_signals(logger, drain_seconds=drain_seconds))
        # Left last: a handler that does not stop must not keep Postgres from stopping.
        at_the_end = stack.enter_context(ExitStack())
        container = await stack.enter_async_context(_container(configured, logger, data_dir))
        config = container.config()
        worker = container.worker(registry=registry, queue_names=list(config.queue_names))
        at_the_end.enter_context(leaving_if_stuck(worker, logger))
        stack.enter_context(watched(worker, container))
        pages = "dev" if is_there(PAGES) else None
        app = api_of(config, dashboard=pages)(container)
        serves = await stack.enter_async_context(
            serving(app, host=LOOPBACK, port=port, option="--port")
        )
        _tell_how_to_use(config, registry, serves.port)
        stopping.started(worker)
        with ending(app):
            await _run(container, worker, serves, stopping.stop)
    logger.info("dev_stopped")


async def _run(container: Container, worker: Worker, serves: Serving, stop: asyncio.Event) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(schedule(container, stop))
            group.create_task(worker.run(stop))
            group.create_task(serves.until(stop))
    except ExceptionGroup as failed:
        # The part that failed first is what there is to tell; the others were cancelled.
        raise failed.exceptions[0] from failed


@asynccontextmanager
async def _container(
    config: AsyncJobsConfig, logger: logging.Logger, data_dir: Path | None
) -> AsyncIterator[Container]:
    if data_dir is None:
        container = memory_container(config, logger)
        async with keeping(container.counting(), container.tallies, container.clock, logger):
            yield container
        return
    typer.echo(f"starting Postgres in {data_dir} …")
    async with _own_postgres(data_dir) as postgres:
        config = config.model_copy(update={"db_dsn": postgres.dsn})
        with before_a_forced_exit(postgres.ask_to_stop):
            await migrated(config, logger)
            async with opened(config, logger, application_name="async_jobs dev") as container:
                yield container


@asynccontextmanager
async def _own_postgres(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with AsyncExitStack() as stack:
        try:
            postgres = await stack.enter_async_context(embedded_postgres(data_dir / "postgres"))
        except ClusterInUseError as error:
            raise ConfigurationError(
                f"--data-dir: another async-jobs dev runs in {data_dir} ({error}); a second one"
                " needs a --data-dir and a --port of its own"
            ) from None
        yield postgres


def _configured(handlers: Sequence[str]) -> AsyncJobsConfig:
    """Return the environment's settings, with the examples for use cases and handlers."""
    own = {"ASYNC_JOBS_DB_DSN": IN_MEMORY, "ASYNC_JOBS_QUEUE_BACKEND": "postgres"}
    if handlers:
        own["ASYNC_JOBS_HANDLERS_MODULE"] = ",".join(handlers)
    config = AsyncJobsConfig.from_env(os.environ | own)
    return config.model_copy(
        update={
            "use_case_configs": config.use_case_configs or EXAMPLE_USE_CASES,
            "handlers_module": config.handlers_module or EXAMPLE_HANDLERS,
            "enqueue_auth_token": config.enqueue_auth_token or secrets.token_urlsafe(),
            # For the dashboard, unless somebody wants to do without.
            "statistics": config.statistics or STATISTICS not in os.environ,
        }
    )


def _tell_what_is_left_out(config: AsyncJobsConfig, logger: logging.Logger) -> None:
    if config.unknown_variables:
        logger.warning("unknown_variables", extra={"names": list(config.unknown_variables)})
    own = {name: reason for name, reason in OWN_WAY.items() if os.environ.get(name, "").strip()}
    for variable, reason in {**config.not_used, **own}.items():
        logger.warning("variable_not_used", extra={"variable": variable, "reason": reason})


def _example(config: AsyncJobsConfig, registry: JobRegistry) -> dict[str, object]:
    """Return the body of an enqueue to try."""
    if "notifications" in config.use_case_configs and "send_email" in registry.types:
        example = {"to": "a@b.example", "subject": "Hello", "body": "It works."}
        use_case, type = "notifications", "send_email"
    else:
        use_case, type, example = min(config.use_case_configs), registry.types[0], {}
    return {"tenant_id": "acme", "use_case": use_case, "type": type, "payload": example}


def _tell_how_to_use(config: AsyncJobsConfig, registry: JobRegistry, port: int) -> None:
    url, token = f"http://{LOOPBACK}:{port}", config.enqueue_auth_token
    body = _example(config, registry)
    lines = [
        f"use cases: {', '.join(config.use_case_configs)}",
        f"handlers:  {', '.join(config.handler_modules)} ({', '.join(registry.types)})",
        f"API:       {url} (documentation: {url}/docs)",
        f"dashboard: {want_of(PAGES) or f'{url}{PATH}/ (sign in by the token)'}",
        f"token:     {token}",
        *([] if config.db_dsn == IN_MEMORY else [f"database:  {config.db_dsn}"]),
        f"try, in another terminal{'' if body['payload'] else ', with a payload of your handler'}:",
        f"  curl -sS {url}/jobs/enqueue -H {shlex.quote(f'{TOKEN_HEADER}: {token}')} \\",
        f"    -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}",
        f"  export {TOKEN_VARIABLE}={shlex.quote(str(token))}",
        f"  async-jobs jobs list --url {url}",
        "press Ctrl-C to stop",
    ]
    typer.echo("\n".join(lines))
