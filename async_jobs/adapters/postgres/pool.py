"""One pool of connections per process, set up so that nothing can hang or leak."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from async_jobs.adapters.postgres.codecs import check_codecs
from async_jobs.adapters.postgres.dsn import KeepAlive, address_of
from async_jobs.adapters.postgres.errors import connecting
from async_jobs.adapters.postgres.lending import LendingPool
from async_jobs.adapters.postgres.schemas import Whereabouts, quoted
from async_jobs.adapters.postgres.slow import SlowStatements
from async_jobs.domain.errors import Unavailable

AnyConnection: TypeAlias = asyncpg.Connection | PoolConnectionProxy

ACQUIRE_TIMEOUT_SECONDS = 30.0
Password: TypeAlias = Callable[[], str] | Callable[[], Awaitable[str]]
"""Gives the password that counts now."""

COMMAND_TIMEOUT_SECONDS = 30.0
LOCK_TIMEOUT_SECONDS = 10.0
"""Nobody waits for longer until somebody else's transaction ends."""
CONNECT_TIMEOUT_SECONDS = 10.0
IDLE_LIFETIME_SECONDS = 300.0


async def create_pool(
    dsn: str,
    *,
    max_size: int = 10,
    statement_cache_size: int | None = None,
    application_name: str = "async_jobs",
    schema: str | None = None,
    password: Password | None = None,
    slow: SlowStatements | None = None,
) -> asyncpg.Pool:
    """Connect.

    Args:
        dsn: a libpq URL.
        max_size: the most connections this process may hold, at least 2.
        statement_cache_size: None for asyncpg's own; 0 behind PgBouncer in transaction mode,
            which also refuses session settings, so none are sent then.
        application_name: what `pg_stat_activity` shows.
        schema: where the tables are; None for wherever the search path leads. Where no session
            settings are sent, the role's own search path has to lead there.
        password: asked for a password at each new connection, instead of the DSN's.
        slow: told of the pool's statements; None measures none.

    Raises:
        Unavailable: nobody answers at the address.
        ConfigurationError: the address is malformed or asks for what the driver cannot do, the
            server refuses the credentials, or a pooler in between refuses what is needed.
    """
    options: dict[str, Any] = {"server_settings": {"application_name": application_name}}
    if password is not None:
        options["password"] = password
    if statement_cache_size is not None:
        options["statement_cache_size"] = statement_cache_size
    if statement_cache_size != 0:
        options["server_settings"] |= _session_settings(schema)
    async with connecting(dsn):
        address = address_of(dsn)
        pool: asyncpg.Pool = await LendingPool(
            address.dsn,
            schema=schema,
            min_size=1,
            max_size=max(2, max_size),
            timeout=address.connect_seconds or CONNECT_TIMEOUT_SECONDS,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            max_inactive_connection_lifetime=IDLE_LIFETIME_SECONDS,
            init=partial(_prepared, address.keep_alive, slow),
            **address.options(),
            **options,
        )
        await _try_transaction(pool)
    return pool


def _session_settings(schema: str | None) -> dict[str, str]:
    """Return what our own sessions have, whatever the role's or the database's defaults."""
    settings = {
        "idle_in_transaction_session_timeout": "60s",
        # So that who waits is told why, and that nothing was written, before its command times out.
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS:g}s",
        "tcp_keepalives_idle": str(KeepAlive().idle_seconds),
        # A stricter one, which a role or a database may have for the application's sake, would
        # roll back writes that merely waited for each other.
        "default_transaction_isolation": "read committed",
        # A plan made for one batch size fits all: the statements drive from the arrays. To plan
        # anew would take a small batch longer than all the rest of it.
        "plan_cache_mode": "force_generic_plan",
        "jit": "off",
        # Plans are kept, and one made while a table was small must not read all of it once it has
        # grown. Every statement has an index to go by.
        "enable_seqscan": "off",
        # Nor must one that was made when a table seemed empty join a batch of a thousand to its
        # rows by a million comparisons. LATERAL is joined so all the same.
        "enable_nestloop": "off",
    }
    return settings if schema is None else {**settings, "search_path": quoted(schema)}


async def _try_transaction(pool: asyncpg.Pool) -> None:
    """Meet a pooler that lends its connections for one statement only; closes the pool then."""
    try:
        async with pool.acquire() as connection, connection.transaction():
            pass
    except BaseException:
        pool.terminate()
        raise


class borrowed:  # noqa: N801 - a context manager, named like those of contextlib
    """Lend a connection of a pool for a block. Nobody waits for one for ever.

    Args:
        pool: whose.
        whereabouts: where it has to find the tables, if that matters.

    Raises:
        Unavailable: none was free in time.
        ConfigurationError: the pool is an application's own, with codecs of its own, or finds the
            tables of another schema.
    """

    __slots__ = ("_loan", "_pool", "_whereabouts")

    def __init__(self, pool: asyncpg.Pool, whereabouts: Whereabouts | None = None) -> None:
        self._pool = pool
        self._whereabouts = whereabouts

    async def __aenter__(self) -> PoolConnectionProxy:
        """Wait for a connection."""
        self._loan = self._pool.acquire()
        limit = asyncio.timeout(ACQUIRE_TIMEOUT_SECONDS)
        try:
            async with limit:
                connection = await self._loan.__aenter__()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable(
                f"no connection of the pool was free within {ACQUIRE_TIMEOUT_SECONDS:g} s; it may"
                f" have {self._pool.get_max_size()}: let it have more, or hold them for less long"
            ) from error
        try:
            if _is_an_applications_own(self._pool):
                await check_codecs(connection)
            if self._whereabouts is not None:
                await self._whereabouts.check(connection)
        except BaseException:
            await self.__aexit__(*sys.exc_info())
            raise
        return connection

    async def __aexit__(self, *exc: object) -> None:
        """Give it back."""
        await self._loan.__aexit__(*exc)


def _is_an_applications_own(pool: object) -> bool:
    return isinstance(pool, asyncpg.Pool) and not isinstance(pool, LendingPool)


def schema_of(pool: asyncpg.Pool) -> str | None:
    """Return the schema that a pool was made for; None if it is not known to be for one."""
    return pool.schema if isinstance(pool, LendingPool) else None


async def fetched(
    pool: asyncpg.Pool, statement: str, *arguments: object, whereabouts: Whereabouts | None = None
) -> list[asyncpg.Record]:
    """Return the rows of one statement, on a connection of the pool; see `borrowed`."""
    async with borrowed(pool, whereabouts) as connection:
        return await connection.fetch(statement, *arguments)


async def _prepared(
    keep_alive: KeepAlive, slow: SlowStatements | None, connection: asyncpg.Connection
) -> None:
    """Set up a new connection."""
    _keep_alive(keep_alive, connection)
    if slow is not None:
        connection.add_query_logger(slow)


def _keep_alive(wanted: KeepAlive, connection: asyncpg.Connection) -> None:
    """Notice within a minute when the other end is gone without a word, as after a failover."""
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(wanted.is_on))
    options = (
        ("TCP_KEEPIDLE", wanted.idle_seconds),
        ("TCP_KEEPINTVL", wanted.interval_seconds),
        ("TCP_KEEPCNT", wanted.probes),
        ("TCP_USER_TIMEOUT", wanted.user_timeout_ms),
    )
    for option, value in options:
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
