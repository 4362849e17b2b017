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
_ABORTED: Final = (
    "its transaction is aborted, because a statement in it failed before: roll it back, or to a"
    " savepoint, and enqueue after that"
)
_IN_USE: Final = (
    "is in use by another call: await one call on a connection before the next begins, or give each"
    " a connection of its own; then roll its transaction back, for parts of a call may be done"
)
_ONLY_READS: Final = (
    "its transaction only reads, and an enqueue writes: begin it without READ ONLY"
    " (connection.transaction(readonly=False))"
)
# Whoever began a transaction repeats it after these, and looks for the driver's own exception.
_FOR_THE_CALLER: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class in_callers_transaction(translated):  # noqa: N801 - as `translated`
    """As `translated`, but for what is the caller's own.

    What its own retry waits for is left as it is; what it did wrong on its connection is told.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: AnyConnection) -> None:
        super().__init__()
        self._connection = connection

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise what the error stands for."""
        if error is None or isinstance(error, _FOR_THE_CALLER):
            return
        if (problem := _mistake(error, self._connection)) is not None:
            raise InvalidJobError("connection", problem) from error
        await super().__aexit__(kind, error, trace)


def _mistake(error: BaseException, connection: AnyConnection) -> str | None:
    """Return what the caller did wrong on its connection; None if it was not the caller."""
    match error:
        case asyncpg.InFailedSQLTransactionError():
            return _ABORTED
        case asyncpg.InterfaceError() if "another operation" in str(error):
            return _IN_USE
        case asyncpg.ReadOnlySQLTransactionError() if _would_write(connection):
            return _ONLY_READS
    return None


def _would_write(connection: AnyConnection) -> bool:
    """Tell whether transactions of a session write unless they are told not to.

    By what the server reports unasked (14 and later), because it takes no statement after an error.
    """
    settings = connection.get_settings()
    names = "in_hot_standby", "default_transaction_read_only"
    return all(getattr(settings, name, None) == "off" for name in names)


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
    async with in_callers_transaction(connection):
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
