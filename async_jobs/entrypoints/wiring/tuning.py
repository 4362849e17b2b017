"""How schedulers and workers behave in time, as a configuration says."""

from __future__ import annotations

from async_jobs.application.settings import SchedulerSettings, WorkerSettings
from async_jobs.domain.limits import recorded_of
from async_jobs.entrypoints.settings.config import AsyncJobsConfig


def scheduler_settings(config: AsyncJobsConfig) -> SchedulerSettings:
    """Return a scheduler's."""
    return SchedulerSettings(
        interval_seconds=config.scheduler_interval_seconds,
        dispatch_timeout_seconds=config.dispatch_timeout_seconds,
        retention_seconds=config.retention_seconds,
        history_days=config.history_days,
        history_bytes_max=config.history_max_bytes,
    )


def worker_settings(config: AsyncJobsConfig) -> WorkerSettings:
    """Return a worker's."""
    return WorkerSettings(
        slots=config.worker_concurrency,
        poll_interval_seconds=config.worker_poll_interval_seconds,
        lease_seconds=config.lease_duration_seconds,
        job_timeout_seconds=config.job_timeout_seconds,
        drain_timeout_seconds=config.drain_timeout_seconds,
        suspect_wait_seconds=config.suspect_wait_seconds,
        unknown_type_max_seconds=config.unknown_type_max_seconds,
        snooze_max_seconds=config.snooze_max_seconds,
        recorded=recorded_of(config.use_case_configs),
    )
