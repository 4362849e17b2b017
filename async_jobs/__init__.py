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
    from async_jobs.application.handling.outcomes import Reject, RetryAfter, Snooze
    from async_jobs.application.handling.registry import JobContext, JobRegistry, job_registry
    from async_jobs.domain.backoff import BackoffPolicy
    from async_jobs.domain.deadline import LatePolicy
    from async_jobs.domain.errors import (
        AsyncJobsError,
        AuthTokenError,
        ConfigurationError,
        IllegalTransition,
        InvalidJobError,
        JobNotFoundError,
        QuotaExceededError,
        RemoteHttpError,
        StoreRefused,
        TenantBusy,
        Unavailable,
    )
    from async_jobs.domain.job import Enqueued, EnqueueJobRequest, Job, JobStatus
    from async_jobs.domain.limits import TenantQuota, UseCaseConfig
    from async_jobs.entrypoints.http.operations import create_operations_router
    from async_jobs.entrypoints.http.routes import create_jobs_router
    from async_jobs.entrypoints.programs.loops import run_scheduler_loop, run_worker_loop
    from async_jobs.entrypoints.settings.config import AsyncJobsConfig
    from async_jobs.entrypoints.wiring.library import JobService, OperationsService, ReportsService
    from async_jobs.ports.store import JobStore, Store

_WHERE = {
    "AsyncJobsConfig": "entrypoints.settings.config",
    "AsyncJobsError": "domain.errors",
    "AsyncJobsHttpClient": "adapters.http.client",
    "AuthTokenError": "domain.errors",
    "BackoffPolicy": "domain.backoff",
    "ConfigurationError": "domain.errors",
    "EnqueueJobRequest": "domain.job",
    "Enqueued": "domain.job",
    "IllegalTransition": "domain.errors",
    "InvalidJobError": "domain.errors",
    "Job": "domain.job",
    "JobContext": "application.handling.registry",
    "JobNotFoundError": "domain.errors",
    "JobRegistry": "application.handling.registry",
    "JobService": "entrypoints.wiring.library",
    "JobStatus": "domain.job",
    "JobStore": "ports.store",
    "Store": "ports.store",
    "JobsHttpClient": "adapters.http.blocking",
    "LatePolicy": "domain.deadline",
    "MemoryJobStore": "adapters.memory.store",
    "OperationsService": "entrypoints.wiring.library",
    "PostgresJobStore": "adapters.postgres.store",
    "QuotaExceededError": "domain.errors",
    "Reject": "application.handling.outcomes",
    "RemoteHttpError": "domain.errors",
    "ReportsService": "entrypoints.wiring.library",
    "RetryAfter": "application.handling.outcomes",
    "Snooze": "application.handling.outcomes",
    "TenantQuota": "domain.limits",
    "StoreRefused": "domain.errors",
    "TenantBusy": "domain.errors",
    "Unavailable": "domain.errors",
    "UseCaseConfig": "domain.limits",
    "create_jobs_router": "entrypoints.http.routes",
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
    "create_operations_router": "fastapi",
}

__all__ = [
    "AsyncJobsConfig",
    "AsyncJobsError",
    "AsyncJobsHttpClient",
    "AuthTokenError",
    "BackoffPolicy",
    "ConfigurationError",
    "EnqueueJobRequest",
    "Enqueued",
    "IllegalTransition",
    "InvalidJobError",
    "Job",
    "JobContext",
    "JobNotFoundError",
    "JobRegistry",
    "JobService",
    "JobStatus",
    "JobStore",
    "JobsHttpClient",
    "LatePolicy",
    "MemoryJobStore",
    "OperationsService",
    "PostgresJobStore",
    "QuotaExceededError",
    "Reject",
    "RemoteHttpError",
    "ReportsService",
    "RetryAfter",
    "Snooze",
    "Store",
    "StoreRefused",
    "TenantBusy",
    "TenantQuota",
    "Unavailable",
    "UseCaseConfig",
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
