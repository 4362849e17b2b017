"""async-jobs bulk …: one action over all jobs that a filter finds."""

from __future__ import annotations

import asyncio
import getpass
import inspect
import json
import re
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Final, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

import typer

from async_jobs.adapters.http.bulk import bulk_record_of
from async_jobs.domain.audit import Operator
from async_jobs.domain.bulk import Amendment, BulkAction, BulkOperation, BulkState
from async_jobs.domain.errors import ConfigurationError
from async_jobs.domain.filters import JobQuery, Span, query_record_of
from async_jobs.domain.job import JobStatus
from async_jobs.entrypoints.cli.asking import Where, ask_bulk
from async_jobs.entrypoints.cli.controls import Actor, Reason
from async_jobs.entrypoints.cli.jobs import AsJson, Dsn, Token, Url
from async_jobs.entrypoints.cli.options import EXIT_FAILED, LogLevelOption, reporting
from async_jobs.entrypoints.cli.output import print_rows
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.entrypoints.programs.terminal import printable
from async_jobs.ports.bulk_steering import BulkPreview, BulkRequest, BulkSteering
from async_jobs.ports.clock import Clock

T = TypeVar("T")

POLL_SECONDS: Final = 0.5
BAR_CHARACTERS: Final = 30
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

bulk_app = typer.Typer(
    no_args_is_help=True,
    help="Act on all jobs that a filter finds: previewed, confirmed, carried out by schedulers.",
)

Tenant: TypeAlias = Annotated[str | None, typer.Option("--tenant", help="Of this tenant.")]
UseCases: TypeAlias = Annotated[
    list[str] | None, typer.Option("--use-case", help="Of this use case; repeatable.")
]
Types: TypeAlias = Annotated[
    list[str] | None, typer.Option("--type", help="Of this type; repeatable.")
]
Queues: TypeAlias = Annotated[
    list[str] | None, typer.Option("--queue", help="For this queue; repeatable.")
]
Statuses: TypeAlias = Annotated[
    list[JobStatus] | None,
    typer.Option("--status", help="In this status; repeatable. Else those that it is for."),
]
ErrorGroup: TypeAlias = Annotated[
    str | None, typer.Option("--error-group", help="That met this error: 16 hex digits.")
]
Since: TypeAlias = Annotated[
    str | None, typer.Option("--since", help="Created within that time: 90s, 30m, 2h or 7d.")
]
All: TypeAlias = Annotated[
    bool, typer.Option("--all", help="Every job, where no condition is given.")
]
Max: TypeAlias = Annotated[
    int | None, typer.Option("--max", min=1, help="So many at most; else as many as are counted.")
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Detach: TypeAlias = Annotated[
    bool, typer.Option("--detach", help="Do not wait until it is done; bulk show tells how far.")
]
RunAt: TypeAlias = Annotated[
    str | None,
    typer.Option("--run-at", help="When they are due: now, or as 2030-01-31T18:00:00Z."),
]
Priority: TypeAlias = Annotated[
    int | None, typer.Option("--priority", help="From -32768 to 32767; higher goes first.")
]
Tolerance: TypeAlias = Annotated[
    str | None, typer.Option("--delay-tolerance", help="How late is on time: 90s, 30m, 2h or 7d.")
]
OperationId: TypeAlias = Annotated[UUID, typer.Argument(metavar="ID", help="Of the operation.")]


class _Asked(NamedTuple):
    """What a command was given, beside the filter."""

    reason: str
    operator: Operator
    maximum: int | None
    yes: bool
    detach: bool
    as_json: bool


def _command(action: BulkAction, amends: str, summary: str) -> Callable[..., None]:
    """Return the command of an action.

    Args:
        action: what it does.
        amends: the parameter that says what the action changes to; empty for none.
        summary: what the help says.
    """

    def run(
        reason: Reason,
        tenant: Tenant = None,
        use_case: UseCases = None,
        type_: Types = None,
        queue: Queues = None,
        status: Statuses = None,
        error_group: ErrorGroup = None,
        since: Since = None,
        all_jobs: All = False,
        run_at: RunAt = None,
        priority: Priority = None,
        tolerance: Tolerance = None,
        maximum: Max = None,
        yes: Yes = False,
        detach: Detach = False,
        actor: Actor = None,
        as_json: AsJson = False,
        dsn: Dsn = None,
        url: Url = None,
        token: Token = None,
        log_level: LogLevelOption = LogLevel.WARNING,
    ) -> None:
        with reporting(log_level):
            created = None if since is None else _duration("--since", since)
            late = None if tolerance is None else _duration("--delay-tolerance", tolerance)
            due = None if run_at is None else _instant("--run-at", run_at)
            operator = operator_of(actor, url)
        asked = _Asked(reason, operator, maximum, yes, detach, as_json)
        criteria = JobQuery(
            tenant_id=tenant,
            use_cases=_any_of(use_case),
            types=_any_of(type_),
            queues=_any_of(queue),
            statuses=_any_of(status),
            error_group=error_group,
        )
        amendment = Amendment(run_at=due, priority=priority, delay_tolerance=late)

        async def act(bulk: BulkSteering, clock: Clock) -> BulkOperation | BulkPreview:
            since_then = Span(since=None if created is None else clock.now() - created)
            which = replace(criteria, created=since_then)
            request = BulkRequest(
                action=action, criteria=which, amendment=amendment, all_jobs=all_jobs
            )
            return await _acted(bulk, clock, request, asked)

        _end(ask_bulk(Where(dsn, url, token), log_level, act), asked)

    run.__doc__ = summary
    return _without(run, {"run_at", "priority", "tolerance"} - {amends})


def _any_of(given: list[T] | None) -> frozenset[T] | None:
    return frozenset(given) if given else None


def _without(run: Callable[..., None], left_out: Collection[str]) -> Callable[..., None]:
    """Return a command that has some of its options no more."""
    signature = inspect.signature(run, eval_str=True)
    kept = [each for name, each in signature.parameters.items() if name not in left_out]
    run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return run


_EXAMPLES: Final = {
    "": "",
    "run_at": " --run-at 2030-01-31T18:00:00Z",
    "priority": " --priority 10",
    "tolerance": " --delay-tolerance 2h",
}
for _action, _amends, _summary in (
    (BulkAction.CANCEL, "", "Cancel jobs; what a worker executes is asked to stop."),
    (BulkAction.RETRY, "", "Give dead jobs another life; cancelled ones by --status cancelled."),
    (BulkAction.DELETE, "", "Delete jobs and their records; what runs is left, cancel it first."),
    (BulkAction.RESCHEDULE, "run_at", "Let waiting jobs be due at another instant."),
    (BulkAction.PRIORITISE, "priority", "Give waiting jobs another priority."),
    (BulkAction.TOLERATE, "tolerance", "Give waiting jobs another delay tolerance."),
):
    _example = f"async-jobs bulk {_action}{_EXAMPLES[_amends]} --type send_email --reason moved"
    _told = f"{_summary}\n\nExample: `{_example}`"
    bulk_app.command(_action.value)(_command(_action, _amends, _told))


@bulk_app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000)] = 20,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """List bulk operations, the newest first.

    Example: `async-jobs bulk list --limit 5`
    """
    found = ask_bulk(
        Where(dsn, url, token), log_level, lambda bulk, _: bulk.operations(limit=limit)
    )
    _print_json([bulk_record_of(each) for each in found]) if as_json else _print(*found)


@bulk_app.command()
def show(
    operation_id: OperationId,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Tell how far an operation is.

    Example: `async-jobs bulk show 01a22ed1-bd38-7000-8000-0001eb319a2a`
    """
    found = ask_bulk(Where(dsn, url, token), log_level, lambda bulk, _: bulk.get(operation_id))
    _print_json(bulk_record_of(found)) if as_json else _print(found)


@bulk_app.command()
def stop(
    operation_id: OperationId,
    reason: Reason,
    actor: Actor = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Leave the rest of an operation undone; what is done stays done.

    Example: `async-jobs bulk stop 01a22ed1-bd38-7000-8000-0001eb319a2a --reason 'a mistake'`
    """
    with reporting(log_level):
        operator = operator_of(actor, url)
    stopped = ask_bulk(
        Where(dsn, url, token),
        log_level,
        lambda bulk, _: bulk.stop(operation_id, reason=reason, operator=operator),
    )
    _print_json(bulk_record_of(stopped)) if as_json else _print(stopped)


@bulk_app.command()
def undo(
    operation_id: OperationId,
    reason: Reason,
    detach: Detach = False,
    actor: Actor = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Let what an operation has cancelled wait again, with all that it had.

    Example: `async-jobs bulk undo 01a22ed1-bd38-7000-8000-0001eb319a2a --reason 'a mistake'`
    """
    with reporting(log_level):
        asked = _Asked(reason, operator_of(actor, url), None, True, detach, as_json)

    async def undone(bulk: BulkSteering, clock: Clock) -> BulkOperation:
        begun = await bulk.undo(operation_id, reason=reason, operator=asked.operator)
        return await _watched(bulk, clock, begun, asked)

    _end(ask_bulk(Where(dsn, url, token), log_level, undone), asked)


# --- shared --------------------------------------------------------------------------------------


async def _acted(
    bulk: BulkSteering, clock: Clock, request: BulkRequest, asked: _Asked
) -> BulkOperation | BulkPreview:
    """Preview, ask, start and watch; returns the preview where there is nothing to do."""
    preview = await bulk.preview(request)
    if not preview.count and asked.maximum is None:
        return preview
    _confirm(request.action, preview, asked)
    begun = await bulk.start(
        request,
        token=preview.token,
        reason=asked.reason,
        operator=asked.operator,
        maximum=asked.maximum,
    )
    return await _watched(bulk, clock, begun, asked)


def _confirm(action: BulkAction, preview: BulkPreview, asked: _Asked) -> None:
    if asked.yes:
        return
    more = " or more" if preview.at_least else ""
    told = f"{preview.count}{more} jobs match"
    if asked.maximum is not None and asked.maximum > preview.count:
        raise ConfigurationError(f"--max: {told}: --yes is needed to go beyond that")
    if not sys.stdin.isatty():
        raise ConfigurationError(f"--yes: {told}; it is needed where nobody can be asked")
    count = min(preview.count, asked.maximum or preview.count)
    typer.confirm(f"{told}. {action.value} {count} of them?", abort=True, err=True)


async def _watched(
    bulk: BulkSteering, clock: Clock, operation: BulkOperation, asked: _Asked
) -> BulkOperation:
    """Return the operation once it is over, and show how far it is until then."""
    if asked.detach:
        return operation
    shows = sys.stderr.isatty()
    try:
        while operation.state is BulkState.RUNNING:
            await clock.sleep(POLL_SECONDS)
            operation = await bulk.get(operation.id)
            if shows:
                typer.echo(f"\r{_bar(operation)}", err=True, nl=False)
    except asyncio.CancelledError:
        typer.echo(f"\nit goes on: async-jobs bulk stop {operation.id}", err=True)
        raise
    finally:
        if shows:
            typer.echo("", err=True)
    return operation


def _bar(operation: BulkOperation) -> str:
    whole = max(1, min(operation.matched, operation.maximum))
    share = min(1.0, operation.looked_at / whole)
    bar = "#" * round(share * BAR_CHARACTERS)
    return f"[{bar:<{BAR_CHARACTERS}}] {share:4.0%} {_counts(operation)}"


def _counts(operation: BulkOperation) -> str:
    told = f"{operation.done} done, {operation.skipped} skipped, {operation.failed} failed"
    return told if operation.problem is None else f"{told} ({operation.problem})"


def _end(answer: BulkOperation | BulkPreview, asked: _Asked) -> None:
    if isinstance(answer, BulkPreview):
        _print_json({"count": 0}) if asked.as_json else typer.echo("no job matches")
        return
    if asked.as_json:
        _print_json(bulk_record_of(answer))
    else:
        typer.echo(printable(f"{answer.id}: {answer.state.value}, {_counts(answer)}"))
    if answer.failed:
        raise typer.Exit(EXIT_FAILED)


def _print(*operations: BulkOperation) -> None:
    print_rows(
        ("id", "action", "state", "matched", "done", "skipped", "failed", "by", "reason", "filter"),
        [
            (
                str(each.id),
                each.action.value,
                each.state.value,
                str(each.matched),
                str(each.done),
                str(each.skipped),
                str(each.failed),
                printable(each.actor),
                printable(each.reason),
                printable(json.dumps(query_record_of(each.criteria), ensure_ascii=False)),
            )
            for each in operations
        ],
    )


def _print_json(answer: object) -> None:
    typer.echo(printable(json.dumps(answer, indent=2, ensure_ascii=False), keep="\n"))


def operator_of(actor: str | None, url: str | None) -> Operator:
    """Return who acts; an API knows by itself."""
    if actor is not None and url is not None:
        raise ConfigurationError("--actor: an API knows by the token who acts; leave it out")
    return Operator(actor=actor or getpass.getuser())


def _duration(option: str, text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if found is None:
        raise ConfigurationError(f"{option}: must be a number and a unit, as 90s, 30m, 2h or 7d")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def _instant(option: str, text: str) -> datetime:
    try:
        at = datetime.fromisoformat("1970-01-01T00:00:00Z" if text == "now" else text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ConfigurationError(f"{option}: must be now, or an instant as 2030-01-31T18:00:00Z")
    return at
