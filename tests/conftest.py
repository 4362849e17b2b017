"""Fixtures that give a test its own corner of a real Postgres, and an endpoint for SQS."""

import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from async_jobs.adapters.postgres.embedded import EmbeddedPostgres
from tests.kit import dealing, services

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell lets what runs in its background ignore interrupts, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let processes that share the tests begin with the longest ones."""
    if (processes := dealing.processes()) > 1:
        items[:] = dealing.dealt([item.nodeid for item in items], items, processes)


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A server for all tests of this process; take `database_dsn` unless it is what you test."""
    with services.postgres() as dsn:
        yield dsn


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template_database(postgres_dsn: str) -> AsyncIterator[str]:
    """The DSN of the migrated database that tests get copies of; nobody may connect to it."""
    async with services.database(postgres_dsn) as dsn:
        await services.prepare_template(dsn)
        yield dsn


@pytest.fixture
async def database_dsn(postgres_dsn: str, template_database: str) -> AsyncIterator[str]:
    """A migrated database without rows that only this test sees; takes some 30 ms."""
    async with services.database(postgres_dsn, template_dsn=template_database) as dsn:
        yield dsn


@pytest.fixture
async def empty_database_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """A database without anything, for tests of migrations."""
    async with services.database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture
def durable_postgres() -> Iterator[EmbeddedPostgres]:
    """A server with fsync on that only this test sees, to be killed and restarted."""
    with services.embedded_postgres(durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def sqs_endpoint() -> Iterator[str]:
    """The URL of an SQS for all tests of this process; take queues of your own on it."""
    with services.sqs() as url:
        yield url
