"""async-jobs status, explain, jobs explain and jobs history: who is there, why jobs wait, and what
became of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer

from async_jobs.adapters.http.answers import Answer, answer_record_of
from async_jobs.domain.explain import Explanation, StandingControl, Status, UseCaseStatus, Waiting
from async_jobs.domain.timeline import JobHistory, TimelineEntry
from async_jobs.entrypoints.cli.asking import Where, ask_operations
from async_jobs.entrypoints.cli.jobs import AsJson, Dsn, JobId, Tenant, Token, Url, jobs_app
from async_jobs.entrypoints.cli.options import LogLevelOption
from async_jobs.entrypoints.cli.output import print_rows
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.entrypoints.programs.terminal import printable


def status(
    tenant: Annotated[
        list[str] | None,
        typer.Option("--tenant", help="Only what concerns this tenant; repeatable."),
    ] = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Tell what there is to do, who does it, and what keeps jobs waiting.

    Example: `async-jobs status`
    """
    answer = ask_operations(
        Where(dsn, url, token),
        log_level,
        lambda operations: operations.status(tenants=tenant or None),
    )
    if as_json:
        _print_json(answer)
    else:
        _print_status(answer)


@jobs_app.command("explain")
def explain_job(
    job_id: JobId,
    tenant: Tenant = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Tell why a job waits, where it runs or how it ended.

    Example: `async-jobs jobs explain 0193…`
    """
    answer = ask_operations(
        Where(dsn, url, token),
        log_level,
        lambda operations: operations.explain(job_id, tenant_id=tenant),
    )
    if as_json:
        _print_json(answer)
    else:
        typer.echo("\n".join(map(printable, _explained(answer))))


@jobs_app.command("history")
def history(
    job_id: JobId,
    tenant: Tenant = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Tell what became of a job: its attempts, who ran them, and how each of them ended.

    Example: `async-jobs jobs history 0193…`
    """
    answer = ask_operations(
        Where(dsn, url, token),
        log_level,
        lambda operations: operations.history(job_id, tenant_id=tenant),
    )
    if as_json:
        _print_json(answer)
    else:
        typer.echo("\n".join(map(printable, _lived(answer))))


def explain(
    use_case: Annotated[
        str | None, typer.Option("--use-case", help="Only jobs of this use case.")
    ] = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Tell why the jobs of a use case, of a tenant, or of a tenant in a use case wait.

    Example: `async-jobs explain --use-case notifications --tenant acme`
    """
    answer = ask_operations(
        Where(dsn, url, token),
        log_level,
        lambda operations: operations.explain_waiting(use_case=use_case, tenant_id=tenant),
    )
    if as_json:
        _print_json(answer)
    else:
        typer.echo("\n".join(map(printable, _waiting(answer))))


def _print_json(answer: Answer) -> None:
    record = json.dumps(answer_record_of(answer), indent=2, ensure_ascii=False)
    typer.echo(printable(record, keep="\n"))


def _explained(answer: Explanation) -> Iterator[str]:
    yield answer.sentence
    for reason in answer.reasons[1:]:
        yield f"  besides: {reason.sentence}"
    if answer.next_turn is not None:
        yield f"next turn: {answer.next_turn.value}"
    if answer.estimate is not None:
        at = answer.estimate.start_at
        yield f"estimated start: {_told(at) if at is not None else '-'} ({answer.estimate.basis})"


def _lived(answer: JobHistory) -> Iterator[str]:
    if answer.cut:
        yield "(older records are left out)"
    for entry in answer.entries:
        yield f"{_told(entry.at)}  {' '.join(_happened(entry))}"
        if entry.error:
            found = f" [{entry.fingerprint}]" if entry.fingerprint else ""
            yield f"    {entry.error}{found}"
        for place in (entry.traceback or "").splitlines():
            yield f"      at {place}"


def _happened(entry: TimelineEntry) -> Iterator[str]:
    yield entry.moment.value
    if entry.outcome is not None:
        yield entry.outcome.value
    if entry.attempt:
        yield f"attempt {entry.attempt}"
    if entry.worker_id:
        yield f"worker {entry.worker_id}"
    if entry.ran_seconds is not None:
        yield f"after {entry.ran_seconds:.3g} s"


def _waiting(answer: Waiting) -> Iterator[str]:
    yield answer.sentence
    for reason in answer.reasons:
        yield f"  {reason.jobs:>6} {reason.code.value}: {reason.sentence}"
        yield f"         to change it: {reason.change}"


def _print_status(answer: Status) -> None:
    print_rows(
        ("use case", "queue", "limit", "running", "unclaimed", "pending", "starts/s"),
        [
            (
                printable(each.use_case),
                printable(each.queue or "-"),
                _limit(each),
                str(each.running),
                str(each.unclaimed),
                f"{each.pending:,}{'+' if each.at_least else ''}",
                "-" if each.starts_per_second is None else f"{each.starts_per_second:.3g}",
            )
            for each in answer.use_cases
        ],
    )
    typer.echo()
    print_rows(
        ("queue", "workers", "slots", "busy", "unclaimed"),
        [
            (
                printable(each.queue),
                str(each.workers),
                str(each.slots),
                str(each.busy),
                str(each.unclaimed),
            )
            for each in answer.queues
        ],
    )
    if answer.workers:
        typer.echo()
        _print_workers(answer)
    if answer.schedulers:
        typer.echo()
        _print_schedulers(answer)
    for control in answer.controls:
        typer.echo(printable(ordered(control)))
    for warning in answer.warnings:
        typer.echo(f"warning: {printable(warning.sentence)}")


def _limit(of: UseCaseStatus) -> str:
    if of.limit is None:
        return "-"
    return str(of.limit) if of.limit_from is None else f"{of.limit} (control)"


def ordered(control: StandingControl) -> str:
    """Return what operators ordered, as one line that is not harmless yet (`printable`)."""
    limits = (control.limits or {}).items()
    what = ", ".join(f"{name} {value}" for name, value in limits) or "pause"
    scope = ", ".join(f"{name} {value!r}" for name, value in control.scope.items())
    who = "" if control.actor is None else f" by {control.actor}"
    until = "" if control.until is None else f" until {_told(control.until)}"
    why = "" if control.reason is None else f": {control.reason}"
    return f"control: {what} of {scope}{who} since {_told(control.since)}{until}{why}"


def _print_workers(answer: Status) -> None:
    print_rows(
        ("worker", "host", "version", "transport", "busy", "queues", "types"),
        [
            (
                printable(each.worker_id),
                printable(each.host),
                printable(each.version),
                printable(each.transport or "-"),
                f"{each.busy}/{each.slots}",
                printable(", ".join(each.queues)),
                "-" if each.types is None else printable(", ".join(each.types)),
            )
            for each in answer.workers
        ],
    )


def _print_schedulers(answer: Status) -> None:
    print_rows(
        ("scheduler", "host", "version", "transport", "last tick", "took", "leads"),
        [
            (
                printable(each.scheduler_id),
                printable(each.host),
                printable(each.version),
                printable(each.transport or "-"),
                _told(each.ticked_at),
                f"{each.tick_seconds * 1_000:.1f} ms",
                printable(", ".join(each.leads)),
            )
            for each in answer.schedulers
        ],
    )


def _told(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
