"""Valid things with one line, and only what a test is about spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from async_jobs.domain.audit import Action, Operation, described
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.bulk import BulkAction, BulkOperation
from async_jobs.domain.controls import Control, Scope
from async_jobs.domain.facts import Fact
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.job import EnqueueJobRequest, HandOff, Job, JobStatus
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.presence import SchedulerInfo, WorkerInfo
from async_jobs.domain.readings import Reading
from async_jobs.domain.scheduling import Candidate
from async_jobs.testing.clocks import NOW, ManualChance

AnyFact = TypeVar("AnyFact", bound=Fact)

# A seed of its own, so that these ids never meet those of a test's ManualChance().
_chance = ManualChance(seed=0xB01DE5)


def later(seconds: float = 1.0) -> datetime:
    """Return an instant so many seconds after `NOW`; before it when negative."""
    return NOW + timedelta(seconds=seconds)


def an_id(at: datetime = NOW) -> UUID:
    """Return a new id, greater than all before it when the instants do not go back."""
    return _chance.uuid(at)


def a_job(**overrides: Any) -> Job:
    """Return a valid pending job, due when it was created unless `run_at` says otherwise.

    `deadline_at` follows from `run_at` and `delay_tolerance`; given itself, it decides the
    tolerance. The id follows `created_at`, so later jobs have greater ids.
    """
    created_at = overrides.get("created_at", NOW)
    run_at = overrides.get("run_at", created_at)
    use_case = overrides.get("use_case", "notifications")
    tolerance = overrides.get("delay_tolerance", timedelta(seconds=60))
    if "deadline_at" in overrides:
        tolerance = overrides["deadline_at"] - run_at
    defaults: dict[str, Any] = {
        "id": an_id(created_at),
        "tenant_id": "acme",
        "use_case": use_case,
        "type": "send_email",
        "queue": use_case,
        "status": JobStatus.PENDING,
        "payload": {"to": "somebody@example.com"},
        "run_at": run_at,
        "delay_tolerance": tolerance,
        "deadline_at": run_at + tolerance,
        "priority": 0,
        "attempts": 0,
        "max_attempts": 5,
        "backoff_policy": BackoffPolicy(),
        "lease_expires_at": None,
        "last_error": None,
        "dedupe_key": None,
        "enqueue_failed": False,
        "created_at": created_at,
        "updated_at": created_at,
    }
    return Job(**(defaults | overrides))


def a_request(**overrides: Any) -> EnqueueJobRequest:
    """Return a valid request."""
    defaults: dict[str, Any] = {
        "tenant_id": "acme",
        "use_case": "notifications",
        "type": "send_email",
        "payload": {"to": "somebody@example.com"},
    }
    return EnqueueJobRequest(**(defaults | overrides))


def a_use_case(**overrides: Any) -> UseCaseConfig:
    """Return the settings of a use case: ten at once, a minute of tolerance."""
    return UseCaseConfig(**overrides)


def a_quota(**overrides: Any) -> TenantQuota:
    """Return a tenant's quota: unlimited, of weight 1."""
    return TenantQuota(**overrides)


def a_handoff(**overrides: Any) -> HandOff:
    """Return a hand-off of some job's first lease."""
    defaults: dict[str, Any] = {"job_id": an_id(), "lease_seq": 1, "tenant_id": "acme"}
    return HandOff(**(defaults | overrides))


def a_worker(**overrides: Any) -> WorkerInfo:
    """Return a worker that announced itself at `NOW` and counts as alive for a minute."""
    defaults: dict[str, Any] = {
        "worker_id": str(an_id()),
        "queues": ("notifications",),
        "slots": 10,
        "busy": 0,
        "host": "localhost",
        "version": "0.0.0",
        "seen_at": NOW,
        "alive_until": later(60),
    }
    return WorkerInfo(**(defaults | overrides))


def a_scheduler(**overrides: Any) -> SchedulerInfo:
    """Return a scheduler that ticked at `NOW` and counts as alive for a minute."""
    defaults: dict[str, Any] = {
        "scheduler_id": str(an_id()),
        "host": "localhost",
        "version": "0.0.0",
        "ticked_at": NOW,
        "tick_seconds": 0.01,
        "alive_until": later(60),
    }
    return SchedulerInfo(**(defaults | overrides))


def candidate_of(job: Job) -> Candidate:
    """Return what `heads` shows of a pending job that is due."""
    return Candidate(
        id=job.id,
        tenant_id=job.tenant_id,
        queue=job.queue,
        priority=job.priority,
        deadline_at=job.deadline_at,
        lease_seq=job.lease_seq,
        tolerance_seconds=job.delay_tolerance.total_seconds(),
        type=job.type,
    )


@dataclass(frozen=True, slots=True)
class SimpleLimits:
    """Implements `Limits` by two mappings."""

    use_case_configs: Mapping[str, UseCaseConfig] = field(
        default_factory=lambda: {"notifications": UseCaseConfig()}
    )
    per_tenant_quotas: Mapping[str, TenantQuota] = field(default_factory=dict)


class RecordingTelemetry:
    """Implements `Telemetry`: keeps every fact, in order.

    Args:
        readings: whether it wants what is told for metrics alone, too.
    """

    def __init__(self, *, readings: bool = False) -> None:
        self.facts: list[Fact] = []
        self._readings = readings

    def wants(self, kind: type[Fact]) -> bool:
        """See `Telemetry`."""
        return self._readings or not issubclass(kind, Reading)

    def record(self, fact: Fact) -> None:
        """See `Telemetry`."""
        self.facts.append(fact)

    def of(self, kind: type[AnyFact]) -> list[AnyFact]:
        """Return the facts of one kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]


class UnreadableRows:
    """What a store reported of rows that are no jobs any more; pass it as `unreadable`."""

    def __init__(self) -> None:
        self.ids: list[UUID | None] = []
        self.problems: list[str] = []

    def __call__(self, job_id: UUID | None, problem: str) -> None:
        """Take a report."""
        self.ids.append(job_id)
        self.problems.append(problem)


def a_control(**overrides: Any) -> Control:
    """Return a pause of a use case that was ordered at `NOW`, and is not stored yet."""
    defaults: dict[str, Any] = {
        "id": an_id(),
        "scope": Scope(use_case="notifications"),
        "limits": None,
        "actor": "ada",
        "reason": "the provider is down",
        "since": NOW,
    }
    return Control(**(defaults | overrides))


def a_bulk_operation(action: BulkAction = BulkAction.RETRY, **overrides: Any) -> BulkOperation:
    """Return a bulk operation that begins at `NOW`, over all jobs, and is not stored yet."""
    at = overrides.get("created_at", NOW)
    defaults: dict[str, Any] = {
        "id": an_id(at),
        "action": action,
        "criteria": JobQuery(),
        "maximum": 1_000,
        "matched": 10,
        "actor": "ada",
        "address": "127.0.0.1",
        "reason": "the provider is back",
        "created_at": at,
        "due_at": at,
    }
    return BulkOperation(**(defaults | overrides))


def an_audit(bulk: BulkOperation, action: Action = Action.BULK, **overrides: Any) -> Operation:
    """Return what is written of a bulk operation when it begins."""
    at = overrides.get("at", bulk.created_at)
    defaults: dict[str, Any] = {
        "id": an_id(at),
        "at": at,
        "actor": bulk.actor,
        "address": bulk.address,
        "action": action,
        "control_id": bulk.id,
        "scope": Scope(tenant_id=bulk.criteria.tenant_id),
        "reason": bulk.reason,
        "before": None,
        "after": {"action": bulk.action.value},
    }
    return Operation(**(defaults | overrides))


def an_operation(control: Control, **overrides: Any) -> Operation:
    """Return what is written of a control that is put in a place where there was none."""
    at = overrides.get("at", control.since)
    defaults: dict[str, Any] = {
        "id": an_id(at),
        "at": at,
        "actor": control.actor,
        "address": "127.0.0.1",
        "action": Action.PAUSE if control.is_pause else Action.LIMIT,
        "control_id": control.id,
        "scope": control.scope,
        "reason": control.reason,
        "before": None,
        "after": described(control),
    }
    return Operation(**(defaults | overrides))
