"""async-jobs: the command line.

Each command imports what it runs when it is called, so that `--help` and completion load the
options and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from async_jobs.entrypoints.cli.bulk import bulk_app
from async_jobs.entrypoints.cli.controls import audit, controls, limit, pause, resume
from async_jobs.entrypoints.cli.dashboard import dashboard
from async_jobs.entrypoints.cli.jobs import jobs_app
from async_jobs.entrypoints.cli.one_job import delete, run_now
from async_jobs.entrypoints.cli.operations import explain, status
from async_jobs.entrypoints.cli.options import (
    HealthHost,
    HealthPort,
    InitDb,
    LogFormatOption,
    LogLevelOption,
    reporting,
)
from async_jobs.entrypoints.cli.reports import attainment
from async_jobs.entrypoints.cli.searching import errors
from async_jobs.entrypoints.cli.top import top
from async_jobs.entrypoints.programs.options import LOOPBACK, LogFormat, LogLevel
from async_jobs.entrypoints.programs.signals import own_process, run_program
from async_jobs.entrypoints.programs.terminal import set_up_output
from async_jobs.extras import require
from async_jobs.version import __version__

app = typer.Typer(
    name="async-jobs",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Runs jobs, earliest deadline first. Settings come from ASYNC_JOBS_… variables.",
)
jobs_app.command()(delete)
jobs_app.command("run-now")(run_now)
app.add_typer(jobs_app, name="jobs")
app.add_typer(bulk_app, name="bulk")


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def scheduler(
    init_db: InitDb = False,
    health_port: HealthPort = None,
    health_host: HealthHost = LOOPBACK,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Hand out what is due, until SIGTERM. Any number may run side by side.

    Example: `ASYNC_JOBS_DB_DSN=postgresql://… async-jobs scheduler --init-db`
    """
    from async_jobs.entrypoints.programs.logs import set_up_logging
    from async_jobs.entrypoints.programs.processes import run_async, run_scheduler
    from async_jobs.entrypoints.settings.config import AsyncJobsConfig

    logger = set_up_logging(log_level, log_format)
    with reporting(log_level):
        config = AsyncJobsConfig.from_env()
        run_program(
            run_async,
            run_scheduler(
                config, logger, init_db=init_db, health_host=health_host, health_port=health_port
            ),
        )


def worker(
    queue: Annotated[
        list[str],
        typer.Option(
            "--queue", help="A queue to receive from: its name, or its SQS URL; repeatable."
        ),
    ],
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", min=1, max=10_000, help="Slots; else ASYNC_JOBS_WORKER_CONCURRENCY."
        ),
    ] = None,
    handlers: Annotated[
        list[str] | None,
        typer.Option(
            "--handlers", help="A module to import; repeatable; else ASYNC_JOBS_HANDLERS_MODULE."
        ),
    ] = None,
    init_db: InitDb = False,
    health_port: HealthPort = None,
    health_host: HealthHost = LOOPBACK,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Execute the jobs of some queues, until SIGTERM; then let handlers finish.

    Example: `async-jobs worker --queue notifications --handlers async_jobs.handlers.notifications`
    """
    from async_jobs.entrypoints.programs.logs import set_up_logging
    from async_jobs.entrypoints.programs.loops import listening
    from async_jobs.entrypoints.programs.processes import load_handlers, run_async, run_worker
    from async_jobs.entrypoints.settings.config import AsyncJobsConfig

    logger = set_up_logging(log_level, log_format)
    with reporting(log_level):
        config = AsyncJobsConfig.from_env(
            os.environ
            | ({"ASYNC_JOBS_WORKER_CONCURRENCY": str(concurrency)} if concurrency else {})
            | ({"ASYNC_JOBS_HANDLERS_MODULE": ",".join(handlers)} if handlers else {})
        )
        listening(config, queue)  # a wrong name is told before anything is imported
        registry = load_handlers(config.handler_modules)
        run_program(
            run_async,
            run_worker(
                config,
                logger,
                registry=registry,
                queues=queue,
                init_db=init_db,
                health_host=health_host,
                health_port=health_port,
            ),
        )


app.command()(scheduler)
app.command()(worker)
app.command()(status)
app.command()(top)
app.command()(explain)
for each in (pause, resume, limit, controls, audit):
    app.command()(each)
app.command()(attainment)
app.command()(dashboard)
app.command()(errors)


@app.command()
def api(
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; 0.0.0.0 is everywhere.")
    ] = LOOPBACK,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="0 takes one that is free.")
    ] = 8000,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Serve without any token: everybody may do all.")
    ] = False,
    init_db: InitDb = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Serve the dashboard as well, at /dashboard/.")
    ] = False,
    dashboard_name: Annotated[
        str, typer.Option("--dashboard-name", help="What its pages call the system.")
    ] = "",
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Serve the HTTP API, until SIGTERM. Any number may run side by side.

    Tokens come from `ASYNC_JOBS_ENQUEUE_AUTH_TOKEN` and `ASYNC_JOBS_API_TOKENS`; health is at
    `/health/live` and `/health/ready`.

    Example: `ASYNC_JOBS_DB_DSN=postgresql://… async-jobs api --host 0.0.0.0 --port 8000`
    """
    from async_jobs.entrypoints.programs.logs import set_up_logging
    from async_jobs.entrypoints.programs.processes import run_api, run_async
    from async_jobs.entrypoints.settings.config import AsyncJobsConfig

    logger = set_up_logging(log_level, log_format)
    with reporting(log_level):
        config = AsyncJobsConfig.from_env()
        run_program(
            run_async,
            run_api(
                config,
                logger,
                host=host,
                port=port,
                no_auth=no_auth,
                init_db=init_db,
                dashboard=dashboard_name if dashboard or dashboard_name else None,
            ),
        )


@app.command()
def token(
    tenant: Annotated[
        list[str] | None,
        typer.Option("--tenant", help="A tenant it reaches; repeatable; else all."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="enqueue, read, operate, admin, payload; repeatable."),
    ] = None,
    use_case: Annotated[
        list[str] | None,
        typer.Option("--use-case", help="One it may enqueue into; repeatable; else all."),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", help="One it may name when it enqueues; repeatable; else all."),
    ] = None,
    expires_in_days: Annotated[
        float | None,
        typer.Option("--expires-in-days", min=0, max=36_500, help="Else for ever."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What logs call it.")] = None,
) -> None:
    """Make a token of the HTTP API; print it once, and the entry that lets it in.

    The token goes to the service that calls, the entry into the list
    `ASYNC_JOBS_API_TOKENS` of the API, which holds no secret.

    Example: `async-jobs token --tenant acme --scope enqueue --scope read`
    """
    from async_jobs.entrypoints.settings.tokens import Scope, new_token
    from async_jobs.host import SystemClock

    expires_at = None
    if expires_in_days is not None:
        expires_at = SystemClock().now() + timedelta(days=expires_in_days)
    with reporting(LogLevel.WARNING):
        made, entry = new_token(
            tenants=tenant or None,
            scopes=scope or tuple(Scope),
            expires_at=expires_at,
            use_cases=use_case or None,
            queues=queue or None,
            name=name,
        )
        # At once: whoever pipes it into `head -n 1` reads no more than that.
        typer.echo(f"{made}\n{json.dumps(entry)}")


@app.command()
def migrate(
    print_ddl: Annotated[
        bool, typer.Option("--print", help="Print the whole schema instead of applying it.")
    ] = False,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Bring the database's schema up to date; safe to run at any time, from anywhere.

    Example: `ASYNC_JOBS_DB_DSN=postgresql://… async-jobs migrate`
    """
    from async_jobs.entrypoints.programs.logs import set_up_logging
    from async_jobs.entrypoints.programs.processes import run_async, run_migrate
    from async_jobs.entrypoints.settings.config import AsyncJobsConfig, schema_of

    if print_ddl:
        from async_jobs import get_ddl

        with reporting(log_level):
            typer.echo(get_ddl(schema_of(os.environ)), nl=False)
        return
    logger = set_up_logging(log_level, log_format)
    with reporting(log_level):
        applied = run_async(run_migrate(AsyncJobsConfig.from_env(), logger))
        typer.echo("\n".join(applied) or "nothing to do")


@app.command()
def dev(
    memory: Annotated[bool, typer.Option("--memory", help="Keep nothing; no Postgres.")] = False,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Where the embedded Postgres keeps its data.")
    ] = Path(".async_jobs"),
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Where the API listens; 0 for any.")
    ] = 8000,
    handlers: Annotated[
        list[str] | None,
        typer.Option(
            "--handlers",
            help="A module to import; repeatable; else ASYNC_JOBS_HANDLERS_MODULE, else examples.",
        ),
    ] = None,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Run all parts in one process, on an embedded Postgres.

    Settings come from the environment: `ASYNC_JOBS_USE_CASES` names your use cases, else there
    are examples. The API's token is `ASYNC_JOBS_ENQUEUE_AUTH_TOKEN`, else a new one at each
    start.

    Example: `async-jobs dev --handlers app.handlers`, then the line it prints.
    """
    from async_jobs.entrypoints.programs.dev import run_dev
    from async_jobs.entrypoints.programs.logs import set_up_logging
    from async_jobs.entrypoints.programs.processes import run_async

    logger = set_up_logging(log_level, log_format)
    with reporting(log_level):
        where = None if memory else data_dir
        run_program(run_async, run_dev(logger, data_dir=where, port=port, handlers=handlers or ()))


@app.command()
def demo(
    jobs: Annotated[int, typer.Option("--jobs", min=100, max=100_000)] = 6_000,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it up afterwards, until Ctrl-C.")
    ] = False,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Start a whole system, run thousands of jobs through it, kill a worker, and tell how it went.

    Exits 0 when every job ended as it should and no limit was passed; else 1.

    Example: `async-jobs demo --jobs 10000`
    """
    from async_jobs.entrypoints.programs.logs import set_up_logging
    from async_jobs.entrypoints.programs.processes import run_async

    set_up_logging(log_level, LogFormat.TEXT)
    with reporting(log_level):
        require("async-jobs demo", "fastapi", "httpx", "uvicorn")
        from async_jobs.entrypoints.demo.run import run_demo

        if not run_async(run_demo(jobs, keep=keep)):
            raise typer.Exit(1)


def main() -> None:
    """Run `async-jobs`."""
    _begin()
    app()


def _begin() -> None:
    set_up_output()
    own_process()


def scheduler_main() -> None:
    """Run `async-jobs-scheduler`, the same as `async-jobs scheduler`."""
    _run_alone(scheduler, "async-jobs-scheduler")


def worker_main() -> None:
    """Run `async-jobs-worker`, the same as `async-jobs worker`."""
    _run_alone(worker, "async-jobs-worker")


def _run_alone(command: Callable[..., None], name: str) -> None:
    _begin()
    alone = typer.Typer(name=name, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    alone.command(name=name)(command)
    alone()


if __name__ == "__main__":
    main()
