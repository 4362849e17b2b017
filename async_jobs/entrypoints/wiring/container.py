"""The wiring of a process: which adapter stands behind which port, by dependency-injector."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from dependency_injector import containers, providers

from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.adapters.memory.history import MemoryHistory
from async_jobs.adapters.memory.overview import MemoryOverview
from async_jobs.adapters.memory.schedulers import MemorySchedulers
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.statistics import MemoryStatistics
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.tallies import MemoryTallies
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.adapters.postgres.checkpoints import PostgresCheckpoints
from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.controls import PostgresControls
from async_jobs.adapters.postgres.embedded import EmbeddedPostgres
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
from async_jobs.application.enqueueing.service import JobService
from async_jobs.application.operating.operations import OperationsService
from async_jobs.application.operating.reporting import ReportsService
from async_jobs.application.operating.steering import SteeringService
from async_jobs.application.scheduling.chores.announcing import SchedulerIdentity
from async_jobs.application.scheduling.noticing import Notices, SchedulerWatch
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.working.heartbeat import Identity
from async_jobs.application.working.worker import Worker
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.domain.facts import RowUnreadable, RowUnwritable
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.queues import (
    Queues,
    memory_queues,
    open_sqs_client,
    queues_of,
)
from async_jobs.entrypoints.wiring.renewing import (
    error_logger,
    open_renewal_store_of,
    renewal_thread,
)
from async_jobs.entrypoints.wiring.telemetry import (
    counting_of,
    keeping,
    metrics_of,
    telemetry_of,
)
from async_jobs.entrypoints.wiring.tuning import scheduler_settings, worker_settings
from async_jobs.host import SystemChance, SystemClock
from async_jobs.ports.checkpoints import Checkpoints
from async_jobs.ports.clock import Chance, Clock
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
from async_jobs.version import __version__

__all__ = [
    "Container",
    "embedded_postgres",
    "memory_container",
    "migrate",
    "opened",
    "wired",
]

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


async def _always() -> bool:
    return True


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


def _rolled_up(config: AsyncJobsConfig, tallies: Tallies) -> Tallies | None:
    return tallies if config.statistics else None


def _scheduler_identity(
    config: AsyncJobsConfig, chance: Chance, host_clock: Clock
) -> SchedulerIdentity:
    return SchedulerIdentity(
        scheduler_id=chance.uuid(host_clock.now()).hex[16:],
        host=socket.gethostname(),
        version=__version__,
        transport=config.queue_backend,
    )


def _worker(
    config: AsyncJobsConfig,
    queues: Queues,
    chance: Chance,
    host_clock: Clock,
    logger: logging.Logger,
    *,
    queue_names: Sequence[str],
    **ports: Any,
) -> Worker:
    received, outboxes = queues.to_receive_from(queue_names)
    # Its random half tells workers apart, and is written and logged with every claim.
    worker_id = chance.uuid(host_clock.now()).hex[16:]
    return Worker(
        Identity(
            worker_id=worker_id,
            host=socket.gethostname(),
            version=__version__,
            transport=config.queue_backend,
        ),
        queues=received,
        outboxes=outboxes,
        chance=chance,
        settings=worker_settings(config),
        on_error=error_logger(logger, "worker_degraded"),
        **ports,
    )


class Container(containers.DeclarativeContainer):
    """One process on Postgres. Everything is made once, on first use."""

    config = providers.Dependency(instance_of=AsyncJobsConfig)
    logger = providers.Dependency(instance_of=logging.Logger)
    pool: providers.Dependency[asyncpg.Pool] = providers.Dependency(instance_of=asyncpg.Pool)

    sqs_client: providers.Object[Any] = providers.Object(None)
    """Any client compatible with aiobotocore's; None where SQS carries nothing."""

    chance = providers.Singleton(SystemChance)
    host_clock = providers.Singleton(SystemClock)
    metrics = providers.Singleton(metrics_of, config)
    counting = providers.Singleton(counting_of, config, chance, host_clock)
    telemetry: providers.Provider[Telemetry] = providers.Singleton(
        telemetry_of, providers.Singleton(LogTelemetry, logger), metrics, counting
    )
    clock: providers.Provider[Clock] = providers.Singleton(PostgresClock, pool, host=host_clock)
    signal: providers.Provider[Signal] = providers.Singleton(_signal, config, pool, clock)
    unreadable = providers.Singleton(_unreadable, telemetry, clock)
    store: providers.Provider[Store] = providers.Singleton(
        PostgresJobStore,
        pool,
        unreadable=unreadable,
        unwritable=providers.Singleton(_unwritable, telemetry, clock),
        schema=config.provided.db_schema,
    )
    workers: providers.Provider[Workers] = providers.Singleton(PostgresWorkers, pool, clock=clock)
    statistics: providers.Provider[Statistics] = providers.Singleton(PostgresStatistics, pool)
    tallies: providers.Provider[Tallies] = providers.Singleton(PostgresTallies, pool)
    checkpoints: providers.Provider[Checkpoints] = providers.Singleton(PostgresCheckpoints, pool)
    schedulers: providers.Provider[Schedulers] = providers.Singleton(PostgresSchedulers, pool)
    controls: providers.Provider[Controls] = providers.Singleton(PostgresControls, pool)
    overview: providers.Provider[Overview] = providers.Singleton(PostgresOverview, pool)
    history: providers.Provider[History] = providers.Singleton(PostgresHistory, pool)
    queues = providers.Singleton(queues_of, config, store, clock, signal, sqs_client)
    open_renewal_store = providers.Singleton(open_renewal_store_of, config, host_clock)
    make_renewal_host = providers.Singleton(renewal_thread, config, open_renewal_store, logger)
    takes_jobs = providers.Singleton(_takes_jobs, pool)
    saves_outcomes = providers.Singleton(_saves_outcomes, pool)
    service = providers.Singleton(
        JobService,
        config,
        store,
        clock=clock,
        chance=chance,
        signal=signal,
        telemetry=telemetry,
        statistics=statistics,
        workers=workers,
        controls=controls,
    )
    scheduler_watch = providers.Singleton(
        SchedulerWatch, schedulers, statistics, clock=clock, telemetry=telemetry
    )
    operations = providers.Singleton(
        OperationsService,
        config,
        store,
        overview,
        workers=workers,
        schedulers=schedulers,
        checkpoints=checkpoints,
        statistics=statistics,
        controls=controls,
        history=history,
        clock=clock,
        transport=config.provided.queue_backend,
        settings=providers.Callable(scheduler_settings, config),
    )
    steering = providers.Singleton(
        SteeringService,
        config,
        controls,
        overview,
        clock=clock,
        chance=chance,
        signal=signal,
    )
    reports = providers.Singleton(ReportsService, tallies, clock=clock)
    scheduler = providers.Singleton(
        Scheduler,
        config,
        store,
        queues.provided.queue_of,
        outbox_of=queues.provided.outbox_of,
        clock=clock,
        chance=chance,
        signal=signal,
        workers=workers,
        telemetry=telemetry,
        controls=controls,
        checkpoints=checkpoints,
        schedulers=schedulers,
        overview=overview,
        history=history,
        identity=providers.Singleton(_scheduler_identity, config, chance, host_clock),
        settings=providers.Callable(scheduler_settings, config),
        tallies=providers.Callable(_rolled_up, config, tallies),
        notices=providers.Factory(
            Notices,
            config,
            clock=clock,
            telemetry=telemetry,
            statistics=statistics,
            transport=config.provided.queue_backend,
        ),
    )
    worker = providers.Factory(
        _worker,
        config,
        queues,
        chance,
        host_clock,
        logger,
        store=store,
        clock=clock,
        signal=signal,
        workers=workers,
        telemetry=telemetry,
        make_renewal_host=make_renewal_host,
    )


def memory_container(config: AsyncJobsConfig, logger: logging.Logger) -> Container:
    """Return one process in memory, for `dev --memory`: nothing is kept, nothing is needed."""
    container = Container(config=config, logger=logger)
    clock = container.host_clock
    container.clock.override(clock)
    container.signal.override(providers.Singleton(MemorySignal, clock=clock))
    container.store.override(providers.Singleton(MemoryJobStore, unreadable=container.unreadable))
    container.workers.override(providers.Singleton(MemoryWorkers))
    container.statistics.override(providers.Singleton(MemoryStatistics, container.store))
    container.tallies.override(providers.Singleton(MemoryTallies))
    container.checkpoints.override(providers.Singleton(MemoryCheckpoints))
    container.schedulers.override(providers.Singleton(MemorySchedulers))
    container.overview.override(providers.Singleton(MemoryOverview, container.store))
    container.controls.override(container.store.provided.controls)
    container.history.override(providers.Singleton(MemoryHistory, container.store))
    container.queues.override(providers.Singleton(memory_queues, container.store, clock))
    container.make_renewal_host.override(providers.Object(None))
    container.takes_jobs.override(providers.Object(_always))
    container.saves_outcomes.override(providers.Object(_always))
    return container


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
    container = Container(config=config, logger=logger, pool=pool)
    container.sqs_client.override(providers.Object(sqs_client))
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


@asynccontextmanager
async def embedded_postgres(data_dir: Path | None = None) -> AsyncIterator[EmbeddedPostgres]:
    """Run an embedded server for the length of a block; yields it.

    Args:
        data_dir: where it keeps its data; None for a place that goes away with it.
    """
    postgres = EmbeddedPostgres(data_dir)
    starting = asyncio.ensure_future(asyncio.to_thread(postgres.start))
    try:
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting  # a thread cannot be cancelled, and would start it all the same
            raise
        yield postgres
    finally:
        await asyncio.to_thread(postgres.stop)
