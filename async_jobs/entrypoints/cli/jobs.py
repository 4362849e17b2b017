"""async-jobs jobs …: look at jobs, foresee, add, cancel and retry them, here or over HTTP."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import typer

from async_jobs.adapters.http.wire import outlook_record_of, page_record_of, record_of
from async_jobs.domain.errors import IllegalTransition, InvalidJobError, JobNotFoundError
from async_jobs.domain.job import EnqueueJobRequest, Job, JobStatus, Phase, UnreadableJob
from async_jobs.entrypoints.cli.asking import Asked, Where, ask
from async_jobs.entrypoints.cli.options import (
    EXIT_FAILED,
    LogLevelOption,
    reporting,
    tell,
)
from async_jobs.entrypoints.cli.output import print_rows
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.entrypoints.programs.terminal import printable
from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE

ERROR_CHARACTERS = 60

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
        help=f"The remote API's token; better in {TOKEN_VARIABLE}: others here can read options.",
    ),
]
Tenant: TypeAlias = Annotated[
    str | None,
    typer.Option("--tenant", help="Only this tenant's jobs."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunAt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--run-at",
        help="Its earliest start, at most 366 days ahead, written as 2030-01-31T18:00:00Z;"
        " else now.",
    ),
]
JobId: TypeAlias = Annotated[UUID, typer.Argument(help="The job's id.")]
JobIds: TypeAlias = Annotated[list[UUID], typer.Argument(help="The jobs' ids.")]


@jobs_app.command("list")
def list_jobs(
    tenant: Tenant = None,
    use_case: Annotated[str | None, typer.Option("--use-case")] = None,
    status: Annotated[JobStatus | None, typer.Option("--status", case_sensitive=False)] = None,
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
    page = ask(
        Where(dsn, url, token),
        log_level,
        lambda jobs: jobs.list_jobs(
            tenant_id=tenant, use_case=use_case, status=status, limit=limit, cursor=cursor
        ),
        warns=True,
    )
    if as_json:
        typer.echo(json.dumps(page_record_of(page)))
        return
    print_table(page.jobs, page.unreadable)
    if page.next_cursor is not None:
        typer.echo(f"more: --cursor {page.next_cursor}")


def print_table(jobs: tuple[Job, ...], unreadable: tuple[UnreadableJob, ...] = ()) -> None:
    """Print a line a job, and one in its place for a row that cannot be read.

    Whatever their names hold, it is harmless to a terminal.
    """
    lines = {job.id: _line(job) for job in jobs} | {row.id: _stub(row) for row in unreadable}
    headings = ("id", "tenant", "use case", "type", "status", "attempts", "deadline", "error")
    print_rows(headings, [line for _, line in sorted(lines.items(), reverse=True)])


def _line(job: Job) -> tuple[str, ...]:
    return (
        str(job.id),
        printable(job.tenant_id),
        printable(job.use_case),
        printable(job.type),
        _standing(job),
        f"{job.attempts}/{job.max_attempts}",
        f"{job.deadline_at:%Y-%m-%d %H:%M:%S}",
        printable((job.last_error or "").partition("\n")[0][:ERROR_CHARACTERS]),
    )


def _stub(row: UnreadableJob) -> tuple[str, ...]:
    named = (str(row.id), printable(row.tenant_id), printable(row.use_case))
    return (*named, "-", printable(row.status), "-", "-", f"unreadable: {printable(row.problem)}")


def _standing(job: Job) -> str:
    """Return a job's status; `handed_off` for one that no worker has yet, `cancelling` as well."""
    return job.status.value if job.phase is Phase.CLAIMED else job.phase.value


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
    job = ask(
        Where(dsn, url, token),
        log_level,
        lambda jobs: jobs.get_job(job_id, tenant_id=tenant),
        warns=True,
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
    run_at: RunAt = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", help="NAME=VALUE, carried along; repeatable.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="NAME=VALUE, to find it by; repeatable.")
    ] = None,
    job_id: Annotated[
        UUID | None, typer.Option("--id", help="Its id: a repeated call enqueues nothing more.")
    ] = None,
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
            id=job_id,
            run_at=_instant(run_at),
            headers=pairs_of("--header", header or []),
            labels=pairs_of("--label", label or []),
        )
    enqueued = ask(
        Where(dsn, url, token), log_level, lambda jobs: jobs.enqueue(request), enqueues=request
    )
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
    foreseen = ask(
        Where(dsn, url, token), log_level, lambda jobs: jobs.outlook(request), warns=True
    )
    typer.echo(json.dumps(outlook_record_of(foreseen), indent=2))


def _tolerance(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidJobError("--payload", f"must be a JSON object: {error}") from None


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.utcoffset() is None:
        raise InvalidJobError(
            "--run-at", "must be an instant with its offset, e.g. 2030-01-31T18:00:00Z"
        )
    return instant


def pairs_of(option: str, entries: Sequence[str]) -> dict[str, str]:
    """Return what several NAME=VALUE of an option say."""
    pairs: dict[str, str] = {}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if not separator or not name:
            raise InvalidJobError(option, "must be NAME=VALUE")
        if pairs.setdefault(name, value) != value:
            raise InvalidJobError(option, f"{name} is given twice")
    return pairs


@jobs_app.command()
def cancel(
    job_ids: JobIds,
    tenant: Tenant = None,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Cancel jobs, or ask their workers to, and print them.

    Of several, those that cannot be cancelled are told, and the others are; then it exits 1.

    Example: `async-jobs jobs cancel 0193…`
    """
    _each(
        job_ids,
        Where(dsn, url, token),
        log_level,
        lambda jobs, job_id: jobs.cancel_job(job_id, tenant_id=tenant),
    )


@jobs_app.command()
def retry(
    job_ids: JobIds,
    tenant: Tenant = None,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Give dead or cancelled jobs another life, and print them.

    Of several, those that cannot have one are told, and the others get it; then it exits 1.

    Example: `async-jobs jobs retry 0193…`
    """
    _each(
        job_ids,
        Where(dsn, url, token),
        log_level,
        lambda jobs, job_id: jobs.retry_job(job_id, tenant_id=tenant),
    )


def _each(
    job_ids: Sequence[UUID],
    where: Where,
    level: LogLevel,
    change: Callable[[Asked, UUID], Awaitable[Job]],
) -> None:
    """Change the jobs one after the other, and print each as it then stands.

    What one job's state forbids keeps the others from nothing; anything else ends it.
    """
    ids = list(dict.fromkeys(job_ids))

    async def all_of_them(jobs: Asked) -> int:
        refused = 0
        for job_id in ids:
            try:
                _print_job(await change(jobs, job_id))
            except (JobNotFoundError, IllegalTransition) as error:
                refused += 1
                named = "" if len(ids) == 1 or str(job_id) in str(error) else f"job {job_id}: "
                tell(f"{named}{error}", level)
        return refused

    if ask(where, level, all_of_them):
        raise typer.Exit(EXIT_FAILED)


def _print_job(job: Job) -> None:
    record = json.dumps(record_of(job), indent=2, ensure_ascii=False)
    typer.echo(printable(record, keep="\n"))
