"""One pool of connections per process, set up so that nothing can hang or leak."""

from __future__ import annotations

import socket
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from async_jobs.adapters.postgres.errors import connecting
from async_jobs.adapters.postgres.lending import LendingPool

AnyConnection: TypeAlias = asyncpg.Connection | PoolConnectionProxy

COMMAND_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 10.0
IDLE_LIFETIME_SECONDS = 300.0
KEEPALIVE_SECONDS = 30


async def create_pool(
    dsn: str,
    *,
    max_size: int = 10,
    statement_cache_size: int | None = None,
    application_name: str = "async_jobs",
) -> asyncpg.Pool:
    """Connect.

    Args:
        dsn: a libpq URL.
        max_size: the most connections this process may hold, at least 2.
        statement_cache_size: None for asyncpg's own; 0 behind PgBouncer in transaction mode,
            which also refuses session settings, so none are sent then.
        application_name: what `pg_stat_activity` shows.

    Raises:
        Unavailable: nobody answers at the address.
        ConfigurationError: the address is malformed, or the server refuses the credentials.
    """
    options: dict[str, Any] = {"server_settings": {"application_name": application_name}}
    if statement_cache_size is not None:
        options["statement_cache_size"] = statement_cache_size
    if statement_cache_size != 0:
        options["server_settings"] |= {
            "idle_in_transaction_session_timeout": "60s",
            "tcp_keepalives_idle": str(KEEPALIVE_SECONDS),
            # A plan made for one batch size fits all: the statements drive from the arrays. To
            # plan anew would take a small batch longer than all the rest of it.
            "plan_cache_mode": "force_generic_plan",
            "jit": "off",
            # Plans are kept, and one made while a table was small must not read all of it once
            # it has grown. Every statement has an index to go by.
            "enable_seqscan": "off",
            # Nor must one that was made when a table seemed empty join a batch of a thousand to
            # its rows by a million comparisons. LATERAL is joined so all the same.
            "enable_nestloop": "off",
        }
    async with connecting(dsn):
        return await LendingPool(
            dsn,
            min_size=1,
            max_size=max(2, max_size),
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            max_inactive_connection_lifetime=IDLE_LIFETIME_SECONDS,
            init=_keep_alive,
            **options,
        )


async def _keep_alive(connection: asyncpg.Connection) -> None:
    """Notice within a minute when the other end is gone without a word, as after a failover."""
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probes = ("TCP_KEEPIDLE", KEEPALIVE_SECONDS), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)
    for option, value in probes:
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
