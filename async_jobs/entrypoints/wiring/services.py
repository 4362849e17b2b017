"""The services of a process. Each is imported by the process that makes it: workers start often."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.queues import Queues
from async_jobs.entrypoints.wiring.renewing import error_logger
from async_jobs.entrypoints.wiring.tuning import scheduler_settings, worker_settings
from async_jobs.ports.catalog import Catalog
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.tallies import Tallies
from async_jobs.ports.telemetry import Telemetry
from async_jobs.version import __version__

if TYPE_CHECKING:
    from async_jobs.application.enqueueing.service import JobService
    from async_jobs.application.operating.bulk import BulkService
    from async_jobs.application.operating.operations import OperationsService
    from async_jobs.application.operating.reporting import ReportsService
    from async_jobs.application.operating.searching import SearchService
    from async_jobs.application.operating.steering import SteeringService
    from async_jobs.application.scheduling.noticing import SchedulerWatch
    from async_jobs.application.scheduling.scheduler import Scheduler
    from async_jobs.application.working.worker import Worker


def job_service(*ports: Any, **others: Any) -> JobService:
    """Return what takes jobs."""
    from async_jobs.application.enqueueing.service import JobService

    return JobService(*ports, **others)


def operations_service(config: AsyncJobsConfig, *ports: Any, **others: Any) -> OperationsService:
    """Return what says why jobs wait."""
    from async_jobs.application.operating.operations import OperationsService

    settings = scheduler_settings(config)
    return OperationsService(
        config, *ports, transport=config.queue_backend, settings=settings, **others
    )


def steering_service(*ports: Any, **others: Any) -> SteeringService:
    """Return what takes the orders of operators."""
    from async_jobs.application.operating.steering import SteeringService

    return SteeringService(*ports, **others)


def bulk_service(*ports: Any, **others: Any) -> BulkService:
    """Return what takes the orders of operators about many jobs."""
    from async_jobs.application.operating.bulk import BulkService

    return BulkService(*ports, **others)


def reports_service(config: AsyncJobsConfig, tallies: Tallies, *, clock: Clock) -> ReportsService:
    """Return what reports from the sums."""
    from async_jobs.application.operating.reporting import ReportsService

    return ReportsService(tallies, clock=clock, config=config)


def search_service(catalog: Catalog, *, clock: Clock) -> SearchService:
    """Return what finds jobs."""
    from async_jobs.application.operating.searching import SearchService

    return SearchService(catalog, clock=clock)


def scheduler_watch(*ports: Any, **others: Any) -> SchedulerWatch:
    """Return what notices that no scheduler runs."""
    from async_jobs.application.scheduling.noticing import SchedulerWatch

    return SchedulerWatch(*ports, **others)


def scheduler_of(
    config: AsyncJobsConfig,
    *ports: Any,
    host_clock: Clock,
    statistics: Statistics,
    clock: Clock,
    chance: Chance,
    telemetry: Telemetry,
    tallies: Tallies,
    **others: Any,
) -> Scheduler:
    """Return a scheduler under a new id."""
    from async_jobs.application.scheduling.chores.announcing import SchedulerIdentity
    from async_jobs.application.scheduling.noticing import Notices
    from async_jobs.application.scheduling.scheduler import Scheduler

    transport = config.queue_backend
    return Scheduler(
        config,
        *ports,
        clock=clock,
        chance=chance,
        telemetry=telemetry,
        identity=SchedulerIdentity(
            scheduler_id=_new_id(chance, host_clock),
            host=socket.gethostname(),
            version=__version__,
            transport=transport,
        ),
        notices=Notices(
            config, clock=clock, telemetry=telemetry, statistics=statistics, transport=transport
        ),
        settings=scheduler_settings(config),
        tallies=tallies if config.statistics else None,
        **others,
    )


def worker_of(
    config: AsyncJobsConfig,
    queues: Queues,
    chance: Chance,
    host_clock: Clock,
    logger: logging.Logger,
    *,
    queue_names: Sequence[str],
    **ports: Any,
) -> Worker:
    """Return a worker for some queues, under a new id."""
    from async_jobs.application.working.heartbeat import Identity
    from async_jobs.application.working.worker import Worker

    received, outboxes = queues.to_receive_from(queue_names)
    return Worker(
        Identity(
            worker_id=_new_id(chance, host_clock),
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


def _new_id(chance: Chance, host_clock: Clock) -> str:
    # The random half tells processes apart, and is short: it is written and logged with each claim.
    return chance.uuid(host_clock.now()).hex[16:]
