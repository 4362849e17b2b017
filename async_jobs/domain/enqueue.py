"""From a request to a new job: bounds checked, defaults resolved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from async_jobs.domain import bounds
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.deadline import deadline_of
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import EnqueueJobRequest, Job, JobStatus
from async_jobs.domain.limits import Limits, UseCaseConfig, queue_of

_NEVER_RUN: Mapping[str, object] = {
    "status": JobStatus.PENDING,
    "attempts": 0,
    "lease_expires_at": None,
    "last_error": None,
    "enqueue_failed": False,
    "lease_seq": 0,
    "started_at": None,
    "worker_id": None,
    "cancel_requested": False,
    "dispatches": 0,
    "crashes": 0,
    "finished_at": None,
    "errors": (),
    "result": None,
    "first_deadline_at": None,
    "first_started_at": None,
}
"""What a new job has of the fields that its life will change."""


def check_request(request: EnqueueJobRequest) -> None:
    """Check what can be checked without knowing the configuration and the time.

    Raises:
        InvalidJobError: a value breaks its bound.
        TypeError: it is no `EnqueueJobRequest`.
    """
    _check_is_request(request)
    bounds.check_name("tenant_id", request.tenant_id)
    bounds.check_name("use_case", request.use_case)
    bounds.check_name("type", request.type)
    if request.queue is not None:
        bounds.check_name("queue", request.queue)
    if request.id is not None and not isinstance(request.id, UUID):
        raise InvalidJobError("id", "must be a UUID")
    bounds.check_payload(request.payload)
    if request.run_at is not None:
        bounds.check_instant("run_at", request.run_at)
    if request.delay_tolerance is not None:
        bounds.check_delay_tolerance(request.delay_tolerance)
    if request.max_attempts is not None:
        bounds.check_max_attempts(request.max_attempts)
    backoff = request.backoff_policy
    if backoff is not None and not isinstance(backoff, BackoffPolicy):
        raise InvalidJobError("backoff_policy", "must be a BackoffPolicy")
    if request.dedupe_key is not None:
        bounds.check_name("dedupe_key", request.dedupe_key)
    bounds.check_priority(request.priority)
    bounds.check_headers(request.headers)
    bounds.check_labels(request.labels)


def _check_is_request(request: object) -> None:
    if not isinstance(request, EnqueueJobRequest):
        kind = type(request).__name__
        raise TypeError(f"a request must be an EnqueueJobRequest, not {kind}")


def new_job(request: EnqueueJobRequest, limits: Limits, *, now: datetime, id: UUID) -> Job:
    """Return the pending job that `request` asks for.

    Args:
        request: what the application asked.
        limits: the known use cases, whose settings fill what the request leaves open.
        now: the instant of the call.
        id: the job's id when the request brings none.

    Raises:
        InvalidJobError: a value breaks its bound, or the use case or queue is unknown.
    """
    check_request(request)
    config = limits.use_case_configs.get(request.use_case)
    if config is None:
        raise unknown_name("use_case", limits.use_case_configs)
    run_at = _run_at(request.run_at, now)
    tolerance = (
        config.default_delay_tolerance
        if request.delay_tolerance is None
        else request.delay_tolerance
    )
    max_attempts = request.max_attempts
    return Job.having(
        {
            **_NEVER_RUN,
            "id": request.id or id,
            "tenant_id": request.tenant_id,
            "use_case": request.use_case,
            "type": request.type,
            "queue": _queue(request.queue, request.use_case, config, limits),
            "payload": request.payload,
            "run_at": run_at,
            "delay_tolerance": tolerance,
            "deadline_at": deadline_of(run_at, tolerance),
            "priority": request.priority,
            "max_attempts": config.default_max_attempts if max_attempts is None else max_attempts,
            "backoff_policy": request.backoff_policy or config.default_backoff_policy,
            "dedupe_key": request.dedupe_key,
            "created_at": now,
            "updated_at": now,
            "headers": dict(request.headers),
            "labels": dict(request.labels),
        }
    )


def _run_at(asked: datetime | None, now: datetime) -> datetime:
    if asked is None:
        return now
    if asked > now + bounds.RUN_AT_AHEAD_MAX:
        days = bounds.RUN_AT_AHEAD_MAX.days
        raise InvalidJobError("run_at", f"must be no further than {days} days ahead")
    # A start in the past is due now; keeping the past instant would make every such job late.
    # Compared before it is converted: the calendar's first and last days have no UTC.
    return now if asked <= now else asked.astimezone(UTC)


def _queue(asked: str | None, use_case: str, config: UseCaseConfig, limits: Limits) -> str:
    if asked is None:
        return queue_of(use_case, config)
    known = {queue_of(name, each) for name, each in limits.use_case_configs.items()}
    if asked not in known:
        raise unknown_name("queue", known)
    return asked


NONE_KNOWN: Final = "none (set ASYNC_JOBS_USE_CASES, or in code use_case_configs)"


def unknown_name(field: str, known: Collection[str]) -> InvalidJobError:
    """Return the error of a name that nobody configured; it tells the known ones."""
    names = ", ".join(sorted(known)) or NONE_KNOWN
    return InvalidJobError(field, f"is not configured; known: {names}")
