"""The ledger tells every change, in the order of the commits, also after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from async_jobs import AsyncJobsConfig, EnqueueJobRequest, JobService, PostgresJobStore
from async_jobs.adapters.postgres.embedded import EmbeddedPostgres
from async_jobs.adapters.postgres.migrate import migrate
from tests.kills.arena import a_postgres
from tests.kills.ledger import Change, Ledger


@pytest.fixture
async def audited() -> AsyncIterator[EmbeddedPostgres]:
    """A server whose commits can be read back."""
    with a_postgres() as postgres:
        await migrate(postgres.dsn)
        yield postgres


async def _add(dsn: str, count: int) -> list[UUID]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        config = AsyncJobsConfig.from_env(
            {"ASYNC_JOBS_DB_DSN": dsn, "ASYNC_JOBS_USE_CASES": '{"mail": {}}'}
        )
        service = JobService(config, PostgresJobStore(pool))
        request = EnqueueJobRequest(tenant_id="acme", use_case="mail", type="any", payload={})
        return [(await service.enqueue(request)).job_id for _ in range(count)]


async def _told(ledger: Ledger, connection: asyncpg.Connection) -> list[list[Change]]:
    await ledger.read_on(connection)
    assert await ledger.strays(connection) == 0
    return [changes async for changes in ledger.changes(connection)]


_TOUCH = "UPDATE jobs SET priority = priority + 1 WHERE id = $1"


async def test_the_order_is_that_of_the_commits(audited: EmbeddedPostgres) -> None:
    """Who began first, and drew the smaller numbers, may well take effect later."""
    ledger = Ledger()
    one, two = await asyncpg.connect(audited.dsn), await asyncpg.connect(audited.dsn)
    await ledger.open(one)
    first, second, third = await _add(audited.dsn, 3)
    waiting = one.transaction()
    await waiting.start()
    await one.execute(_TOUCH, first)
    await two.execute(_TOUCH, second)
    await ledger.read_on(two)
    await one.execute(_TOUCH, third)
    await waiting.commit()

    commits = await _told(ledger, two)
    numbers = await two.fetch("SELECT job_id FROM audit ORDER BY seq OFFSET 3")

    assert all(
        0 <= change.committed_at - change.at < 3_600 for changes in commits for change in changes
    )
    times = [changes[0].committed_at for changes in commits]
    assert times == sorted(times)
    touched = [[change.job_id for change in changes] for changes in commits[3:]]
    assert touched == [[second], [first, third]]
    assert [row["job_id"] for row in numbers] == [first, second, third]
    for connection in (one, two):
        await connection.close()


async def test_a_crash_neither_loses_nor_repeats_a_commit(audited: EmbeddedPostgres) -> None:
    """Neither what was read before, nor what was not; what was rolled back never was."""
    ledger = Ledger()
    connection = await asyncpg.connect(audited.dsn)
    await ledger.open(connection)
    read = await _add(audited.dsn, 2)
    await ledger.read_on(connection)
    unread = await _add(audited.dsn, 2)
    await connection.execute("BEGIN")
    await connection.execute(_TOUCH, read[0])
    await asyncio.to_thread(audited.restart, "immediate")
    connection.terminate()

    again = await asyncpg.connect(audited.dsn)
    commits = await _told(ledger, again)
    final = await ledger.final(again)
    await again.close()

    assert [change.job_id for changes in commits for change in changes] == [*read, *unread]
    assert list(final) == [*read, *unread]


async def test_a_deleted_row_and_a_commit_nobody_told_of_are_seen(
    audited: EmbeddedPostgres,
) -> None:
    """The two ways in which a job could vanish from the evidence."""
    ledger, deaf = Ledger(), Ledger()
    connection = await asyncpg.connect(audited.dsn)
    await ledger.open(connection)
    (job_id,) = await _add(audited.dsn, 1)
    await connection.execute("DELETE FROM jobs")

    commits = await _told(ledger, connection)
    strays = await deaf.strays(connection)
    await connection.close()

    assert [(c.operation, c.job_id) for changes in commits for c in changes] == [
        ("INSERT", job_id),
        ("DELETE", job_id),
    ]
    assert strays == 2
