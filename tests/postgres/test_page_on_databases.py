"""What docs/how-to/your-database.md and the README show commits the job with one's own data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from async_jobs import JobService, PostgresJobStore, UseCaseConfig
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.testing.builders import SimpleLimits
from tests.kit.pages import ROOT, blocks_of

PAGE = ROOT / "docs" / "how-to" / "your-database.md"
LIMITS = SimpleLimits(use_case_configs={"notifications": UseCaseConfig()}, per_tenant_quotas={})


def shown(page: Path, word: str) -> Any:
    """Return `sign_up` as the one block of a page defines it that has a word."""
    (program,) = [block.code for block in blocks_of(page) if word in block.code]
    names: dict[str, Any] = {}
    exec(program, names)
    return names["sign_up"]


@pytest.fixture
def jobs(database_dsn: str) -> Iterator[list[tuple[str, str, dict[str, str]]]]:
    """What there is once a test has ended: one welcome of Ada, whoever enqueued it."""
    expected = [("acme", "welcome", {"name": "Ada"})]
    yield expected
    with psycopg.connect(database_dsn) as connection:
        rows = connection.execute("SELECT tenant_id, type, payload FROM jobs").fetchall()
    assert rows == expected


@pytest.mark.usefixtures("jobs")
async def test_asyncpg(database_dsn: str) -> None:
    """As in the README."""
    async with await create_pool(database_dsn) as pool, pool.acquire() as connection:
        service = JobService(LIMITS, PostgresJobStore(pool))
        await shown(ROOT / "README.md", "asyncpg.Connection")(service, connection)


@pytest.mark.usefixtures("jobs")
async def test_sqlalchemy(database_dsn: str) -> None:
    """A session that nothing has begun."""
    engine = create_async_engine(database_dsn.replace("postgresql:", "postgresql+asyncpg:"))
    async with await create_pool(database_dsn) as pool, AsyncSession(engine) as session:
        await shown(PAGE, "AsyncSession")(JobService(LIMITS, PostgresJobStore(pool)), session)
    await engine.dispose()


@pytest.mark.usefixtures("jobs")
def test_synchronous_sqlalchemy(database_dsn: str) -> None:
    """On psycopg."""
    engine = create_engine(database_dsn.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session:
        shown(PAGE, "sqlalchemy.orm")(session)
    engine.dispose()


@pytest.mark.usefixtures("jobs")
def test_psycopg(database_dsn: str) -> None:
    """Which waits for no event loop."""
    with psycopg.connect(database_dsn) as connection:
        shown(PAGE, "psycopg.Connection")(connection)
