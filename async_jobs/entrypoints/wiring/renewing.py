"""Renewals beside a worker: a thread with a loop, connections and a store of its own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.application.working.renewal import OpenStore, RenewalHost, Renewals, RenewalThread
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.ports.clock import Clock
from async_jobs.ports.store import Store

RENEWAL_POOL_MAX_SIZE = 2


def error_logger(logger: logging.Logger, event: str) -> Callable[[Exception], None]:
    """Return a function that logs a passing failure as `event`."""

    def tell(error: Exception) -> None:
        logger.warning(event, extra={"problem": str(error)})

    return tell


def renewal_thread(
    config: AsyncJobsConfig, open_store: OpenStore, logger: logging.Logger
) -> Callable[[Renewals], RenewalHost]:
    """Return what makes the thread that renews a worker's leases."""

    def make(renewals: Renewals) -> RenewalHost:
        return RenewalThread(
            renewals,
            open_store,
            every_seconds=config.lease_duration_seconds / 3,
            on_error=error_logger(logger, "lease_renewal_failed"),
        )

    return make


def open_renewal_store_of(config: AsyncJobsConfig, host_clock: Clock) -> OpenStore:
    """Return what opens a store on the renewal thread: connections are bound to their loop."""

    @asynccontextmanager
    async def open_store() -> AsyncIterator[tuple[Store, Clock]]:
        pool = await create_pool(
            config.db_dsn,
            max_size=RENEWAL_POOL_MAX_SIZE,
            statement_cache_size=config.db_statement_cache_size,
            schema=config.db_schema,
            password=config.db_password,
            application_name="async_jobs renewals",
        )
        try:
            yield PostgresJobStore(pool), PostgresClock(pool, host=host_clock)
        finally:
            pool.terminate()

    return open_store
