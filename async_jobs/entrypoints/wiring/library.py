"""JobService as applications make it: `JobService(config, store)`, everything else chosen.

Without the container: an application that only enqueues would import all of the others' libraries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from async_jobs.adapters.postgres.checkpoints import PostgresCheckpoints
from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.controls import PostgresControls
from async_jobs.adapters.postgres.history import PostgresHistory
from async_jobs.adapters.postgres.overview import PostgresOverview
from async_jobs.adapters.postgres.schedulers import PostgresSchedulers
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.statistics import PostgresStatistics
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.tallies import PostgresTallies
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.application.operating import operations, reporting, steering
from async_jobs.application.own_loops import OwnLoops
from async_jobs.domain.errors import ConfigurationError
from async_jobs.domain.limits import Limits
from async_jobs.host import SystemChance, SystemClock
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.controls import Controls
from async_jobs.ports.signal import Signal
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.store import Store
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.ports.workers import Workers


class JobService(OwnLoops):
    """Enqueue jobs, look at them, cancel and retry them.

    Args:
        config: an `AsyncJobsConfig`, or anything with its `use_case_configs` and
            `per_tenant_quotas`. Of the rest only `db_schema` is looked at, if it has one: a store
            on Postgres has to be for the same.
        store: a `PostgresJobStore`, a `MemoryJobStore`, or any other `Store`.
        clock: by default the database's time for a store on Postgres, else this host's.
        chance: by default the operating system's entropy.
        signal: by default NOTIFY for a store on Postgres, else none: polling finds the jobs.
        telemetry: by default none.
        statistics, workers: by default those beside a store on Postgres, else none; only
            `outlook` needs them.
        controls: what operators ordered; by default that beside a store on Postgres, else nothing.
        tracing: surrounds what enqueues with spans; by default nothing does.

    Raises:
        TypeError: `config` or `store` is something else.
        ConfigurationError: `config` names another schema than the store's.
    """

    def __init__(
        self,
        config: Limits,
        store: Store,
        *,
        clock: Clock | None = None,
        chance: Chance | None = None,
        signal: Signal | None = None,
        telemetry: Telemetry | None = None,
        statistics: Statistics | None = None,
        workers: Workers | None = None,
        controls: Controls | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        _check(config, store)
        _check_schema(config, store)
        own_clock, own_chance, own_signal = _ports_beside(store)
        if isinstance(store, PostgresJobStore):
            statistics = statistics or PostgresStatistics(store.pool, whereabouts=store.whereabouts)
            workers = workers or PostgresWorkers(store.pool, whereabouts=store.whereabouts)
            controls = controls or PostgresControls(store.pool, whereabouts=store.whereabouts)
        super().__init__(
            config,
            store,
            clock=clock or own_clock,
            chance=chance or own_chance,
            signal=signal or own_signal,
            telemetry=telemetry,
            statistics=statistics,
            workers=workers,
            controls=controls,
            tracing=tracing,
        )


class OperationsService(operations.OperationsService):
    """See why jobs wait, and who is there.

    Args:
        config: as for `JobService`: the limits that schedulers are to keep.
        store: a `PostgresJobStore`; for any other, wire `OperationsService` of
            `async_jobs.application` to the ports that belong to it.
        clock: by default the database's time.

    Raises:
        TypeError: `config` or `store` is something else.
        ConfigurationError: `config` names another schema than the store's.
    """

    def __init__(
        self, config: Limits, store: PostgresJobStore, *, clock: Clock | None = None
    ) -> None:
        _check(config, store)
        _check_is_postgres(store)
        _check_schema(config, store)
        beside: Any = {"whereabouts": store.whereabouts}
        super().__init__(
            config,
            store,
            PostgresOverview(store.pool, **beside),
            workers=PostgresWorkers(store.pool, **beside),
            schedulers=PostgresSchedulers(store.pool, **beside),
            checkpoints=PostgresCheckpoints(store.pool),
            statistics=PostgresStatistics(store.pool, **beside),
            controls=PostgresControls(store.pool, **beside),
            history=PostgresHistory(store.pool, **beside),
            clock=clock or PostgresClock(store.pool, host=SystemClock()),
        )


class SteeringService(steering.SteeringService):
    """Pause, limit, resume, and see who did.

    Args:
        config: as for `JobService`: what the environment says, over which controls are laid.
        store: a `PostgresJobStore`; for any other, wire `SteeringService` of
            `async_jobs.application` to the ports that belong to it.
        clock: by default the database's time.
        signal: by default NOTIFY, which wakes schedulers at once.

    Raises:
        TypeError: `config` or `store` is something else.
        ConfigurationError: `config` names another schema than the store's.
    """

    def __init__(
        self,
        config: Limits,
        store: PostgresJobStore,
        *,
        clock: Clock | None = None,
        signal: Signal | None = None,
    ) -> None:
        _check(config, store)
        _check_is_postgres(store)
        _check_schema(config, store)
        own_clock, chance, own_signal = _ports_beside(store)
        super().__init__(
            config,
            PostgresControls(store.pool, whereabouts=store.whereabouts),
            PostgresOverview(store.pool, whereabouts=store.whereabouts),
            clock=clock or own_clock,
            chance=chance,
            signal=signal or own_signal,
        )


class ReportsService(reporting.ReportsService):
    """See which share of jobs started in time.

    Args:
        store: a `PostgresJobStore`, beside whose jobs the programs keep what they count.
        clock: by default the database's time.
        config: as for `JobService`, to refuse use cases that nobody configured; None for any.

    Raises:
        TypeError: `store` is something else.
    """

    def __init__(
        self,
        store: PostgresJobStore,
        *,
        clock: Clock | None = None,
        config: Limits | None = None,
    ) -> None:
        _check_is_postgres(store)
        if config is not None:
            _check(config, store)
        super().__init__(
            PostgresTallies(store.pool, whereabouts=store.whereabouts),
            clock=clock or PostgresClock(store.pool, host=SystemClock()),
            config=config,
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
            f"store must be a Store, e.g. PostgresJobStore(pool); it is a {type(store).__name__}"
        )


def _check_is_postgres(store: object) -> None:
    if not isinstance(store, PostgresJobStore):
        raise TypeError(f"store must be a PostgresJobStore; it is a {type(store).__name__}")


def _check_schema(config: object, store: object) -> None:
    """Refuse a store for another schema than the configured: its jobs would wait for nobody."""
    wanted = getattr(config, "db_schema", None)
    if wanted is None or not isinstance(store, PostgresJobStore):
        return
    schema = store.whereabouts.schema
    if schema == wanted:
        return
    found = "names none" if schema is None else f"is for {schema!r}"
    raise ConfigurationError(
        f"store: ASYNC_JOBS_DB_SCHEMA (db_schema) is {wanted!r}, and the store {found}: make it"
        f" by PostgresJobStore(pool, schema={wanted!r}), on a pool that looks there, as by"
        f" create_pool(dsn, schema={wanted!r})"
    )


def _ports_beside(store: Store) -> tuple[Clock, Chance, Signal | None]:
    """Return the clock, the chance and the signal that belong to a store made by itself."""
    host, chance = SystemClock(), SystemChance()
    if not isinstance(store, PostgresJobStore):
        return host, chance, None
    clock = PostgresClock(store.pool, host=host)
    return clock, chance, PostgresSignal(store.pool, clock=clock)
