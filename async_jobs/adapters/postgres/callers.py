"""A caller's own transaction: which connection it is on, and what of its errors is the caller's."""

from __future__ import annotations

import sys
from typing import Any, Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from async_jobs.adapters.postgres.codecs import check_codecs
from async_jobs.adapters.postgres.errors import translated
from async_jobs.adapters.postgres.pool import AnyConnection
from async_jobs.domain.errors import InvalidJobError

_CONNECTIONS: Final = (asyncpg.Connection, PoolConnectionProxy)
_MUST_BE: Final = (
    "must be an asyncpg connection with an open transaction (async with connection.transaction():"
    " …), or, as `session`, an AsyncSession of SQLAlchemy on postgresql+asyncpg"
)
# Whoever began a transaction repeats it after these, and looks for the driver's own exception.
_FOR_THE_CALLER: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class in_callers_transaction(translated):  # noqa: N801 - as `translated`
    """As `translated`, but for what the caller's own retry waits for: that is left as it is."""

    __slots__ = ()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise what the error stands for."""
        if not isinstance(error, _FOR_THE_CALLER):
            await super().__aexit__(kind, error, trace)


async def connection_of(within: object) -> AnyConnection:
    """Return the connection of a caller's open transaction; a session's is begun if need be.

    Raises:
        InvalidJobError: it is something else, or no transaction is open.
        ConfigurationError: its codecs are not asyncpg's own.
        Unavailable: the database does not answer.
    """
    connection = within if isinstance(within, _CONNECTIONS) else await _of_session(within)
    if not isinstance(connection, _CONNECTIONS):
        raise InvalidJobError("connection", f"{_MUST_BE}; got {_kind(within, connection)}")
    if not _is_in_transaction(connection):
        raise InvalidJobError("connection", f"{_MUST_BE}; it has no open transaction")
    async with in_callers_transaction():
        await check_codecs(connection)
    return connection


async def _of_session(session: Any) -> object:
    """Return the driver's connection of a SQLAlchemy session, in its transaction; else None."""
    # Not imported: whoever has a session has done so.
    alchemy: Any = sys.modules.get("sqlalchemy.ext.asyncio")
    if alchemy is None:
        return None
    if isinstance(session, alchemy.async_scoped_session):
        session = session()
    if isinstance(session, alchemy.AsyncSession):
        session = await session.connection()
    if not isinstance(session, alchemy.AsyncConnection):
        return None
    driver: object = (await session.get_raw_connection()).driver_connection
    if isinstance(driver, asyncpg.Connection) and not driver.is_in_transaction():
        # SQLAlchemy's transaction is begun in the database by the first statement that it sends.
        await session.exec_driver_sql("SELECT 1")
    return driver


def _is_in_transaction(connection: AnyConnection) -> bool:
    try:
        return connection.is_in_transaction()
    except asyncpg.InterfaceError:
        return False  # it was given back to its pool


def _kind(within: object, connection: object) -> str:
    kinds = (type(each) for each in (within, connection) if each is not None)
    return " on ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
