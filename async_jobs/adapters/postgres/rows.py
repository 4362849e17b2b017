"""Between rows and jobs. Writing is by column, because statements take arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import asyncpg
from pydantic_core import from_json, to_json

from async_jobs.adapters.postgres.columns import CANDIDATE, NEW, SAVED
from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.job import AttemptError, Job, JobStatus, JsonValue, Phase, UnreadableJob
from async_jobs.domain.lifecycle import Change, Claimed
from async_jobs.domain.scheduling import Candidate
from async_jobs.domain.unreadable import aside

READY = 0
UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading a row raises that is no job any more."""
_STATUSES = {status.value: status for status in JobStatus}


def jobs_of(
    rows: Sequence[asyncpg.Record],
    unreadable: Callable[[UnreadableJob], object],
    *,
    known: Mapping[str, object] | None = None,
) -> Iterator[Job]:
    """Yield the jobs of the rows; a row that is no job is reported and left out.

    `known` stands for the columns that a claim leaves out of its answer (`claimed_fields`).
    """
    for row in rows:
        try:
            yield Job.having(
                {**_beside_its_lease(row), **(_of_a_lease(row) if known is None else known)}
            )
        except UNREADABLE as error:
            unreadable(_unreadable(row, error))


def _unreadable(row: asyncpg.Record, error: BaseException) -> UnreadableJob:
    return UnreadableJob(
        id=row["id"],
        tenant_id=row["tenant_id"],
        use_case=row["use_case"],
        status=row.get("status", JobStatus.RUNNING.value),  # a claim's answer leaves it out
        problem=_problem(row) or type(error).__name__,
    )


def _problem(row: asyncpg.Record) -> str | None:
    """Tell which columns cannot be read, and what each has to hold; nothing of what it holds."""
    problems = []
    for column, (read, expected) in _CHECKS.items():
        value = row.get(column)
        try:
            if value is not None:
                read(value)
        except UNREADABLE as error:
            problems.append(f"{column} must be {expected} ({type(error).__name__})")
    return "; ".join(problems) or None


def claimed_fields(claimed: Claimed, now: datetime) -> Mapping[str, object]:
    """Return what all jobs of a claim have in common: `advance` gives them these values."""
    return {
        "status": JobStatus.RUNNING,
        "lease_expires_at": claimed.until,
        "updated_at": now,
        "started_at": now,
        "worker_id": claimed.worker_id,
        "cancel_requested": False,
        "dispatches": 0,
    }


def _of_a_lease(row: asyncpg.Record) -> Mapping[str, object]:
    return {
        "status": _STATUSES[row["status"]],
        "lease_expires_at": row["lease_expires_at"],
        "updated_at": row["updated_at"],
        "started_at": row["started_at"],
        "worker_id": row["worker_id"],
        "cancel_requested": row["cancel_requested"],
        "dispatches": row["dispatches"],
    }


def _beside_its_lease(row: asyncpg.Record) -> dict[str, object]:
    headers, errors, result = row["headers"], row["errors"], row["result"]
    labels = row["labels"]
    return {
        "id": row["id"],
        "tenant_id": row["tenant_id"],
        "use_case": row["use_case"],
        "type": row["type"],
        "queue": row["queue"],
        "payload": _object(row["payload"]),
        "run_at": row["run_at"],
        "delay_tolerance": row["delay_tolerance"],
        "deadline_at": row["deadline_at"],
        "priority": row["priority"],
        "attempts": row["attempts"],
        "max_attempts": row["max_attempts"],
        "backoff_policy": _backoff(row["backoff_policy"]),
        "last_error": row["last_error"],
        "dedupe_key": row["dedupe_key"],
        "enqueue_failed": row["enqueue_failed"],
        "created_at": row["created_at"],
        "lease_seq": row["lease_seq"],
        "crashes": row["crashes"],
        "finished_at": row["finished_at"],
        "errors": () if errors is None else _errors(errors),
        "headers": {} if headers is None else _object(headers),
        "result": None if result is None else decoded(result),
        "first_deadline_at": row["first_deadline_at"],
        "first_started_at": row["first_started_at"],
        "labels": {} if labels is None else _object(labels),
    }


def candidates_of(rows: Sequence[asyncpg.Record]) -> list[Candidate]:
    """Return what the scheduling policy needs of the rows, whose last columns are `CANDIDATE`."""
    first = -len(CANDIDATE)
    return [Candidate._make((*row[first:], True)) for row in rows]


def new_values(job: Job) -> Sequence[Any]:
    """Return the arguments of `add_job`."""
    return [value_of(job) for value_of in _NEW]


def new_columns(jobs: Sequence[Job]) -> Sequence[Sequence[Any]]:
    """Return the arguments of `add_jobs`."""
    ids, *columns = ([*map(value_of, jobs)] for value_of in _NEW)
    return [ids, *map(_shared, columns)]


def _shared(column: list[Any]) -> list[Any]:
    """Return the first value alone if it is that of all: an array costs by its length."""
    first = column[0]
    are_equal = first == column[-1] and column.count(first) == len(column)
    return column[:1] if are_equal else column


_STATUS_OF_PHASE: Mapping[Phase, str] = {
    Phase.HANDED_OFF: "running",
    Phase.CLAIMED: "running",
    Phase.CANCELLING: "running",
}


def save_columns(changes: Sequence[Change]) -> tuple[list[Any], ...]:
    """Return the arguments of `save_jobs`."""
    fences = [change.fence for change in changes]
    jobs = [change.job for change in changes]
    return (
        [job.id for job in jobs],
        [fence.lease_seq for fence in fences],
        [_STATUS_OF_PHASE.get(fence.phase, fence.phase.value) for fence in fences],
        [fence.phase in (Phase.CLAIMED, Phase.CANCELLING) for fence in fences],
        [_flagged(fence.phase) for fence in fences],
        [fence.lease_expires_at for fence in fences],
        [fence.worker_id for fence in fences],
        *([*map(value_of, jobs)] for value_of in _SAVED),
    )


def aside_columns(
    rows: Sequence[asyncpg.Record], now: datetime, until: datetime
) -> tuple[Any, ...]:
    """Return the arguments of `set_aside` for rows that cannot be read."""
    ordered = sorted(rows, key=lambda row: row["id"])
    claimed = [row["started_at"] is not None for row in ordered]
    after = [
        aside(
            claimed=is_claimed,
            attempts=row["attempts"],
            max_attempts=row["max_attempts"],
            crashes=row["crashes"],
            dispatches=row["dispatches"],
            delay_tolerance=row["delay_tolerance"],
            until=until,
        )
        for row, is_claimed in zip(ordered, claimed, strict=True)
    ]
    return (
        now,
        until,
        [row["id"] for row in ordered],
        [row["lease_seq"] for row in ordered],
        [row["lease_expires_at"] for row in ordered],
        claimed,
        [each.attempts for each in after],
        [each.dispatches for each in after],
        [each.deadline_at for each in after],
        [each.crashes for each in after],
    )


def _flagged(phase: Phase) -> bool | None:
    if phase in (Phase.CLAIMED, Phase.CANCELLING):
        return phase is Phase.CANCELLING
    return None


def _lane(job: Job) -> int | None:
    """Return which ready index a job belongs in: due ones at once, others once promoted."""
    due = job.status is JobStatus.PENDING and job.run_at <= job.updated_at
    return READY if due else None


def encoded(value: JsonValue | Mapping[str, object]) -> str:
    """Return a value as the text of a JSON column."""
    return to_json(value).decode()


# JSON can write numbers that no float holds; its reader makes infinity of them and says nothing.
# Such text has an exponent of three digits, or two hundred digits in a row, of which every
# twentieth character shows ten. Little else has either, so that few values are looked through.
_EXPONENTS: Final = (re.compile(r"e(?<=[0-9]e)\+?[0-9]{3}"), re.compile(r"E(?<=[0-9]E)\+?[0-9]{3}"))
_DIGITS: Final = re.compile(r"[0-9]{10}")


def _may_be_infinite(text: str) -> bool:
    # To look for a letter costs a tenth of what an expression does.
    return (
        ("e" in text and _EXPONENTS[0].search(text) is not None)
        or ("E" in text and _EXPONENTS[1].search(text) is not None)
        or (len(text) >= 200 and _DIGITS.search(text[::20]) is not None)
    )


def decoded(text: str) -> Any:
    """Return the value of a JSON column.

    Raises:
        ValueError: the text is none that `encoded` returns, or holds a number that is not finite.
    """
    # What strings repeat are the names of fields.
    value = from_json(text, cache_strings="keys")
    if _may_be_infinite(text):
        json.dumps(value, allow_nan=False)  # raises for a number that is not finite
    return value


def _object(text: str) -> dict[str, Any]:
    value = decoded(text)
    if type(value) is not dict:
        raise TypeError("no object")
    return value


# What a row leaves out of its policy. Rows rely on it: it stays as it is, even if the domain's
# defaults change.
_LEFT_OUT: Final[Mapping[str, Any]] = {
    "type": "exponential",
    "base_delay_seconds": 60.0,
    "max_delay_seconds": 3600.0,
    "jitter": 0.0,
}


@lru_cache(maxsize=1_024)
def _backoff_json(policy: BackoffPolicy) -> str:
    fields = {
        "type": policy.type.value,
        "base_delay_seconds": policy.base_delay_seconds,
        "max_delay_seconds": policy.max_delay_seconds,
        "jitter": policy.jitter,
    }
    return encoded({name: each for name, each in fields.items() if each != _LEFT_OUT[name]})


@lru_cache(maxsize=1_024)
def _backoff(text: str) -> BackoffPolicy:
    fields = {**_LEFT_OUT, **decoded(text)}
    return BackoffPolicy(
        type=BackoffType(fields["type"]),
        base_delay_seconds=fields["base_delay_seconds"],
        max_delay_seconds=fields["max_delay_seconds"],
        jitter=fields["jitter"],
    )


def _errors_json(errors: Sequence[AttemptError]) -> str:
    return encoded(
        [{"attempt": e.attempt, "at": e.at.isoformat(), "error": e.error} for e in errors]
    )


def _errors(text: str) -> tuple[AttemptError, ...]:
    return tuple(
        AttemptError(
            attempt=each["attempt"], at=datetime.fromisoformat(each["at"]), error=each["error"]
        )
        for each in decoded(text)
    )


# What is not written as it is. A job that has no errors, headers or labels has NULL there.
_WRITTEN: Final[Mapping[str, Callable[[Job], Any]]] = {
    "status": attrgetter("status._value_"),
    "payload": lambda job: encoded(job.payload),
    "backoff_policy": lambda job: _backoff_json(job.backoff_policy),
    "headers": lambda job: encoded(dict(job.headers)) if job.headers else None,
    "labels": lambda job: encoded(dict(job.labels)) if job.labels else None,
    "errors": lambda job: _errors_json(job.errors) if job.errors else None,
    "result": lambda job: None if job.result is None else encoded(job.result),
    "lane": _lane,
}
_NEW, _SAVED = (
    [_WRITTEN.get(name) or attrgetter(name) for name in columns] for columns in (NEW, SAVED)
)

# The columns whose content the table's own types and constraints do not vouch for.
_CHECKS: Final[Mapping[str, tuple[Callable[[str], object], str]]] = {
    "status": (_STATUSES.__getitem__, f"one of {', '.join(_STATUSES)}"),
    "payload": (_object, "a JSON object of finite numbers"),
    "headers": (_object, "a JSON object"),
    "labels": (_object, "a JSON object"),
    "backoff_policy": (
        _backoff,
        f"a JSON object with a type of {', '.join(BackoffType)}, and its delays and jitter",
    ),
    "errors": (_errors, "a JSON array of objects with attempt, at and error"),
    "result": (decoded, "JSON of a few hundred levels at most and of finite numbers"),
}
