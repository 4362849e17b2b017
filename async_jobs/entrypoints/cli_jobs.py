"""async-jobs jobs …: look at jobs, foresee, add, cancel and retry them, here or over HTTP."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from async_jobs.adapters.http.wire import outlook_record_of, page_record_of, record_of
from async_jobs.domain.errors import ConfigurationError, InvalidJobError
from async_jobs.domain.job import EnqueueJobRequest, Job, JobStatus
from async_jobs.domain.outlook import Outlook
from async_jobs.entrypoints.cli_options import TOKEN_VARIABLE, LogLevelOption, reporting
from async_jobs.entrypoints.config import AsyncJobsConfig
from async_jobs.entrypoints.container import opened
from async_jobs.entrypoints.logs import LogFormat, LogLevel, set_up_logging
from async_jobs.entrypoints.programs import run_async
from async_jobs.ports.jobs import Jobs

T = TypeVar("T")

ERROR_CHARACTERS = 60
PIPE_CHARACTERS = 2_000

jobs_app = typer.Typer(no_args_is_help=True, help="Look at jobs, add, cancel and retry them.")

Dsn: TypeAlias = Annotated[
    str | None,
    typer.Option("--dsn", help="The database; else ASYNC_JOBS_DB_DSN."),
]
Url: TypeAlias = Annotated[
    str | None,
    typer.Option("--url", help="A remote API to ask instead of a database."),
]
Token: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar=TOKEN_VARIABLE,
        show_envvar=False,
        help=f"The remote API's token; else {TOKEN_VARIABLE}, which other processes cannot see.",
    ),
]
Tenant: TypeAlias = Annotated[
    str | None,
    typer.Option("--tenant", help="Only this tenant's jobs."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobId: TypeAlias = Annotated[UUID, typer.Argument(help="The job's id.")]


class Where(NamedTuple):
    """Where the jobs are: behind a remote API, or in a database."""

    dsn: str | None
    url: str | None
    token: str | None


class Asked(Jobs, Protocol):
    """What the service and the client have: the calls of `Jobs`, and `outlook`."""

    async def outlook(self, request: EnqueueJobRequest) -> Outlook:
        """See `JobService`."""
        ...


@asynccontextmanager
async def _jobs(where: Where, logger: logging.Logger) -> AsyncIterator[Asked]:
    if where.url is not None:
        if where.dsn is not None:
            raise ConfigurationError("--dsn, --url: only one of them can be asked")
        from async_jobs.entrypoints.http_client import AsyncJobsHttpClient

        async with AsyncJobsHttpClient(where.url, auth_token=where.token) as client:
            yield client
        return
    dsn = {} if where.dsn is None else {"ASYNC_JOBS_DB_DSN": where.dsn}
    config = AsyncJobsConfig.from_env(os.environ | dsn)
    async with opened(config, logger, application_name="async_jobs cli") as container:
        yield container.service()


def _ask(where: Where, level: LogLevel, call: Callable[[Asked], Awaitable[T]]) -> T:
    """Run one call where the jobs are."""
    logger = set_up_logging(level, LogFormat.TEXT)

    async def run() -> T:
        async with _jobs(where, logger) as jobs:
            return await call(jobs)

    with reporting(level):
        return run_async(run())


@jobs_app.command("list")
def list_jobs(
    tenant: Tenant = None,
    use_case: Annotated[str | None, typer.Option("--use-case")] = None,
    status: Annotated[JobStatus | None, typer.Option("--status")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000)] = 20,
    cursor: Annotated[
        UUID | None,
        typer.Option("--cursor", help="Where the last page ended."),
    ] = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """List jobs, newest first. Example: `async-jobs jobs list --tenant acme --status dead`"""
    page = _ask(
        Where(dsn, url, token),
        log_level,
        lambda jobs: jobs.list_jobs(
            tenant_id=tenant, use_case=use_case, status=status, limit=limit, cursor=cursor
        ),
    )
    if as_json:
        typer.echo(json.dumps(page_record_of(page)))
        return
    _print_table(page.jobs)
    if page.next_cursor is not None:
        typer.echo(f"more: --cursor {page.next_cursor}")


def _print_table(jobs: tuple[Job, ...]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "tenant", "use case", "type", "status", "attempts", "deadline", "error"):
        table.add_column(heading, no_wrap=heading == "id")
    for job in jobs:
        table.add_row(
            str(job.id),
            job.tenant_id,
            job.use_case,
            job.type,
            job.status.value,
            f"{job.attempts}/{job.max_attempts}",
            f"{job.deadline_at:%Y-%m-%d %H:%M:%S}",
            _printable((job.last_error or "").partition("\n")[0][:ERROR_CHARACTERS]),
        )
    # What jobs hold is text, whatever markup it looks like.
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        # A pipe has no width: nothing is cut off for scripts.
        console.width = PIPE_CHARACTERS
    console.print(table)


def _printable(text: str) -> str:
    """Return the text without what could move a terminal's cursor or rename its window."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


@jobs_app.command()
def show(
    job_id: JobId,
    tenant: Tenant = None,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Print one job as JSON. Example: `async-jobs jobs show 0193…`"""
    job = _ask(
        Where(dsn, url, token), log_level, lambda jobs: jobs.get_job(job_id, tenant_id=tenant)
    )
    _print_job(job)


@jobs_app.command()
def enqueue(
    tenant: Annotated[str, typer.Option("--tenant")],
    use_case: Annotated[str, typer.Option("--use-case")],
    type: Annotated[str, typer.Option("--type")],
    payload: Annotated[str, typer.Option("--payload", help="A JSON object.")] = "{}",
    dedupe_key: Annotated[str | None, typer.Option("--dedupe-key")] = None,
    priority: Annotated[int, typer.Option("--priority", help="Higher goes first.")] = 0,
    queue: Annotated[str | None, typer.Option("--queue", help="Else the use case's.")] = None,
    delay_tolerance_seconds: Annotated[
        float | None, typer.Option("--delay-tolerance-seconds", min=0, max=30 * 86_400)
    ] = None,
    max_attempts: Annotated[int | None, typer.Option("--max-attempts", min=1, max=100)] = None,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Enqueue one job and print its id.

    Example: `async-jobs jobs enqueue --tenant acme --use-case notifications --type send_email
    --payload '{"to": "a@b.example"}'`
    """
    with reporting(log_level):
        request = EnqueueJobRequest(
            tenant_id=tenant,
            use_case=use_case,
            type=type,
            payload=_object(payload),
            dedupe_key=dedupe_key,
            priority=priority,
            queue=queue,
            delay_tolerance=_tolerance(delay_tolerance_seconds),
            max_attempts=max_attempts,
        )
    enqueued = _ask(Where(dsn, url, token), log_level, lambda jobs: jobs.enqueue(request))
    typer.echo(enqueued.job_id)


@jobs_app.command()
def outlook(
    tenant: Annotated[str, typer.Option("--tenant")],
    use_case: Annotated[str, typer.Option("--use-case")],
    type: Annotated[str, typer.Option("--type")],
    queue: Annotated[str | None, typer.Option("--queue", help="Else the use case's.")] = None,
    delay_tolerance_seconds: Annotated[
        float | None, typer.Option("--delay-tolerance-seconds", min=0, max=30 * 86_400)
    ] = None,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Tell whether a job would start in time, were it enqueued now, and enqueue nothing.

    Example: `async-jobs jobs outlook --tenant acme --use-case notifications --type send_email
    --delay-tolerance-seconds 30`
    """
    request = EnqueueJobRequest(
        tenant_id=tenant,
        use_case=use_case,
        type=type,
        payload={},
        queue=queue,
        delay_tolerance=_tolerance(delay_tolerance_seconds),
    )
    foreseen = _ask(Where(dsn, url, token), log_level, lambda jobs: jobs.outlook(request))
    typer.echo(json.dumps(outlook_record_of(foreseen), indent=2))


def _tolerance(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidJobError("--payload", f"must be a JSON object: {error}") from None


@jobs_app.command()
def cancel(
    job_id: JobId,
    tenant: Tenant = None,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Cancel a job, or ask its worker to, and print it. Example: `async-jobs jobs cancel 0193…`"""
    where = Where(dsn, url, token)
    _print_job(_ask(where, log_level, lambda jobs: jobs.cancel_job(job_id, tenant_id=tenant)))


@jobs_app.command()
def retry(
    job_id: JobId,
    tenant: Tenant = None,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Give a dead or cancelled job another life. Example: `async-jobs jobs retry 0193…`"""
    where = Where(dsn, url, token)
    _print_job(_ask(where, log_level, lambda jobs: jobs.retry_job(job_id, tenant_id=tenant)))


def _print_job(job: Job) -> None:
    typer.echo(json.dumps(record_of(job), indent=2, ensure_ascii=False))
