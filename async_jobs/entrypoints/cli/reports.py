"""async-jobs attainment: which share of jobs started in time."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from async_jobs.adapters.http.answers import answer_record_of
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.tallies import Attained, Attainment, Dimension
from async_jobs.entrypoints.cli.asking import Where, ask_reports
from async_jobs.entrypoints.cli.jobs import AsJson, Dsn, Token, Url
from async_jobs.entrypoints.cli.options import LogLevelOption, reporting
from async_jobs.entrypoints.cli.output import print_rows
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.entrypoints.programs.terminal import printable
from async_jobs.host import SystemClock

_TIME: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_NOTHING: Final = (
    "nothing is known of that time; processes with ASYNC_JOBS_STATISTICS=true tell what they count"
)


def attainment(
    since: Annotated[
        str, typer.Option("--since", help="From when on: 90m, 24h or 7d ago, or an instant.")
    ] = "24h",
    until: Annotated[
        str | None, typer.Option("--until", help="Up to when, in the same way; else now.")
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", help="In steps of 5m, 1h, 1d …; else all as one.")
    ] = None,
    use_case: Annotated[
        str | None, typer.Option("--use-case", help="Only jobs of this use case.")
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", help="Only jobs of this tenant; repeatable.")
    ] = None,
    type: Annotated[str | None, typer.Option("--type", help="Only jobs of this type.")] = None,
    by: Annotated[
        list[Dimension] | None,
        typer.Option("--by", help="What to tell apart, the use case if nothing else; repeatable."),
    ] = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Tell which share of jobs started in time, and what became of them.

    Example: `async-jobs attainment --since 7d --step 1d --by use_case --by type`
    """
    with reporting(log_level):
        times = {
            "since": instant_of("since", since),
            "until": None if until is None else instant_of("until", until),
        }
        length = None if step is None else _duration("step", step)
    answer = ask_reports(
        Where(dsn, url, token),
        log_level,
        lambda reports: reports.attainment(
            **times,
            step=length,
            use_case=use_case,
            tenants=tenant or None,
            type=type,
            by=by or [Dimension.USE_CASE],
        ),
    )
    if as_json:
        record = json.dumps(answer_record_of(answer), indent=2, ensure_ascii=False)
        typer.echo(printable(record, keep="\n"))
    else:
        _print(answer)


def _duration(field: str, text: str) -> timedelta:
    found = _TIME.fullmatch(text)
    if found is None:
        raise InvalidJobError(f"--{field}", "must be a number and s, m, h or d, e.g. 90m")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def instant_of(field: str, text: str) -> datetime:
    """Return an instant that is written as such, or as how long ago it was."""
    if _TIME.fullmatch(text):
        return SystemClock().now() - _duration(field, text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidJobError(
            f"--{field}", "must be 90m, 24h or 7d, or an instant like 2030-01-31T18:00:00Z"
        )
    return at


def _print(answer: Attainment) -> None:
    if not answer.rows:
        typer.echo(_NOTHING, err=True)
        return
    apart = [each.value for each in answer.by]
    steps = [] if answer.step_seconds is None else ["starting"]
    print_rows(
        [
            *steps,
            *(name.removesuffix("_id").replace("_", " ") for name in apart),
            *("on time", "starts", "late", "unstarted", "p50", "p95"),
            *("enqueued", "succeeded", "dead", "cancelled", "expired"),
        ],
        [
            [
                *(f"{row.starting.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for _ in steps),
                *(printable(getattr(row, name) or "(others)") for name in apart),
                *_cells(row),
            ]
            for row in answer.rows
        ],
    )


def _cells(row: Attained) -> list[str]:
    counts = (row.on_time + row.late, row.late, row.unstarted)
    ends = (row.enqueued, row.succeeded, row.dead, row.cancelled, row.expired)
    return [
        "-" if row.attainment is None else f"{100 * row.attainment:.4g}%",
        *(f"{count:,}" for count in counts),
        *(
            "-" if used is None else f"{100 * used:.3g}%"
            for used in (row.tolerance_used_p50, row.tolerance_used_p95)
        ),
        *(f"{count:,}" for count in ends),
    ]
