"""What goes over the wire: each JSON body and each problem, written and read in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pydantic_core import to_jsonable_python

from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import (
    AsyncJobsError,
    AuthTokenError,
    BulkNotFoundError,
    ControlChanged,
    ControlNotFoundError,
    IllegalTransition,
    InvalidJobError,
    JobNotFoundError,
    QuotaExceededError,
    StoreRefused,
    Unavailable,
)
from async_jobs.domain.job import (
    AttemptError,
    Enqueued,
    EnqueueJobRequest,
    Job,
    JobPage,
    JobStatus,
    UnreadableJob,
)
from async_jobs.domain.outlook import Outlook

TOKEN_HEADER: Final = "X-Async-Jobs-Token"
PROBLEM_MEDIA_TYPE: Final = "application/problem+json"


class Problem(StrEnum):
    """The `type` of every problem document (RFC 9457). Stable: clients decide by them."""

    INVALID_JOB = "urn:async-jobs:problem:invalid-job"
    QUOTA_EXCEEDED = "urn:async-jobs:problem:quota-exceeded"
    JOB_NOT_FOUND = "urn:async-jobs:problem:job-not-found"
    CONTROL_NOT_FOUND = "urn:async-jobs:problem:control-not-found"
    BULK_NOT_FOUND = "urn:async-jobs:problem:bulk-not-found"
    CONTROL_CHANGED = "urn:async-jobs:problem:control-changed"
    ILLEGAL_TRANSITION = "urn:async-jobs:problem:illegal-transition"
    STORE_REFUSED = "urn:async-jobs:problem:store-refused"
    UNAUTHENTICATED = "urn:async-jobs:problem:unauthenticated"
    FORBIDDEN = "urn:async-jobs:problem:forbidden"
    BODY_TOO_SLOW = "urn:async-jobs:problem:body-too-slow"
    BODY_TOO_LARGE = "urn:async-jobs:problem:body-too-large"
    UNSUPPORTED_MEDIA_TYPE = "urn:async-jobs:problem:unsupported-media-type"
    UNAVAILABLE = "urn:async-jobs:problem:unavailable"
    NO_SUCH_ROUTE = "urn:async-jobs:problem:no-such-route"
    METHOD_NOT_ALLOWED = "urn:async-jobs:problem:method-not-allowed"
    INTERNAL_ERROR = "urn:async-jobs:problem:internal-error"


# --- requests -----------------------------------------------------------------------------------


def body_of(request: EnqueueJobRequest) -> dict[str, Any]:
    """Return a request as the JSON body of an enqueue; what it leaves open is left out."""
    backoff = request.backoff_policy
    tolerance = request.delay_tolerance
    optional = {
        "id": None if request.id is None else str(request.id),
        "queue": request.queue,
        "run_at": None if request.run_at is None else _written(request.run_at),
        "delay_tolerance_seconds": None if tolerance is None else tolerance.total_seconds(),
        "max_attempts": request.max_attempts,
        "backoff_policy": None if backoff is None else asdict(backoff),
        "dedupe_key": request.dedupe_key,
        "priority": request.priority or None,
        "headers": dict(request.headers) or None,
        "labels": dict(request.labels) or None,
    }
    return {
        "tenant_id": request.tenant_id,
        "use_case": request.use_case,
        "type": request.type,
        "payload": request.payload,
    } | {name: value for name, value in optional.items() if value is not None}


def _written(instant: datetime) -> str:
    """Return an instant in UTC: an offset may have seconds, which ISO 8601 cannot tell."""
    try:
        return instant.astimezone(UTC).isoformat()
    except OverflowError:  # the calendar's first and last days have no UTC
        return instant.isoformat()


# --- answers ------------------------------------------------------------------------------------


def record_of(job: Job) -> dict[str, Any]:
    """Return a job as JSON values: instants in ISO 8601 UTC, durations in seconds.

    Payload and result are the job's own, not copies: they may be large. `phase` says more than
    `status`: whether somebody executes what runs.
    """
    shown = {each.name: getattr(job, each.name) for each in fields(job)}
    asis = {name: shown.pop(name) for name in ("payload", "result")}
    tolerance = shown.pop("delay_tolerance")
    shown["backoff_policy"] = asdict(job.backoff_policy)
    shown["errors"] = [asdict(each) for each in job.errors]
    record: dict[str, Any] = to_jsonable_python(shown)
    seconds = tolerance.total_seconds()
    return record | asis | {"delay_tolerance_seconds": seconds, "phase": job.phase.value}


def job_of(record: Mapping[str, Any]) -> Job:
    """Return the job that `record_of` wrote; fields that this version does not know are ignored.

    Raises:
        KeyError, TypeError, ValueError: it is no such record.
    """
    return Job(
        id=UUID(record["id"]),
        tenant_id=record["tenant_id"],
        use_case=record["use_case"],
        type=record["type"],
        queue=record["queue"],
        status=JobStatus(record["status"]),
        payload=record["payload"],
        run_at=_instant(record["run_at"]),
        delay_tolerance=timedelta(seconds=record["delay_tolerance_seconds"]),
        deadline_at=_instant(record["deadline_at"]),
        priority=record["priority"],
        attempts=record["attempts"],
        max_attempts=record["max_attempts"],
        backoff_policy=_backoff(record["backoff_policy"]),
        lease_expires_at=_optional_instant(record["lease_expires_at"]),
        last_error=record["last_error"],
        dedupe_key=record["dedupe_key"],
        enqueue_failed=record["enqueue_failed"],
        created_at=_instant(record["created_at"]),
        updated_at=_instant(record["updated_at"]),
        lease_seq=record["lease_seq"],
        started_at=_optional_instant(record["started_at"]),
        worker_id=record["worker_id"],
        cancel_requested=record["cancel_requested"],
        dispatches=record["dispatches"],
        crashes=record["crashes"],
        finished_at=_optional_instant(record["finished_at"]),
        errors=tuple(
            AttemptError(attempt=each["attempt"], at=_instant(each["at"]), error=each["error"])
            for each in record["errors"]
        ),
        headers=dict(record["headers"]),
        labels=dict(record.get("labels", {})),
        result=record["result"],
        # Which servers of versions before do not tell.
        first_deadline_at=_optional_instant(record.get("first_deadline_at")),
        first_started_at=_optional_instant(record.get("first_started_at")),
    )


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _optional_instant(text: str | None) -> datetime | None:
    return None if text is None else _instant(text)


def _backoff(record: Mapping[str, Any]) -> BackoffPolicy:
    return BackoffPolicy(
        type=record["type"],
        base_delay_seconds=record["base_delay_seconds"],
        max_delay_seconds=record["max_delay_seconds"],
        jitter=record["jitter"],
    )


def answer_of(enqueued: Enqueued) -> dict[str, Any]:
    """Return the answer to an enqueue; only a duplicate says whether it is one."""
    answer: dict[str, Any] = {"job_id": str(enqueued.job_id)}
    return answer | {"duplicate": True} if enqueued.duplicate else answer


def enqueued_of(answer: Mapping[str, Any]) -> Enqueued:
    """Return what `answer_of` wrote."""
    return Enqueued(UUID(answer["job_id"]), bool(answer.get("duplicate", False)))


def page_record_of(page: JobPage) -> dict[str, Any]:
    """Return one page of jobs as JSON values; `unreadable` only where there are such rows."""
    cursor = page.next_cursor
    record: dict[str, Any] = {
        "jobs": [record_of(job) for job in page.jobs],
        "next_cursor": None if cursor is None else str(cursor),
    }
    unreadable = [unreadable_record_of(row) for row in page.unreadable]
    return record | {"unreadable": unreadable} if unreadable else record


def unreadable_record_of(row: UnreadableJob) -> dict[str, Any]:
    """Return what is known of a row that is no job any more, as JSON values."""
    return row._asdict() | {"id": str(row.id)}


def page_of(record: Mapping[str, Any]) -> JobPage:
    """Return what `page_record_of` wrote."""
    cursor = record["next_cursor"]
    jobs = tuple(job_of(each) for each in record["jobs"])
    unreadable = tuple(_unreadable_of(each) for each in record.get("unreadable", ()))
    return JobPage(jobs, None if cursor is None else UUID(cursor), unreadable)


def _unreadable_of(record: Mapping[str, Any]) -> UnreadableJob:
    return UnreadableJob(
        id=UUID(record["id"]),
        tenant_id=record["tenant_id"],
        use_case=record["use_case"],
        status=record["status"],
        problem=record["problem"],
    )


def outlook_record_of(outlook: Outlook) -> dict[str, Any]:
    """Return an outlook as JSON values; a rate that is infinite is null."""
    rate = outlook.required_rate
    return asdict(outlook) | {"required_rate": rate if math.isfinite(rate) else None}


def outlook_of(record: Mapping[str, Any]) -> Outlook:
    """Return what `outlook_record_of` wrote; fields that this version does not know are ignored.

    Raises:
        KeyError, TypeError, ValueError: it is no such record.
    """
    rate, start = record["required_rate"], record["expected_start_in_seconds"]
    return Outlook(
        ahead=int(record["ahead"]),
        required_rate=math.inf if rate is None else float(rate),
        capacity_rate=float(record["capacity_rate"]),
        expected_start_in_seconds=None if start is None else float(start),
        can_be_met=bool(record["can_be_met"]),
        at_least=bool(record["at_least"]),
    )


# --- problems -----------------------------------------------------------------------------------


def problem_of(error: AsyncJobsError) -> tuple[int, Problem, dict[str, Any]] | None:
    """Return the status, the type and the members of an error's own; None for one of no call."""
    match error:
        case InvalidJobError():
            return 422, Problem.INVALID_JOB, {"field": error.field, "problem": error.problem}
        case QuotaExceededError():
            members = ("tenant_id", "limit", "used", "asked")
            told = {name: getattr(error, name) for name in members}
            return 429, Problem.QUOTA_EXCEEDED, told
        case JobNotFoundError():
            told = {"unreadable": error.unreadable} if error.unreadable else {}
            return 404, Problem.JOB_NOT_FOUND, {"job_id": str(error.job_id)} | told
        case ControlNotFoundError():
            return 404, Problem.CONTROL_NOT_FOUND, {"id": str(error.id)}
        case BulkNotFoundError():
            return 404, Problem.BULK_NOT_FOUND, {"id": str(error.id)}
        case ControlChanged():
            told = {name: getattr(error, name) for name in ("version", "actor", "reason")}
            return 409, Problem.CONTROL_CHANGED, told
        case IllegalTransition():
            told = {name: getattr(error, name) for name in ("state", "event", "why")}
            return 409, Problem.ILLEGAL_TRANSITION, told
        case StoreRefused():
            return 409, Problem.STORE_REFUSED, {"refusal": error.refusal}
        case Unavailable():
            return 503, Problem.UNAVAILABLE, {}
    return None


def error_of(document: Mapping[str, Any]) -> AsyncJobsError | None:
    """Return the error that a problem document tells of; None for one that has no error here.

    Raises:
        KeyError, TypeError, ValueError: a member is missing or malformed.
    """
    match document.get("type"):
        case Problem.INVALID_JOB:
            return InvalidJobError(document["field"], document["problem"])
        case Problem.BODY_TOO_LARGE:
            return InvalidJobError("body", document["detail"])
        case Problem.QUOTA_EXCEEDED:
            return QuotaExceededError(
                tenant_id=document["tenant_id"],
                limit=document["limit"],
                used=document["used"],
                asked=document["asked"],
            )
        case Problem.JOB_NOT_FOUND:
            why = str(document.get("unreadable", ""))
            return JobNotFoundError(UUID(document["job_id"]), unreadable=why)
        case Problem.CONTROL_NOT_FOUND:
            return ControlNotFoundError(UUID(document["id"]))
        case Problem.BULK_NOT_FOUND:
            return BulkNotFoundError(UUID(document["id"]))
        case Problem.CONTROL_CHANGED:
            return ControlChanged(document["version"], document["actor"], document["reason"])
        case Problem.ILLEGAL_TRANSITION:
            return IllegalTransition(
                state=document["state"], event=document["event"], why=document["why"]
            )
        case Problem.STORE_REFUSED:
            return StoreRefused(document["detail"], document["refusal"])
        case Problem.UNAUTHENTICATED | Problem.FORBIDDEN:
            return AuthTokenError(document["detail"])
        case Problem.UNAVAILABLE:
            return Unavailable(document["detail"])
    return None
