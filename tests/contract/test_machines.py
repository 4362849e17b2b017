"""The stores behave like a dict, whatever the sequence of calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.ports.store import Store
from async_jobs.testing.machines import JobStoreMachine

QUICK = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


class MemoryMachine(JobStoreMachine):
    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        yield MemoryJobStore()


def test_the_memory_store_behaves_like_a_dict() -> None:
    """A hundred lives of forty steps each."""
    run_state_machine_as_test(
        MemoryMachine, settings=settings(QUICK, max_examples=100, stateful_step_count=40)
    )


def test_the_postgres_store_behaves_like_a_dict(database_dsn: str) -> None:
    """The same machine, on fewer lives: each step is a round trip or two."""

    class PostgresMachine(JobStoreMachine):
        @asynccontextmanager
        async def open_store(self) -> AsyncIterator[Store]:
            pool = await create_pool(database_dsn, max_size=2)
            try:
                await pool.execute("DELETE FROM jobs")
                yield PostgresJobStore(pool)
            finally:
                await pool.close()

    run_state_machine_as_test(
        PostgresMachine, settings=settings(QUICK, max_examples=40, stateful_step_count=40)
    )
