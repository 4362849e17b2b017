"""Where asyncpg's exceptions become ours: once, here, with the cause chained."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

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


@asynccontextmanager
async def translated(pool: asyncpg.Pool | None = None) -> AsyncIterator[None]:
    """Raise `Unavailable` or `ConfigurationError` for what the driver raises inside.

    A connection that turned out to be read-only belongs to a primary that was demoted: all of
    the pool's connections are replaced, so that the next ones find the new primary.
    """
    try:
        yield
    except _UNAVAILABLE as error:
        if pool is not None and isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            await pool.expire_connections()
        raise Unavailable(f"the database did not answer: {_told(error)}") from error
    except _NO_SCHEMA as error:
        raise ConfigurationError(
            f"the database lacks the async_jobs schema ({_told(error)}); run: async-jobs migrate"
        ) from error
    except _NO_ACCESS as error:
        raise ConfigurationError(f"the database refused access: {_told(error)}") from error


@asynccontextmanager
async def connecting() -> AsyncIterator[None]:
    """As `translated`, around what reads an address: a malformed one is nobody's absence."""
    async with translated():
        try:
            yield
        except OSError:
            raise  # some TLS failures are ValueErrors as well
        except (ValueError, OverflowError):
            # The driver's own words may quote the address, and with it the password.
            raise ConfigurationError(
                "the database's address is malformed: it must look like"
                " postgresql://user:password@host:5432/database?sslmode=require, with special"
                " characters in the password percent-encoded"
            ) from None


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
