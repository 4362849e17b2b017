"""Connections that are lent on: as soon as asyncpg's own, and never in a worse state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, cast

import asyncpg
import pytest

from async_jobs.adapters.postgres.lending import LendingPool
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.testing.clocks import let_others_run
from tests.kit.harness import PATIENCE_SECONDS, clock, eventually

Pools = Callable[..., AbstractAsyncContextManager[LendingPool]]
Break = Callable[[asyncpg.pool.PoolConnectionProxy], Awaitable[None]]
FOREVER_SECONDS = 3_600.0


@pytest.fixture
def pools(database_dsn: str) -> Pools:
    """Make pools that lend on for as long as a test lasts, unless told otherwise."""

    @asynccontextmanager
    async def made(
        *, max_size: int = 2, lent_on_seconds: float = FOREVER_SECONDS
    ) -> AsyncIterator[LendingPool]:
        pool = await LendingPool(
            database_dsn,
            min_size=0,
            max_size=max_size,
            max_inactive_connection_lifetime=0,
            lent_on_seconds=lent_on_seconds,
        )
        yield pool
        pool.terminate()

    return made


@pytest.fixture
async def pool(pools: Pools) -> AsyncIterator[LendingPool]:
    async with pools() as pool:
        yield pool


@pytest.fixture
def broken(pool: LendingPool, database_dsn: str) -> Break:
    """Close a connection from the other end, and wait until the pool has heard of it."""

    async def broken(connection: asyncpg.pool.PoolConnectionProxy) -> None:
        operator = await asyncpg.connect(database_dsn)
        pid = connection.get_server_pid()
        await operator.execute("SELECT pg_terminate_backend($1)", pid)
        await operator.close()

        async def is_known() -> bool:
            return pool.get_size() == 0

        await eventually(is_known, "the pool hears that its connection is closed")

    return broken


async def lent(pool: asyncpg.Pool) -> object:
    """Borrow a connection and give it back. Another object means that asyncpg had it back."""
    async with pool.acquire() as connection:
        await connection.fetchval("SELECT 1")
        return connection


async def test_the_pool_of_this_library_lends_on(database_dsn: str) -> None:
    async with await create_pool(database_dsn) as pool:
        assert await lent(pool) is await lent(pool)


async def test_a_connection_is_lent_on_without_asyncpg(pool: LendingPool) -> None:
    first = await lent(pool)

    assert pool.get_idle_size() == 1, "it looks idle"
    assert asyncpg.Pool.get_idle_size(pool) == 0, "asyncpg does not have it"
    assert await lent(pool) is first
    await pool.fetchval("SELECT 1")
    assert pool.get_size() == 1


async def test_one_that_is_awaited_is_lent_on_and_released_to_asyncpg(pool: LendingPool) -> None:
    first = await lent(pool)
    connection = await pool.acquire()
    assert connection is first

    await pool.release(connection)

    assert asyncpg.Pool.get_idle_size(pool) == 1


async def test_with_no_time_to_lend_on_asyncpg_has_each_back(pools: Pools) -> None:
    async with pools(lent_on_seconds=0) as pool:
        assert await lent(pool) is not await lent(pool)
        assert pool.get_size() == pool.get_idle_size() == 1


async def test_whoever_waits_gets_what_comes_back(pool: LendingPool) -> None:
    """Far more callers than connections, which come and go in every order."""
    held: list[int] = []

    async def use(number: int) -> None:
        async with pool.acquire() as connection:
            await connection.fetchval("SELECT 1")
            held.append(number)

    await asyncio.wait_for(asyncio.gather(*map(use, range(100))), 30)

    assert sorted(held) == list(range(100))
    assert pool.get_idle_size() == pool.get_size() == 2


async def test_one_who_waits_is_served_by_what_comes_back(pools: Pools) -> None:
    async with pools(max_size=1) as pool:
        async with pool.acquire():
            waiter = asyncio.create_task(lent(pool))
            await let_others_run(3)
        await asyncio.wait_for(waiter, 30)


async def test_a_call_that_failed_gives_back_to_asyncpg(pool: LendingPool) -> None:
    first = await lent(pool)
    with suppress(asyncpg.UndefinedTableError):
        await pool.execute("SELECT FROM nothing_of_that_name")

    assert asyncpg.Pool.get_idle_size(pool) == 1
    assert await lent(pool) is not first


async def test_a_call_that_was_cancelled_gives_back_to_asyncpg(pool: LendingPool) -> None:
    await lent(pool)
    call = asyncio.create_task(pool.execute("SELECT pg_sleep(600)"))
    await let_others_run(10)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call

    await lent(pool)
    assert pool.get_size() == pool.get_idle_size() == 1


async def test_a_call_that_was_cancelled_once_prepared_holds_nothing(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver leaves it to the next call to end what preparing began."""
    get_statement = cast("Any", asyncpg.Connection)._get_statement

    async def cancelled(*arguments: Any, **options: Any) -> object:
        await get_statement(*arguments, **options)
        raise asyncio.CancelledError

    operator = await asyncpg.connect(database_dsn)
    async with await create_pool(database_dsn) as pool:
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "_get_statement", cancelled)
            with suppress(asyncio.CancelledError):
                await pool.fetchval("SELECT count(*) FROM jobs")

        held = await operator.fetch("SELECT locktype FROM pg_locks WHERE pid = $1", pid)
        assert not held
        assert pool.get_size() == pool.get_idle_size() == 1
    await operator.close()


async def session_of(pool: asyncpg.Pool) -> object:
    return await pool.fetchval("SELECT current_setting('application_name')")


async def test_what_comes_back_whole_is_left_as_it_is(pools: Pools) -> None:
    """To make it new would be a round trip for each call while others wait."""
    async with pools(lent_on_seconds=0) as pool:
        await pool.execute("SET application_name = 'mine'")

        assert await session_of(pool) == "mine"
        assert pool.get_size() == 1


async def test_what_comes_back_after_an_error_is_made_new(pool: LendingPool) -> None:
    await pool.execute("SET application_name = 'mine'")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await pool.execute("SELECT 1 / 0")

    assert await session_of(pool) != "mine"
    assert pool.get_size() == 1


async def test_what_cannot_be_made_new_is_closed_and_hides_no_error(
    pool: LendingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await lent(pool)
    with monkeypatch.context() as patched:
        patched.setattr(asyncpg.Connection, "get_reset_query", lambda _: "SELECT FROM nowhere")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await pool.execute("SELECT 1 / 0")

    assert pool.get_size() == 0
    assert await lent(pool) is not first


async def test_a_transaction_that_was_left_open_is_seen_by_nobody_else(pool: LendingPool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("BEGIN; CREATE TABLE left_behind ()")

    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SELECT to_regclass('left_behind')") is None


async def test_one_that_broke_while_nobody_had_it_is_not_lent(
    pool: LendingPool, broken: Break
) -> None:
    async with pool.acquire() as connection:
        pass
    await broken(connection)

    assert await lent(pool) is not connection
    await lent(pool)
    assert pool.get_size() == pool.get_idle_size() == 1


async def test_one_that_broke_unnoticed_by_who_had_it_is_not_lent_on(
    pool: LendingPool, broken: Break
) -> None:
    async with pool.acquire() as connection:
        await broken(connection)

    assert await lent(pool) is not connection
    assert pool.get_size() == pool.get_idle_size() == 1


async def test_expired_connections_are_not_lent_on(pool: LendingPool) -> None:
    """Neither the one that waited nor the one that was out at the time."""
    async with pool.acquire() as out:
        out_pid = out.get_server_pid()
        async with pool.acquire() as waiting:
            waiting_pid = waiting.get_server_pid()
        await pool.expire_connections()

    async with pool.acquire() as one, pool.acquire() as other:
        assert not {one.get_server_pid(), other.get_server_pid()} & {out_pid, waiting_pid}


async def test_one_that_nobody_asks_for_goes_back_to_asyncpg(pools: Pools) -> None:
    """And looks idle all the while."""
    async with pools(lent_on_seconds=0.1) as pool:
        await lent(pool)
        await given_back(pool, 1)

        await lent(pool)
        assert pool.get_size() == 1


async def test_the_one_used_last_is_used_next(pools: Pools) -> None:
    """Also after asyncpg had them back: its statements are prepared."""
    async with pools(lent_on_seconds=0.3) as pool:
        async with pool.acquire(), pool.acquire():
            pass  # to connect may take longer than a connection is lent on
        await given_back(pool, 2)

        async with pool.acquire() as last:
            pid = last.get_server_pid()
            async with pool.acquire():
                pass
        await given_back(pool, 2)

        async with pool.acquire() as following:
            assert following.get_server_pid() == pid


async def given_back(pool: LendingPool, connections: int) -> None:
    """Wait until asyncpg has so many connections back, which look idle all the while."""
    until = clock.monotonic() + PATIENCE_SECONDS
    while asyncpg.Pool.get_idle_size(pool) < connections:
        assert pool.get_idle_size() == connections
        assert clock.monotonic() < until, "asyncpg never has its connections back"
        await let_others_run(1)
    assert pool.get_idle_size() == connections


async def test_closing_waits_for_nothing_that_is_idle(pool: LendingPool) -> None:
    async with pool.acquire(), pool.acquire():
        pass

    await asyncio.wait_for(pool.close(), 30)

    assert pool.get_size() == 0
    with pytest.raises(asyncpg.InterfaceError):
        await lent(pool)


async def test_closing_waits_for_what_is_in_use(pool: LendingPool) -> None:
    async with pool.acquire() as connection:
        closing = asyncio.create_task(pool.close())
        await let_others_run(3)
        assert await connection.fetchval("SELECT 1") == 1

    await asyncio.wait_for(closing, 30)
    assert pool.get_size() == 0


async def test_terminating_closes_what_waits(pool: LendingPool) -> None:
    await lent(pool)

    pool.terminate()

    assert pool.get_size() == pool.get_idle_size() == 0
    with pytest.raises(asyncpg.InterfaceError):
        await lent(pool)


async def test_one_acquisition_is_for_one_use(pool: LendingPool) -> None:
    acquisition = pool.acquire()
    async with acquisition:
        with pytest.raises(asyncpg.InterfaceError, match="already acquired"):
            await acquisition.__aenter__()
