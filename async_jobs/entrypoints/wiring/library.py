"""JobService as applications make it: `JobService(config, store)`, everything else chosen.

Without the container: an application that only enqueues would import all of the others' libraries.
"""

from __future__ import annotations

from collections.abc import Mapping

from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.statistics import PostgresStatistics
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.adapters.system import SystemChance, SystemClock
from async_jobs.application.own_loops import OwnLoops
from async_jobs.domain.limits import Limits
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.signal import Signal
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.store import JobStore
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.workers import Workers


class JobService(OwnLoops):
    """Enqueue jobs, look at them, cancel and retry them.

    Args:
        config: an `AsyncJobsConfig`, or anything with its `use_case_configs` and
            `per_tenant_quotas`; nothing else of it is used.
        store: a `PostgresJobStore`, a `MemoryJobStore`, or any other `JobStore`.
        clock: by default the database's time for a store on Postgres, else this host's.
        chance: by default the operating system's entropy.
        signal: by default NOTIFY for a store on Postgres, else none: polling finds the jobs.
        telemetry: by default none.
        statistics, workers: by default those beside a store on Postgres, else none; only
            `outlook` needs them.

    Raises:
        TypeError: `config` or `store` is something else.
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
        statistics: Statistics | None = None,
        workers: Workers | None = None,
    ) -> None:
        _check(config, store)
        own_clock, own_chance, own_signal = _ports_beside(store)
        if isinstance(store, PostgresJobStore):
            statistics = statistics or PostgresStatistics(store.pool)
            workers = workers or PostgresWorkers(store.pool)
        super().__init__(
            config,
            store,
            clock=clock or own_clock,
            chance=chance or own_chance,
            signal=signal or own_signal,
            telemetry=telemetry,
            statistics=statistics,
            workers=workers,
        )


def _check(config: object, store: object) -> None:
    """Say at once, by its parameter's name, what the first call would stumble over."""
    for field in ("use_case_configs", "per_tenant_quotas"):
        if not isinstance(getattr(config, field, None), Mapping):
            raise TypeError(
                f"config must be an AsyncJobsConfig, or have its {field} (a mapping by name);"
                f" it is a {type(config).__name__}"
            )
    if not callable(getattr(store, "add", None)):
        raise TypeError(
            f"store must be a JobStore, e.g. PostgresJobStore(pool); it is a {type(store).__name__}"
        )


def _ports_beside(store: JobStore) -> tuple[Clock, Chance, Signal | None]:
    """Return the clock, the chance and the signal that belong to a store made by itself."""
    host, chance = SystemClock(), SystemChance()
    if not isinstance(store, PostgresJobStore):
        return host, chance, None
    clock = PostgresClock(store.pool, host=host)
    return clock, chance, PostgresSignal(store.pool, clock=clock)
