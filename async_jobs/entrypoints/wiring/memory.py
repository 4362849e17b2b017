"""The wiring of a process in memory, for `dev --memory`."""

from __future__ import annotations

import logging

from dependency_injector import providers

from async_jobs.adapters.memory.bulk import MemoryBulk
from async_jobs.adapters.memory.catalog import MemoryCatalog
from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.adapters.memory.history import MemoryHistory
from async_jobs.adapters.memory.outbox import MemoryOutbox
from async_jobs.adapters.memory.overview import MemoryOverview
from async_jobs.adapters.memory.schedulers import MemorySchedulers
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.statistics import MemoryStatistics
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.tallies import MemoryTallies
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.container import Container
from async_jobs.entrypoints.wiring.queues import Queues
from async_jobs.ports.clock import Clock


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
    container.bulk.override(providers.Singleton(MemoryBulk, container.store))
    container.catalog.override(providers.Singleton(MemoryCatalog, container.store))
    container.queues.override(providers.Singleton(_queues, container.store, clock))
    container.make_renewal_host.override(providers.Object(None))
    container.takes_jobs.override(providers.Object(_always))
    container.saves_outcomes.override(providers.Object(_always))
    return container


def _queues(store: MemoryJobStore, clock: Clock) -> Queues:
    return Queues.outboxes(lambda name: MemoryOutbox(store, name, clock=clock))


async def _always() -> bool:
    return True
