"""Enqueues in the transaction of a SQLAlchemy session, by SQLAlchemy itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, registry

from async_jobs import (
    EnqueueJobRequest,
    InvalidJobError,
    JobService,
    PostgresJobStore,
    UseCaseConfig,
)
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.testing.builders import SimpleLimits
from async_jobs.testing.contracts.scenes import RollBack

LIMITS = SimpleLimits(use_case_configs={"mail": UseCaseConfig()}, per_tenant_quotas={})
ORDERS = """
CREATE TABLE orders (
    id integer PRIMARY KEY, paid_by integer REFERENCES orders DEFERRABLE INITIALLY DEFERRED
)
"""
mapping = registry(metadata=MetaData())


@mapping.mapped
class Order:
    __table__ = Table(
        "orders", mapping.metadata, Column("id", Integer, primary_key=True), Column("paid_by")
    )

    def __init__(self, id: int, paid_by: int | None = None) -> None:
        self.id = id
        self.paid_by = paid_by


@pytest.fixture
async def operator(database_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_dsn)
    await connection.execute(ORDERS)
    yield connection
    await connection.close()


@pytest.fixture
async def engine(database_dsn: str, operator: object) -> AsyncIterator[AsyncEngine]:
    """An application's engine, with one connection: whoever takes a second one waits for ever."""
    engine = create_async_engine(
        database_dsn.replace("postgresql:", "postgresql+asyncpg:"), pool_size=1, max_overflow=0
    )
    yield engine
    await engine.dispose()


@pytest.fixture
async def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False)


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[JobService]:
    """On a pool of its own, which the transaction needs nothing of."""
    async with (
        await create_pool(database_dsn, max_size=2) as pool,
        pool.acquire(),
        pool.acquire(),
    ):
        yield JobService(LIMITS, PostgresJobStore(pool))


def a_request() -> EnqueueJobRequest:
    return EnqueueJobRequest(tenant_id="acme", use_case="mail", type="send", payload={"n": 1})


async def counted(operator: asyncpg.Connection) -> tuple[int, int]:
    """Return how many orders and jobs others see."""
    row = await operator.fetchrow(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM jobs)"
    )
    assert row is not None
    return row[0], row[1]


async def test_a_job_and_an_order_are_committed_together(
    service: JobService,
    sessions: async_sessionmaker[AsyncSession],
    operator: asyncpg.Connection,
) -> None:
    """Whichever comes first, flushed or not."""
    async with sessions.begin() as session:
        session.add(Order(1))
        await service.enqueue(a_request(), session=session)
        assert await counted(operator) == (0, 0)
    async with sessions.begin() as session:
        await service.enqueue_many([a_request(), a_request()], session=session)
        session.add(Order(2))
        await session.flush()
        assert await counted(operator) == (1, 1)

    assert await counted(operator) == (2, 3)


@pytest.mark.parametrize("first", ["the job", "an order", "a statement"])
async def test_a_rollback_takes_the_job_along(
    service: JobService,
    sessions: async_sessionmaker[AsyncSession],
    operator: asyncpg.Connection,
    first: str,
) -> None:
    """Also when nothing else was asked of the database before."""
    with suppress(RollBack):
        async with sessions.begin() as session:
            if first == "an order":
                session.add(Order(1))
            elif first == "a statement":
                await session.execute(text("SELECT 1"))
            await service.enqueue(a_request(), session=session)
            await service.enqueue_many([a_request()], session=session)
            raise RollBack

    assert await counted(operator) == (0, 0)


async def test_a_session_begins_by_itself_and_ends_by_its_caller(
    service: JobService,
    sessions: async_sessionmaker[AsyncSession],
    operator: asyncpg.Connection,
) -> None:
    """Autobegin: no `begin` is written anywhere; closed without a commit it leaves nothing."""
    async with sessions() as session:
        await service.enqueue(a_request(), session=session)
        assert session.in_transaction()
        assert await counted(operator) == (0, 0)
        await session.commit()
        assert await counted(operator) == (0, 1)

        await service.enqueue(a_request(), session=session)
        await session.rollback()
        await service.enqueue(a_request(), session=session)

    assert await counted(operator) == (0, 1)


async def test_a_commit_that_fails_leaves_no_job(
    service: JobService,
    sessions: async_sessionmaker[AsyncSession],
    operator: asyncpg.Connection,
) -> None:
    """At the flush that it makes, and at the constraint that is checked last."""
    await operator.execute("INSERT INTO orders VALUES (1)")
    for order in (Order(1), Order(2, paid_by=3)):
        async with sessions() as session:
            session.add(order)
            await service.enqueue(a_request(), session=session)
            with pytest.raises(IntegrityError):
                await session.commit()

    assert await counted(operator) == (1, 0)


async def test_a_savepoint_takes_its_own_jobs_along(
    service: JobService,
    sessions: async_sessionmaker[AsyncSession],
    operator: asyncpg.Connection,
) -> None:
    """And leaves those of the transaction around it, in which work goes on."""
    async with sessions.begin() as session:
        kept = await service.enqueue(a_request(), session=session)
        with suppress(RollBack):
            async with session.begin_nested():
                session.add(Order(1))
                await service.enqueue_many([a_request()] * 2, session=session)
                raise RollBack
        async with session.begin_nested():
            session.add(Order(2))
            await service.enqueue(a_request(), session=session)
        with pytest.raises(InvalidJobError):
            await service.enqueue(
                EnqueueJobRequest(tenant_id="b", use_case="none", type="send", payload={}),
                session=session,
            )

    assert await counted(operator) == (1, 2)
    assert await operator.fetchval("SELECT count(*) FROM jobs WHERE id = $1", kept.job_id) == 1


async def test_connections_and_scoped_sessions_will_do(
    service: JobService,
    engine: AsyncEngine,
    sessions: async_sessionmaker[AsyncSession],
    operator: asyncpg.Connection,
) -> None:
    """SQLAlchemy's Core has no session."""
    async with engine.begin() as connection:
        await service.enqueue(a_request(), session=connection)
    async with engine.connect() as connection:
        await service.enqueue(a_request(), session=connection)
        await connection.rollback()
    scoped = async_scoped_session(sessions, scopefunc=asyncio.current_task)
    await service.enqueue(a_request(), session=scoped)
    await scoped.commit()
    await scoped.remove()

    assert await counted(operator) == (0, 2)


async def test_a_session_that_commits_by_itself_is_refused(
    service: JobService, engine: AsyncEngine, operator: asyncpg.Connection
) -> None:
    """It has no transaction to enqueue in."""
    async with AsyncSession(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        with pytest.raises(InvalidJobError, match="it has no open transaction"):
            await service.enqueue(a_request(), session=session)

    assert await counted(operator) == (0, 0)


async def test_sessions_of_other_drivers_are_refused_by_name(
    service: JobService, database_dsn: str, operator: asyncpg.Connection
) -> None:
    """An asynchronous one on psycopg, and a synchronous one."""
    other = create_async_engine(database_dsn.replace("postgresql:", "postgresql+psycopg:"))
    async with AsyncSession(other) as session:
        with pytest.raises(
            InvalidJobError, match=r"postgresql\+asyncpg; got .*AsyncSession on psy"
        ):
            await service.enqueue(a_request(), session=session)
    with pytest.raises(InvalidJobError, match=r"AsyncSession of SQLAlchemy.*; got sqlalchemy\.orm"):
        await service.enqueue(a_request(), session=Session())
    await other.dispose()

    assert await counted(operator) == (0, 0)
