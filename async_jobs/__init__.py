"""async_jobs: hand work in with how late it may start; it runs, earliest deadline first.

Names are loaded when they are first used, so that importing the package is quick and asks for
no extra that is not needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from async_jobs.version import __version__ as __version__

if TYPE_CHECKING:
    from async_jobs.adapters.http.blocking import JobsHttpClient
    from async_jobs.adapters.http.client import AsyncJobsHttpClient
    from async_jobs.adapters.memory.store import MemoryJobStore
    from async_jobs.adapters.postgres.migrate import get_ddl
    from async_jobs.adapters.postgres.store import PostgresJobStore
    from async_jobs.application.handling.job_logs import JobLogFilter
    from async_jobs.application.handling.outcomes import Reject, RetryAfter, Snooze
    from async_jobs.application.handling.registry import JobContext, JobRegistry, job_registry
    from async_jobs.domain.audit import Action, Operation, Operator
    from async_jobs.domain.backoff import BackoffPolicy, BackoffType
    from async_jobs.domain.bulk import Amendment, BulkAction, BulkOperation, BulkState
    from async_jobs.domain.controls import Control, Scope
    from async_jobs.domain.deadline import LatePolicy
    from async_jobs.domain.errors import (
        AsyncJobsError,
        AuthTokenError,
        BulkNotFoundError,
        ConfigurationError,
        ControlChanged,
        ControlNotFoundError,
        IllegalTransition,
        InvalidJobError,
        JobNotFoundError,
        QuotaExceededError,
        RemoteHttpError,
        StoreRefused,
        TenantBusy,
        Unavailable,
    )
    from async_jobs.domain.explain import (
        Estimate,
        Explanation,
        Finding,
        NextTurn,
        QueueStatus,
        StandingControl,
        Status,
        UseCaseStatus,
        Waiting,
        WaitingReason,
        Warned,
        Why,
    )
    from async_jobs.domain.filters import JobQuery, Span
    from async_jobs.domain.history import Outcome
    from async_jobs.domain.job import (
        AttemptError,
        Enqueued,
        EnqueueJobRequest,
        Job,
        JobPage,
        JobStatus,
    )
    from async_jobs.domain.limits import TenantQuota, UseCaseConfig
    from async_jobs.domain.presence import SchedulerInfo, WorkerInfo
    from async_jobs.domain.tallies import Attained, Attainment, Dimension
    from async_jobs.domain.timeline import JobHistory, Moment, TimelineEntry
    from async_jobs.entrypoints.dashboard.app import create_dashboard
    from async_jobs.entrypoints.http.operations import create_operations_router
    from async_jobs.entrypoints.http.routes import create_jobs_router
    from async_jobs.entrypoints.programs.loops import run_scheduler_loop, run_worker_loop
    from async_jobs.entrypoints.settings.config import AsyncJobsConfig
    from async_jobs.entrypoints.wiring.library import (
        JobService,
        OperationsService,
        ReportsService,
        SteeringService,
    )
    from async_jobs.ports.bulk_steering import BulkPreview, BulkRequest
    from async_jobs.ports.steering import ControlPreview, ControlRequest
    from async_jobs.ports.store import JobStore, Store

_WHERE = {
    "Action": "domain.audit",
    "Amendment": "domain.bulk",
    "AsyncJobsConfig": "entrypoints.settings.config",
    "AsyncJobsError": "domain.errors",
    "AsyncJobsHttpClient": "adapters.http.client",
    "Attained": "domain.tallies",
    "Attainment": "domain.tallies",
    "AttemptError": "domain.job",
    "AuthTokenError": "domain.errors",
    "BackoffPolicy": "domain.backoff",
    "BackoffType": "domain.backoff",
    "BulkAction": "domain.bulk",
    "BulkNotFoundError": "domain.errors",
    "BulkOperation": "domain.bulk",
    "BulkPreview": "ports.bulk_steering",
    "BulkRequest": "ports.bulk_steering",
    "BulkState": "domain.bulk",
    "ConfigurationError": "domain.errors",
    "Control": "domain.controls",
    "ControlChanged": "domain.errors",
    "ControlNotFoundError": "domain.errors",
    "ControlPreview": "ports.steering",
    "ControlRequest": "ports.steering",
    "Dimension": "domain.tallies",
    "EnqueueJobRequest": "domain.job",
    "Enqueued": "domain.job",
    "Estimate": "domain.explain",
    "Explanation": "domain.explain",
    "Finding": "domain.explain",
    "IllegalTransition": "domain.errors",
    "InvalidJobError": "domain.errors",
    "Job": "domain.job",
    "JobContext": "application.handling.registry",
    "JobHistory": "domain.timeline",
    "JobLogFilter": "application.handling.job_logs",
    "JobNotFoundError": "domain.errors",
    "JobPage": "domain.job",
    "JobQuery": "domain.filters",
    "JobRegistry": "application.handling.registry",
    "JobService": "entrypoints.wiring.library",
    "JobStatus": "domain.job",
    "JobStore": "ports.store",
    "JobsHttpClient": "adapters.http.blocking",
    "LatePolicy": "domain.deadline",
    "MemoryJobStore": "adapters.memory.store",
    "Moment": "domain.timeline",
    "NextTurn": "domain.explain",
    "Operation": "domain.audit",
    "OperationsService": "entrypoints.wiring.library",
    "Operator": "domain.audit",
    "Outcome": "domain.history",
    "PostgresJobStore": "adapters.postgres.store",
    "QueueStatus": "domain.explain",
    "QuotaExceededError": "domain.errors",
    "Reject": "application.handling.outcomes",
    "RemoteHttpError": "domain.errors",
    "ReportsService": "entrypoints.wiring.library",
    "RetryAfter": "application.handling.outcomes",
    "SchedulerInfo": "domain.presence",
    "Scope": "domain.controls",
    "Snooze": "application.handling.outcomes",
    "Span": "domain.filters",
    "StandingControl": "domain.explain",
    "Status": "domain.explain",
    "SteeringService": "entrypoints.wiring.library",
    "Store": "ports.store",
    "StoreRefused": "domain.errors",
    "TenantBusy": "domain.errors",
    "TenantQuota": "domain.limits",
    "TimelineEntry": "domain.timeline",
    "Unavailable": "domain.errors",
    "UseCaseConfig": "domain.limits",
    "UseCaseStatus": "domain.explain",
    "Waiting": "domain.explain",
    "WaitingReason": "domain.explain",
    "Warned": "domain.explain",
    "Why": "domain.explain",
    "WorkerInfo": "domain.presence",
    "create_jobs_router": "entrypoints.http.routes",
    "create_dashboard": "entrypoints.dashboard.app",
    "create_operations_router": "entrypoints.http.operations",
    "get_ddl": "adapters.postgres.migrate",
    "job_registry": "application.handling.registry",
    "run_scheduler_loop": "entrypoints.programs.loops",
    "run_worker_loop": "entrypoints.programs.loops",
}

_NEEDS = {
    "AsyncJobsHttpClient": "httpx",
    "JobsHttpClient": "httpx",
    "create_jobs_router": "fastapi",
    "create_dashboard": "jinja2",
    "create_operations_router": "fastapi",
}

__all__ = [
    "Action",
    "Amendment",
    "AsyncJobsConfig",
    "AsyncJobsError",
    "AsyncJobsHttpClient",
    "Attained",
    "Attainment",
    "AttemptError",
    "AuthTokenError",
    "BackoffPolicy",
    "BackoffType",
    "BulkAction",
    "BulkNotFoundError",
    "BulkOperation",
    "BulkPreview",
    "BulkRequest",
    "BulkState",
    "ConfigurationError",
    "Control",
    "ControlChanged",
    "ControlNotFoundError",
    "ControlPreview",
    "ControlRequest",
    "Dimension",
    "EnqueueJobRequest",
    "Enqueued",
    "Estimate",
    "Explanation",
    "Finding",
    "IllegalTransition",
    "InvalidJobError",
    "Job",
    "JobContext",
    "JobHistory",
    "JobLogFilter",
    "JobNotFoundError",
    "JobPage",
    "JobQuery",
    "JobRegistry",
    "JobService",
    "JobStatus",
    "JobStore",
    "JobsHttpClient",
    "LatePolicy",
    "MemoryJobStore",
    "Moment",
    "NextTurn",
    "Operation",
    "OperationsService",
    "Operator",
    "Outcome",
    "PostgresJobStore",
    "QueueStatus",
    "QuotaExceededError",
    "Reject",
    "RemoteHttpError",
    "ReportsService",
    "RetryAfter",
    "SchedulerInfo",
    "Scope",
    "Snooze",
    "Span",
    "StandingControl",
    "Status",
    "SteeringService",
    "Store",
    "StoreRefused",
    "TenantBusy",
    "TenantQuota",
    "TimelineEntry",
    "Unavailable",
    "UseCaseConfig",
    "UseCaseStatus",
    "Waiting",
    "WaitingReason",
    "Warned",
    "Why",
    "WorkerInfo",
    "create_dashboard",
    "create_jobs_router",
    "create_operations_router",
    "get_ddl",
    "job_registry",
    "run_scheduler_loop",
    "run_worker_loop",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _NEEDS:
        from async_jobs.extras import require

        require(f"{__name__}.{name}", _NEEDS[name])
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
