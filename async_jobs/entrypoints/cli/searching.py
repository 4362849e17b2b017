"""async-jobs jobs search, and errors: jobs by any of their conditions, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from typing import Annotated, Any
from uuid import UUID

import typer

from async_jobs.adapters.http.answers import answer_record_of
from async_jobs.adapters.http.wire import record_of, unreadable_record_of
from async_jobs.domain.error_groups import ErrorGroup, ErrorGroups
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import FoundPage, JobQuery, query_of
from async_jobs.domain.job import JobStatus
from async_jobs.domain.outlook import Counted
from async_jobs.entrypoints.cli.asking import Where, ask_search
from async_jobs.entrypoints.cli.jobs import (
    AsJson,
    Dsn,
    Tenant,
    Token,
    Url,
    jobs_app,
    pairs_of,
    print_table,
)
from async_jobs.entrypoints.cli.options import LogLevelOption, reporting
from async_jobs.entrypoints.cli.output import print_rows
from async_jobs.entrypoints.cli.reports import instant_of
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.entrypoints.programs.terminal import printable

MESSAGE_CHARACTERS = 80
NO_RECORD = (
    "no attempt record tells of an error in that time; jobs that died without one are found by"
    " `async-jobs jobs search --status dead`"
)


UseCases = Annotated[list[str] | None, typer.Option("--use-case", help="Repeatable.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Repeatable.")]
Queues = Annotated[list[str] | None, typer.Option("--queue", help="Repeatable.")]
Statuses = Annotated[
    list[JobStatus] | None,
    typer.Option("--status", case_sensitive=False, help="Repeatable."),
]
JobIds = Annotated[list[UUID] | None, typer.Option("--id", help="Repeatable.")]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Created from then on: 90m, 24h or 7d ago, or an instant."),
]
Until = Annotated[str | None, typer.Option("--until", help="Created before that, in the same way.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="NAME=VALUE; repeatable.")]
DedupeKey = Annotated[str | None, typer.Option("--dedupe-key")]
TraceId = Annotated[str | None, typer.Option("--trace-id", help="32 hex digits.")]
Fingerprint = Annotated[
    str | None, typer.Option("--error-group", help="A fingerprint that `errors` tells.")
]
PayloadText = Annotated[
    str | None, typer.Option("--payload-text", help="Part of a key or value of the payload.")
]
ErrorText = Annotated[str | None, typer.Option("--error-text", help="Part of the last error.")]
Filter = Annotated[
    str, typer.Option("--filter", help="Further conditions, as the JSON of POST /jobs/search.")
]
Count = Annotated[bool, typer.Option("--count", help="Tell how many there are.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000)]
Cursor = Annotated[UUID | None, typer.Option("--cursor", help="Where the last ended.")]


@jobs_app.command("search")
def search(
    tenant: Tenant = None,
    use_case: UseCases = None,
    type_: Types = None,
    queue: Queues = None,
    status: Statuses = None,
    job_id: JobIds = None,
    since: Since = None,
    until: Until = None,
    label: Labels = None,
    dedupe_key: DedupeKey = None,
    trace_id: TraceId = None,
    error_group: Fingerprint = None,
    payload_text: PayloadText = None,
    error_text: ErrorText = None,
    filter_: Filter = "{}",
    count: Count = False,
    limit: Limit = 20,
    cursor: Cursor = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Find jobs that meet all conditions, newest first.

    Example: `async-jobs jobs search --status dead --type send_email --since 2h`
    """
    where = Where(dsn, url, token)
    with reporting(log_level):
        query = _query(
            filter_,
            tenant_id=tenant,
            use_cases=use_case,
            types=type_,
            queues=queue,
            statuses=[each.value for each in status or ()],
            ids=[str(each) for each in job_id or ()],
            labels=pairs_of("--label", label or ()),
            dedupe_key=dedupe_key,
            trace_id=trace_id,
            error_group=error_group,
            payload_text=payload_text,
            error_text=error_text,
        )
        sides = {"since": since, "until": until}
        given = {name: instant_of(name, text) for name, text in sides.items() if text is not None}
        query = replace(query, created=replace(query.created, **given))
    if count:
        _print_count(ask_search(where, log_level, lambda asked: asked.count(query)), as_json)
        return
    page = ask_search(
        where, log_level, lambda asked: asked.search(query, limit=limit, cursor=cursor)
    )
    if as_json:
        typer.echo(json.dumps(_page_record(page)))
    else:
        _print_page(page)


def _print_count(counted: Counted, as_json: bool) -> None:
    record = {"count": counted.jobs, "at_least": counted.at_least}
    words = f"{counted.jobs:,}{'+' if counted.at_least else ''}"
    typer.echo(json.dumps(record) if as_json else words)


def _print_page(page: FoundPage) -> None:
    print_table(page.jobs, page.unreadable)
    if not page.complete:
        back = page.looked_back_to
        told = (
            "" if back is None else f"looked back to {back.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC; "
        )
        typer.echo(f"{told}more: --cursor {page.next_cursor}")


def _query(text: str, **flags: Any) -> JobQuery:
    """Return the query of the JSON and the flags; a flag says what the JSON leaves out."""
    try:
        record = json.loads(text)
    except ValueError as error:
        raise InvalidJobError("--filter", f"must be a JSON object: {error}") from None
    if not isinstance(record, dict):
        raise InvalidJobError("--filter", "must be a JSON object")
    given = {name: value for name, value in flags.items() if value}
    twice = sorted(given.keys() & record.keys())
    if twice:
        raise InvalidJobError("--filter", f"has {', '.join(twice)}, which an option says, too")
    return query_of(record | given)


def _page_record(page: FoundPage) -> dict[str, Any]:
    back = page.looked_back_to
    record: dict[str, Any] = {
        "jobs": [record_of(job) for job in page.jobs],
        "next_cursor": None if page.next_cursor is None else str(page.next_cursor),
        "complete": page.complete,
        "looked_back_to": None if back is None else back.isoformat(),
    }
    if page.unreadable:
        record["unreadable"] = [unreadable_record_of(row) for row in page.unreadable]
    return record


def errors(
    since: Annotated[
        str, typer.Option("--since", help="From when on: 90m, 24h or 7d ago, or an instant.")
    ] = "24h",
    until: Annotated[
        str | None, typer.Option("--until", help="Up to when, in the same way; else now.")
    ] = None,
    tenant: Tenant = None,
    use_case: Annotated[str | None, typer.Option("--use-case")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 20,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Tell what goes wrong, by cause, what happened most often first.

    Example: `async-jobs errors --since 2h`, then `async-jobs jobs search --error-group …`
    """
    with reporting(log_level):
        from_, to = (
            instant_of("since", since),
            None if until is None else instant_of("until", until),
        )
    groups = ask_search(
        Where(dsn, url, token),
        log_level,
        lambda asked: asked.errors(
            since=from_, until=to, tenant_id=tenant, use_case=use_case, limit=limit
        ),
    )
    if as_json:
        record = json.dumps(answer_record_of(groups), indent=2, ensure_ascii=False)
        typer.echo(printable(record, keep="\n"))
        return
    _print(groups)


def _print(groups: ErrorGroups) -> None:
    headings = ("error group", "count", "use case", "type", "first seen", "last seen", "error")
    if groups.groups:
        print_rows(headings, [_cells(each) for each in groups.groups])
    else:
        typer.echo(NO_RECORD, err=True)
    if groups.more:
        typer.echo("more: there are further groups; --limit tells more of them")
    if groups.looked_back_to is not None:
        typer.echo(f"looked back to {groups.looked_back_to.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")


def _cells(group: ErrorGroup) -> Sequence[str]:
    seen = (group.first_seen, group.last_seen)
    return (
        group.fingerprint,
        f"{group.count:,}",
        printable(group.use_case),
        printable(group.type),
        *(f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for at in seen),
        printable(group.message.partition("\n")[0][:MESSAGE_CHARACTERS]),
    )
