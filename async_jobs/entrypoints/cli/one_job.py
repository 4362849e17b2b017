"""async-jobs jobs delete, run-now: what operators do to one job, by an audited bulk operation."""

from __future__ import annotations

from uuid import UUID

import typer

from async_jobs.domain.audit import Operator
from async_jobs.domain.bulk import Amendment, BulkAction, BulkOperation, BulkState
from async_jobs.domain.filters import JobQuery, Span
from async_jobs.entrypoints.cli.asking import Where, ask_bulk
from async_jobs.entrypoints.cli.bulk import POLL_SECONDS, operator_of
from async_jobs.entrypoints.cli.controls import Actor, Reason
from async_jobs.entrypoints.cli.jobs import Dsn, JobId, Tenant, Token, Url
from async_jobs.entrypoints.cli.options import EXIT_FAILED, LogLevelOption, reporting, tell
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.ports.bulk_steering import BulkRequest, BulkSteering
from async_jobs.ports.clock import Clock


def delete(
    job_id: JobId,
    reason: Reason,
    tenant: Tenant = None,
    actor: Actor = None,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Delete a job and the records of its attempts; a scheduler does it, and the audit tells.

    One that runs is left, and it exits 1: cancel it first. An API wants a token of the scope admin.

    Example: `async-jobs jobs delete 0193… --reason 'asked by its owner'`
    """
    with reporting(log_level):
        operator = operator_of(actor, url)

    async def act(bulk: BulkSteering, clock: Clock) -> BulkOperation | None:
        which = JobQuery(ids=frozenset({job_id}), tenant_id=tenant)
        request = BulkRequest(action=BulkAction.DELETE, criteria=which)
        return await _done(bulk, clock, request, reason, operator)

    done = ask_bulk(Where(dsn, url, token), log_level, act)
    kept = f"job {job_id} is kept: it runs, and has to be cancelled first"
    _tell(done, "deleted", job_id, f"no job has the id {job_id}", kept, log_level)


def run_now(
    job_id: JobId,
    reason: Reason,
    tenant: Tenant = None,
    actor: Actor = None,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Let a job that waits for its time be due now; a scheduler does it, and the audit tells.

    Its deadline moves with it. Any other job stays as it is, and it exits 1.

    Example: `async-jobs jobs run-now 0193… --reason 'the report is needed today'`
    """
    with reporting(log_level):
        operator = operator_of(actor, url)

    async def act(bulk: BulkSteering, clock: Clock) -> BulkOperation | None:
        now = clock.now()
        # One that is due already would be given a later deadline.
        later = Span(since=now)
        which = JobQuery(ids=frozenset({job_id}), tenant_id=tenant, run_at=later)
        request = BulkRequest(
            action=BulkAction.RESCHEDULE, criteria=which, amendment=Amendment(run_at=now)
        )
        return await _done(bulk, clock, request, reason, operator)

    done = ask_bulk(Where(dsn, url, token), log_level, act)
    missing = f"no job of the id {job_id} waits for its time"
    _tell(done, "due now", job_id, missing, f"job {job_id} has changed meanwhile", log_level)


async def _done(
    bulk: BulkSteering, clock: Clock, request: BulkRequest, reason: str, operator: Operator
) -> BulkOperation | None:
    """Return the operation once it is over; None if there is no such job."""
    preview = await bulk.preview(request)
    if not preview.count:
        return None
    operation = await bulk.start(request, token=preview.token, reason=reason, operator=operator)
    while operation.state is BulkState.RUNNING:
        await clock.sleep(POLL_SECONDS)
        operation = await bulk.get(operation.id)
    return operation


def _tell(
    done: BulkOperation | None,
    what: str,
    job_id: UUID,
    missing: str,
    kept: str,
    level: LogLevel,
) -> None:
    if done is not None and done.done:
        typer.echo(f"{what}: {job_id}")
        return
    if done is not None and done.failed:
        kept = f"job {job_id} is kept: {done.problem}"
    tell(missing if done is None else kept, level)
    raise typer.Exit(EXIT_FAILED)
