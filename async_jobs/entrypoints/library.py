"""JobService as applications make it: `JobService(config, store)`, everything else chosen."""

from __future__ import annotations

from async_jobs.application import service
from async_jobs.domain.limits import Limits
from async_jobs.entrypoints.container import ports_beside
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.signal import Signal
from async_jobs.ports.store import JobStore
from async_jobs.ports.telemetry import Telemetry


class JobService(service.JobService):
    """Enqueue jobs, look at them, cancel and retry them.

    Args:
        config: an `AsyncJobsConfig`, or anything with its `use_case_configs` and
            `per_tenant_quotas`; nothing else of it is used.
        store: a `PostgresJobStore`, a `MemoryJobStore`, or any other `JobStore`.
        clock: by default the database's time for a store on Postgres, else this host's.
        chance: by default the operating system's entropy.
        signal: by default NOTIFY for a store on Postgres, else none: polling finds the jobs.
        telemetry: by default none.
    """

    def __init__(
        self,
        config: Limits,
        store: JobStore,
        *,
        clock: Clock | None = None,
        chance: Chance | None = None,
        signal: Signal | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        own_clock, own_chance, own_signal = ports_beside(store)
        super().__init__(
            config,
            store,
            clock=clock or own_clock,
            chance=chance or own_chance,
            signal=signal or own_signal,
            telemetry=telemetry,
        )
