"""From a request to a new job: bounds checked, defaults resolved."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from async_jobs.domain import bounds
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.deadline import deadline_of
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import EnqueueJobRequest, Job, JobStatus
from async_jobs.domain.limits import Limits, UseCaseConfig, queue_of


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
    use_case = bounds.check_name("use_case", request.use_case)
    config = limits.use_case_configs.get(use_case)
    if config is None:
        raise _unknown("use_case", use_case, limits.use_case_configs)
    if request.id is not None and not isinstance(request.id, UUID):
        raise InvalidJobError("id", "must be a UUID")
    run_at = _run_at(request.run_at, now)
    tolerance = (
        config.default_delay_tolerance
        if request.delay_tolerance is None
        else bounds.check_delay_tolerance(request.delay_tolerance)
    )
    return Job(
        id=request.id or id,
        tenant_id=bounds.check_name("tenant_id", request.tenant_id),
        use_case=use_case,
        type=bounds.check_name("type", request.type),
        queue=_queue(request.queue, use_case, config, limits),
        status=JobStatus.PENDING,
        payload=bounds.check_payload(request.payload),
        run_at=run_at,
        delay_tolerance=tolerance,
        deadline_at=deadline_of(run_at, tolerance),
        priority=bounds.check_priority(request.priority),
        attempts=0,
        max_attempts=(
            config.default_max_attempts
            if request.max_attempts is None
            else bounds.check_max_attempts(request.max_attempts)
        ),
        backoff_policy=_backoff(request.backoff_policy, config),
        lease_expires_at=None,
        last_error=None,
        dedupe_key=(
            None
            if request.dedupe_key is None
            else bounds.check_name("dedupe_key", request.dedupe_key)
        ),
        enqueue_failed=False,
        created_at=now,
        updated_at=now,
        headers=bounds.check_headers(request.headers),
    )


def _run_at(asked: datetime | None, now: datetime) -> datetime:
    if asked is None:
        return now
    run_at = bounds.check_instant("run_at", asked)
    if run_at > now + bounds.RUN_AT_AHEAD_MAX:
        days = bounds.RUN_AT_AHEAD_MAX.days
        raise InvalidJobError("run_at", f"must be no further than {days} days ahead")
    # A start in the past is due now; keeping the past instant would make every such job late.
    # Compared before it is converted: the calendar's first and last days have no UTC.
    return now if run_at <= now else run_at.astimezone(UTC)


def _queue(asked: str | None, use_case: str, config: UseCaseConfig, limits: Limits) -> str:
    if asked is None:
        return queue_of(use_case, config)
    queue = bounds.check_name("queue", asked)
    known = {queue_of(name, each) for name, each in limits.use_case_configs.items()}
    if queue not in known:
        raise _unknown("queue", queue, known)
    return queue


def _backoff(asked: BackoffPolicy | None, config: UseCaseConfig) -> BackoffPolicy:
    if asked is None:
        return config.default_backoff_policy
    if not isinstance(asked, BackoffPolicy):
        raise InvalidJobError("backoff_policy", "must be a BackoffPolicy")
    return asked


def _unknown(field: str, value: str, known: Collection[str]) -> InvalidJobError:
    names = ", ".join(sorted(known)) or "none"
    return InvalidJobError(field, f"{value!r} is not configured; known: {names}")
