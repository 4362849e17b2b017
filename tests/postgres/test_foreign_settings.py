"""Sessions as others have set them up: by role and database, through poolers, by an address."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.domain.errors import ConfigurationError, Unavailable
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.ports.store import Added
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import race
from tests.kit.harness import free_port
from tests.kit.pgbouncer import pgbouncer

LEVELS = ("repeatable read", "serializable")


@asynccontextmanager
async def a_pool(dsn: str, kind: str) -> AsyncIterator[asyncpg.Pool]:
    """The library's own, that for PgBouncer, and an application's."""
    if kind == "theirs":
        pool = await asyncpg.create_pool(dsn, min_size=0, max_size=8)
    else:
        pool = await create_pool(
            dsn, max_size=8, statement_cache_size=0 if kind == "pgbouncer's" else None
        )
    yield pool
    pool.terminate()


async def preset(dsn: str, setting: str) -> None:
    """Give all new sessions on the database a setting."""
    connection = await asyncpg.connect(dsn)
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"ALTER DATABASE {name} SET {setting}")
    await connection.close()


# --- isolation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["ours", "pgbouncer's", "theirs"])
async def test_a_turn_counts_what_was_committed_before_its_locks(
    database_dsn: str, level: str, kind: str
) -> None:
    """A snapshot older than the locks would let two turns take the same room."""
    await preset(database_dsn, f"default_transaction_isolation = '{level}'")
    async with a_pool(database_dsn, kind) as pool:
        store = PostgresJobStore(pool)
        job = a_job()
        await store.add([job], {})
        async with store.turn([job.use_case], ["acme"]) as turn:
            assert list(await turn.running()) == []
            async with pool.acquire() as other:
                await other.execute(
                    "UPDATE jobs SET status = 'running', lease_expires_at = $1", later(60)
                )
            (counted,) = await turn.running()

    assert counted.unclaimed == 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["ours", "pgbouncer's"])
async def test_two_turns_never_exceed_a_cap(database_dsn: str, level: str, kind: str) -> None:
    """Two schedulers that lease as fast as they can, one job of room between them."""
    await preset(database_dsn, f"default_transaction_isolation = '{level}'")
    async with a_pool(database_dsn, kind) as pool:
        store = PostgresJobStore(pool)
        jobs = [a_job() for _ in range(40)]
        await store.add(jobs, {})
        most = 0

        async def scheduler(mine: list[int]) -> None:
            nonlocal most
            for place in mine:
                with suppress(Unavailable):
                    async with store.turn(["notifications"], ["acme"]) as turn:
                        if "notifications" not in turn.use_cases or await turn.running():
                            continue
                        await turn.lease([LeaseGrant(jobs[place].id, 0, 1, later(60), NOW)])
                running = await pool.fetchval("SELECT count(*) FROM jobs WHERE status = 'running'")
                most = max(most, running)
                await pool.execute(
                    "UPDATE jobs SET status = 'pending', lease_expires_at = NULL WHERE id = $1",
                    jobs[place].id,
                )

        await race(scheduler([*range(0, 40, 2)]), scheduler([*range(1, 40, 2)]))

    assert most == 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["ours", "pgbouncer's", "theirs"])
async def test_a_quota_holds_whatever_the_default(database_dsn: str, level: str, kind: str) -> None:
    """Batches are counted, each in a transaction of its own; none is told that nobody answered."""
    await preset(database_dsn, f"default_transaction_isolation = '{level}'")
    async with a_pool(database_dsn, kind) as pool:
        store = PostgresJobStore(pool)
        answers = await race(*(store.add([a_job(), a_job()], {"acme": 5}) for _ in range(4)))

        assert await pool.fetchval("SELECT count(*) FROM jobs") == 4

    assert sum(isinstance(each, Added) for answer in answers for each in answer) == 4


async def test_a_database_that_only_reads_is_named(database_dsn: str) -> None:
    """By the setting, beside what a standby would say."""
    await preset(database_dsn, "default_transaction_read_only = on")
    async with a_pool(database_dsn, "ours") as pool:
        with pytest.raises(Unavailable, match=r"takes no writes.*default_transaction_read_only"):
            await PostgresJobStore(pool).add([a_job()], {})


# --- schema and encoding ------------------------------------------------------------------------


async def test_a_schema_of_its_own_is_named_by_the_address(empty_database_dsn: str) -> None:
    """Beside a table `jobs` of the application's."""
    operator = await asyncpg.connect(empty_database_dsn)
    await operator.execute("CREATE TABLE jobs (id integer)")
    with pytest.raises(ConfigurationError, match=r'"jobs" already exists.*ASYNC_JOBS_DB_SCHEMA'):
        await migrate(empty_database_dsn)
    own = f"{empty_database_dsn}?search_path=async_jobs"
    with pytest.raises(ConfigurationError, match="CREATE SCHEMA"):
        await migrate(own)
    await operator.execute("CREATE SCHEMA async_jobs")

    assert await migrate(own)
    async with a_pool(own, "ours") as pool, a_pool(empty_database_dsn, "ours") as elsewhere:
        store = PostgresJobStore(pool)
        async with elsewhere.acquire() as connection, connection.transaction():
            with pytest.raises(ConfigurationError, match="search_path"):
                await store.add([a_job()], {}, within=connection)
        async with elsewhere.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL search_path = async_jobs")
            await store.add([a_job()], {}, within=connection)

    assert await operator.fetchval("SELECT count(*) FROM async_jobs.jobs") == 1
    await operator.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_is_not_utf8_is_refused(postgres_dsn: str, encoding: str) -> None:
    """Before there are jobs in it that cannot be written down."""
    name = f"encoded_{secrets.token_hex(8)}"
    operator = await asyncpg.connect(postgres_dsn)
    await operator.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'"
        " LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        dsn = urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
        with pytest.raises(ConfigurationError, match=f"encoding is {encoding}.*ENCODING 'UTF8'"):
            await migrate(dsn)
    finally:
        await operator.execute(f"DROP DATABASE {name}")
        await operator.close()


# --- addresses ----------------------------------------------------------------------------------


async def test_a_setting_that_the_server_does_not_know_is_told_by_name(database_dsn: str) -> None:
    """What is not libpq's goes to the server."""
    for connecting in (create_pool, migrate):
        with pytest.raises(ConfigurationError, match=r'parameter of its address: .*"nonsense"'):
            await connecting(f"{database_dsn}?nonsense=1")


async def test_an_address_as_others_write_it_leads_to_the_database(database_dsn: str) -> None:
    """SQLAlchemy's scheme, and libpq's parameters that the driver does not know."""
    dsn = database_dsn.replace("postgresql:", "postgresql+asyncpg:")
    dsn += "?connect_timeout=5&gssencmode=disable&keepalives_idle=41&keepalives_count=4&ssl=prefer"

    assert await migrate(dsn) == []
    async with await create_pool(dsn) as pool, pool.acquire() as connection:
        sock = cast("Any", connection)._con._transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 41
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4


# --- PgBouncer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_what_a_pooler_refuses_is_told_with_its_cure(database_dsn: str, mode: str) -> None:
    """With nothing set for it, neither here nor there."""
    with pgbouncer(database_dsn, free_port(), mode=mode) as pooled:
        with pytest.raises(
            ConfigurationError,
            match=r"unsupported startup parameter.*DB_STATEMENT_CACHE_SIZE=0.*ignore_startup",
        ):
            _ = await create_pool(pooled)
        async with await create_pool(pooled, statement_cache_size=0) as pool:
            await PostgresJobStore(pool).add([a_job()], {})


async def test_a_pooler_of_sessions_may_ignore_what_it_does_not_know(database_dsn: str) -> None:
    """As docs/configuration.md lists it; then nothing has to be set here."""
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    listed = re.search(r"would refuse:\n`([^`]+)`", page.read_text("utf-8"))
    assert listed is not None
    ignoring = listed[1].replace("\n", " ")
    with pgbouncer(database_dsn, free_port(), mode="session", ignoring=ignoring) as pooled:
        async with await create_pool(pooled) as pool:
            await PostgresJobStore(pool).add([a_job(), a_job()], {"acme": 2})


async def test_a_pooler_of_statements_is_told_as_what_it_is(database_dsn: str) -> None:
    """Nothing that is tried again would mend it."""
    with pgbouncer(database_dsn, free_port(), mode="statement") as pooled:
        async with asyncio.timeout(60):
            with pytest.raises(ConfigurationError, match=r"one statement only.*pool_mode"):
                _ = await create_pool(pooled, statement_cache_size=0)
