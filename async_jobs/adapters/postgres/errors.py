"""Where asyncpg's exceptions become ours: once, here, with the cause chained."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import urlsplit

import asyncpg

from async_jobs.domain.errors import ConfigurationError, Unavailable

T = TypeVar("T")

_ROLLED_BACK: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
_UNAVAILABLE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    *_ROLLED_BACK,
)
_NO_SCHEMA: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
_NO_ACCESS: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
TRIES_MAX = 5


class translated:  # noqa: N801 - a context manager, named like those of contextlib
    """Raise `Unavailable` or `ConfigurationError` for what the driver raises inside.

    A connection that turned out to be read-only belongs to a primary that was demoted: all of
    the pool's connections are replaced, so that the next ones find the new primary.
    """

    # A class, because around every statement a generator would cost more than it wraps.
    __slots__ = ("_pool",)

    def __init__(self, pool: asyncpg.Pool | None = None) -> None:
        self._pool = pool

    async def __aenter__(self) -> None:
        """Begin."""

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise what the error stands for."""
        if error is None:
            return
        if isinstance(error, _UNAVAILABLE):
            if self._pool is not None and isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                await self._pool.expire_connections()
            raise Unavailable(f"the database did not answer: {_told(error)}") from error
        if isinstance(error, _NO_SCHEMA):
            raise ConfigurationError(
                f"the database lacks the async_jobs schema ({_told(error)});"
                " run: async-jobs migrate"
            ) from error
        if isinstance(error, _NO_ACCESS):
            raise ConfigurationError(f"the database refused access: {_told(error)}") from error


@asynccontextmanager
async def connecting(dsn: str) -> AsyncIterator[None]:
    """As `translated`, around what connects: tells where nobody answered, and a malformed DSN."""
    try:
        async with translated():
            yield
    except Unavailable as error:
        if isinstance(error.__cause__, asyncpg.ClientConfigurationError):
            raise ConfigurationError(_MALFORMED) from None
        raise Unavailable(f"{error}{_told_where(dsn)}") from error.__cause__
    except (ValueError, OverflowError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(_MALFORMED) from None


# The driver's own words may quote the DSN, and with it the password.
_MALFORMED: Final = (
    "the database's address is malformed: it must look like"
    " postgresql://user:password@host:5432/database?sslmode=require, with special characters in"
    " the password percent-encoded"
)


def _told_where(dsn: str) -> str:
    address = urlsplit(dsn).netloc
    # Without a @ before the path, what looks like the address may be part of a password.
    is_told = bool(address) and ("@" in address or "@" not in dsn)
    return f" (at {address.rpartition('@')[2]})" if is_told else ""


async def retried(write: Callable[[], Awaitable[T]]) -> T:
    """Run a write again when the database rolled it back to break a tie between transactions.

    That is the one failure after which nothing is in doubt: the write left nothing behind.
    """
    for _ in range(TRIES_MAX - 1):
        try:
            return await write()
        except _ROLLED_BACK:
            continue
    return await write()


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
