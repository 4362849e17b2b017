"""The wiring of a process: which adapter stands behind which port, by dependency-injector."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import asyncpg
from dependency_injector import providers

from async_jobs.adapters.postgres.bulk import PostgresBulk
from async_jobs.adapters.postgres.catalog import PostgresCatalog
from async_jobs.adapters.postgres.checkpoints import PostgresCheckpoints
from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.controls import PostgresControls
from async_jobs.adapters.postgres.history import PostgresHistory
from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.adapters.postgres.overview import PostgresOverview
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.readiness import check_outcomes, takes_jobs
from async_jobs.adapters.postgres.schedulers import PostgresSchedulers
from async_jobs.adapters.postgres.schemas import check_schema
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.slow import SlowStatements
from async_jobs.adapters.postgres.statistics import PostgresStatistics
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.tallies import PostgresTallies
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.adapters.telemetry.logs import LogTelemetry
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.domain.facts import RowUnreadable, RowUnwritable
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.queues import (
    open_sqs_client,
    queues_of,
)
from async_jobs.entrypoints.wiring.renewing import open_renewal_store_of, renewal_thread
from async_jobs.entrypoints.wiring.services import (
    bulk_service,
    job_service,
    operations_service,
    reports_service,
    scheduler_of,
    scheduler_watch,
    search_service,
    steering_service,
    worker_of,
)
from async_jobs.entrypoints.wiring.telemetry import (
    counting_of,
    keeping,
    metrics_of,
    telemetry_of,
    tracing_of,
)
from async_jobs.host import SystemChance, SystemClock
from async_jobs.ports.bulk import Bulk
from async_jobs.ports.catalog import Catalog
from async_jobs.ports.checkpoints import Checkpoints
from async_jobs.ports.clock import Clock
from async_jobs.ports.controls import Controls
from async_jobs.ports.history import History
from async_jobs.ports.overview import Overview
from async_jobs.ports.schedulers import Schedulers
from async_jobs.ports.signal import Signal
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.store import Store, Unreadable, Unwritable
from async_jobs.ports.tallies import Tallies
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.workers import Workers

__all__ = ["Container", "migrate", "opened", "wired"]

CLOSE_TIMEOUT_SECONDS = 2.0
READY_SECONDS = 2.0


def _unreadable(telemetry: Telemetry, clock: Clock) -> Unreadable:
    def tell(job_id: UUID | None, problem: str) -> None:
        telemetry.record(RowUnreadable(at=clock.now(), job_id=job_id, problem=problem))

    return tell


def _unwritable(telemetry: Telemetry, clock: Clock) -> Unwritable:
    def tell(job_id: UUID, problem: str) -> None:
        telemetry.record(RowUnwritable(at=clock.now(), job_id=job_id, problem=problem))

    return tell


def _takes_jobs(pool: asyncpg.Pool) -> Callable[[], Awaitable[bool]]:
    async def answers() -> bool:
        try:
            async with asyncio.timeout(READY_SECONDS):
                return await takes_jobs(pool)
        except ConfigurationError:
            raise  # waiting does not help: it is told
        except (AsyncJobsError, TimeoutError):
            return False

    return answers


def _saves_outcomes(pool: asyncpg.Pool) -> Callable[[], Awaitable[bool]]:
    async def checked() -> bool:
        try:
            await check_outcomes(pool)
        except ConfigurationError:
            raise
        except AsyncJobsError:
            return False  # a worker waits until it answers
        return True

    return checked


def _signal(config: AsyncJobsConfig, pool: asyncpg.Pool, clock: Clock) -> PostgresSignal:
    # Behind PgBouncer in transaction mode, which wants no statement cache, LISTEN hears nothing.
    return PostgresSignal(pool, clock=clock, listen=config.db_statement_cache_size != 0)


class Container:
    """One process on Postgres: a provider for each part. Everything is made once, on first use.

    Of providers alone: `dependency_injector.containers` imports FastAPI where it is installed,
    which schedulers and workers do not need. So do they not import what the others run.

    Args:
        config: what the process is configured to be.
        logger: told of facts.
        pool: connections to Postgres; None where every adapter is overridden.
        sqs_client: any client compatible with aiobotocore's; None where SQS carries nothing.
    """

    def __init__(
        self,
        config: AsyncJobsConfig,
        logger: logging.Logger,
        pool: asyncpg.Pool | None = None,
        sqs_client: Any = None,
    ) -> None:
        self.config = providers.Object(config)
        self.logger = providers.Object(logger)
        self.pool: providers.Provider[asyncpg.Pool] = providers.Object(pool)
        self.sqs_client: providers.Provider[Any] = providers.Object(sqs_client)
        self._wire_host()
        self._wire_adapters()
        self._wire_queues()
        self._wire_services()
        self._wire_operating()
        self._wire_scheduler()
        self._wire_worker()

    def _wire_host(self) -> None:
        config = self.config
        self.chance = providers.Singleton(SystemChance)
        self.host_clock = providers.Singleton(SystemClock)
        self.metrics = providers.Singleton(metrics_of, config)
        self.counting = providers.Singleton(counting_of, config, self.chance, self.host_clock)
        self.telemetry: providers.Provider[Telemetry] = providers.Singleton(
            telemetry_of,
            providers.Singleton(LogTelemetry, self.logger),
            self.metrics,
            self.counting,
        )
        self.tracing = providers.Singleton(tracing_of, config)

    def _wire_adapters(self) -> None:
        pool, telemetry = self.pool, self.telemetry
        self.clock: providers.Provider[Clock] = providers.Singleton(
            PostgresClock, pool, host=self.host_clock
        )
        clock = self.clock
        self.signal: providers.Provider[Signal] = providers.Singleton(
            _signal, self.config, pool, clock
        )
        self.unreadable = providers.Singleton(_unreadable, telemetry, clock)
        self.store: providers.Provider[Store] = providers.Singleton(
            PostgresJobStore,
            pool,
            unreadable=self.unreadable,
            unwritable=providers.Singleton(_unwritable, telemetry, clock),
            schema=self.config.provided.db_schema,
        )
        self.workers: providers.Provider[Workers] = providers.Singleton(
            PostgresWorkers, pool, clock=clock
        )
        self.statistics: providers.Provider[Statistics] = providers.Singleton(
            PostgresStatistics, pool
        )
        self.tallies: providers.Provider[Tallies] = providers.Singleton(PostgresTallies, pool)
        self.checkpoints: providers.Provider[Checkpoints] = providers.Singleton(
            PostgresCheckpoints, pool
        )
        self.schedulers: providers.Provider[Schedulers] = providers.Singleton(
            PostgresSchedulers, pool
        )
        self.controls: providers.Provider[Controls] = providers.Singleton(PostgresControls, pool)
        self.overview: providers.Provider[Overview] = providers.Singleton(PostgresOverview, pool)
        self.history: providers.Provider[History] = providers.Singleton(PostgresHistory, pool)
        self.bulk: providers.Provider[Bulk] = providers.Singleton(PostgresBulk, self.store)
        self.catalog: providers.Provider[Catalog] = providers.Singleton(
            PostgresCatalog, pool, unreadable=self.unreadable
        )

    def _wire_queues(self) -> None:
        self.queues = providers.Singleton(
            queues_of, self.config, self.store, self.clock, self.signal, self.sqs_client
        )
        self.open_renewal_store = providers.Singleton(
            open_renewal_store_of, self.config, self.host_clock
        )
        self.make_renewal_host = providers.Singleton(
            renewal_thread, self.config, self.open_renewal_store, self.logger
        )
        self.takes_jobs = providers.Singleton(_takes_jobs, self.pool)
        self.saves_outcomes = providers.Singleton(_saves_outcomes, self.pool)

    def _wire_services(self) -> None:
        self.service = providers.Singleton(
            job_service,
            self.config,
            self.store,
            clock=self.clock,
            chance=self.chance,
            signal=self.signal,
            telemetry=self.telemetry,
            statistics=self.statistics,
            workers=self.workers,
            controls=self.controls,
            tracing=self.tracing,
        )

    def _wire_operating(self) -> None:
        self.scheduler_watch = providers.Singleton(
            scheduler_watch,
            self.schedulers,
            self.statistics,
            clock=self.clock,
            telemetry=self.telemetry,
        )
        self.operations = providers.Singleton(
            operations_service,
            self.config,
            self.store,
            self.overview,
            workers=self.workers,
            schedulers=self.schedulers,
            checkpoints=self.checkpoints,
            statistics=self.statistics,
            controls=self.controls,
            history=self.history,
            clock=self.clock,
        )
        self.steering = providers.Singleton(
            steering_service,
            self.config,
            self.controls,
            self.overview,
            clock=self.clock,
            chance=self.chance,
            signal=self.signal,
        )
        self.bulk_steering = providers.Singleton(
            bulk_service, self.bulk, clock=self.clock, chance=self.chance, signal=self.signal
        )
        self.reports = providers.Singleton(
            reports_service, self.config, self.tallies, clock=self.clock
        )
        self.search = providers.Singleton(search_service, self.catalog, clock=self.clock)

    def _wire_scheduler(self) -> None:
        self.scheduler = providers.Singleton(
            scheduler_of,
            self.config,
            self.store,
            self.queues.provided.queue_of,
            outbox_of=self.queues.provided.outbox_of,
            clock=self.clock,
            chance=self.chance,
            host_clock=self.host_clock,
            signal=self.signal,
            workers=self.workers,
            telemetry=self.telemetry,
            controls=self.controls,
            checkpoints=self.checkpoints,
            schedulers=self.schedulers,
            statistics=self.statistics,
            overview=self.overview,
            history=self.history,
            bulk=self.bulk,
            tallies=self.tallies,
            tracing=self.tracing,
        )

    def _wire_worker(self) -> None:
        self.worker = providers.Factory(
            worker_of,
            self.config,
            self.queues,
            self.chance,
            self.host_clock,
            self.logger,
            store=self.store,
            clock=self.clock,
            signal=self.signal,
            workers=self.workers,
            telemetry=self.telemetry,
            make_renewal_host=self.make_renewal_host,
            tracing=self.tracing,
        )


@asynccontextmanager
async def opened(
    config: AsyncJobsConfig,
    logger: logging.Logger,
    *,
    application_name: str,
    hands_off: bool = False,
) -> AsyncIterator[Container]:
    """Open the process's pool, wire everything to it, and close it all on the way out.

    Args:
        config: what to connect to.
        logger: told of facts.
        application_name: how Postgres lists the connections.
        hands_off: True for a process that sends or receives hand-offs; others need no SQS.

    Raises:
        Unavailable: the database does not answer.
        ConfigurationError: it refuses the credentials, or SQS is not set up.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_sqs_client(config)) if hands_off else None
        pool = await create_pool(
            config.db_dsn,
            max_size=config.db_pool_max_size,
            statement_cache_size=config.db_statement_cache_size,
            schema=config.db_schema,
            password=config.db_password,
            application_name=application_name,
            slow=_slow_statements(config, logger),
        )
        stack.push_async_callback(_close, pool)
        async with wired(config, logger, pool, client) as container:
            yield container


@asynccontextmanager
async def wired(
    config: AsyncJobsConfig, logger: logging.Logger, pool: asyncpg.Pool, sqs_client: Any
) -> AsyncIterator[Container]:
    """Wire everything to a client and a pool that somebody else closes, on the right schema."""
    if config.db_schema is not None:
        await check_schema(pool, config.db_schema)
    container = Container(config, logger, pool, sqs_client)
    try:
        async with keeping(container.counting(), container.tallies, container.clock, logger):
            yield container
    finally:
        signal = container.signal()
        if isinstance(signal, PostgresSignal):
            with suppress(TimeoutError):
                await asyncio.wait_for(signal.close(), CLOSE_TIMEOUT_SECONDS)


def _slow_statements(config: AsyncJobsConfig, logger: logging.Logger) -> SlowStatements | None:
    def tell(statement: str, seconds: float, times: int) -> None:
        told = {"statement": statement, "seconds": round(seconds, 3), "times": times}
        logger.warning("slow_statement", extra=told)

    seconds = config.slow_statement_seconds
    return None if seconds is None else SlowStatements(seconds, tell, clock=SystemClock())


async def _close(pool: asyncpg.Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), CLOSE_TIMEOUT_SECONDS)
    except TimeoutError:
        pool.terminate()
