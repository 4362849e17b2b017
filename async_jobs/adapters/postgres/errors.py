"""Where asyncpg's exceptions become ours: once, here, with the cause chained."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import urlsplit

import asyncpg

from async_jobs.domain.errors import ConfigurationError, MigrationDue, StoreRefused, Unavailable

T = TypeVar("T")

# What each class of SQLSTATE means here. A class that is not listed refuses what was asked, as do
# constraints (23), triggers (P0) and values that the database cannot hold (22).
WAITING: Final[Mapping[str, str]] = {
    "08": "the connection is lost",
    "25": "the session only reads, as that of a demoted primary does",
    "40": "the transaction was rolled back to let another one pass",
    "53": "disk, memory or connections are used up",
    "55": "something is locked or not ready",
    "57": "an operator, a timeout or a shutdown stepped in",
    "58": "the server's system failed it, or a pooler found no server",
    "XX": "the server failed inside",
}
"""The classes after which waiting may help: they become `Unavailable`."""

READ_ONLY: Final = "25006"
# What a standby says of a statement that names an unlogged table, before it says that it only
# reads. On a primary the code is that of something it will never do.
NOT_SUPPORTED: Final = "0A000"
_OF_A_STANDBY_AT: Final = "get_relation_info"
_OF_A_STANDBY: Final = ("during recovery", "hot standby")  # in the server's own language only
# A limit of the server is met: by one row, as by an index of the application's on what is too
# long for it, or by the queue of notifications, which empties.
LIMIT: Final = "54000"
_FULL_QUEUE: Final = "NOTIFY"  # in every language
# How the context of an error begins that a function raised: its name and the types of what it
# takes. What follows may quote statements, and with them values.
_IN_FUNCTION: Final = re.compile(r"PL/pgSQL function ([^()\n]+\([^()\n]*\)) line \d")
_UNAVAILABLE: Final = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_ROLLED_BACK: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
_NO_SCHEMA: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
_NO_ACCESS: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
# Where the server raises what a policy of row-level security forbids of one row.
_OF_A_POLICY_AT: Final = "ExecWithCheckOptions"
_READ_ONLY: Final = (
    "the database takes no writes: it is a standby, or default_transaction_read_only is on for its"
    " role or database"
)
TRIES_MAX = 5


class translated:  # noqa: N801 - a context manager, named like those of contextlib
    """Raise `Unavailable`, `ConfigurationError` or `StoreRefused` for what the driver raises.

    A connection that turned out to lead to no primary belongs to one that was demoted: all of the
    pool's connections are replaced, so that the next ones find the new primary.
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
        if _may_pass(error):
            if _sqlstate(error) in {READ_ONLY, NOT_SUPPORTED}:
                if self._pool is not None:
                    await self._pool.expire_connections()
                if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                    raise Unavailable(f"{_READ_ONLY}: {_told(error)}") from error
            raise Unavailable(f"the database did not answer: {_told(error)}") from error
        if isinstance(error, _NO_SCHEMA) and not _is_of_a_row(error):
            raise MigrationDue(
                f"the database lacks the async_jobs schema ({_told(error)}), or neither"
                " ASYNC_JOBS_DB_SCHEMA nor the connection's search_path leads to it;"
                " run: async-jobs migrate"
            ) from error
        if isinstance(error, _NO_ACCESS) and not _is_of_a_row(error):
            raise ConfigurationError(f"the database refused access: {_told(error)}") from error
        if isinstance(error, asyncpg.PostgresError) or _is_a_value(error):
            # Its details may quote a row, and with it a payload.
            told = f"{type(error).__name__}: {error.args[0] if error.args else ''}"
            raise StoreRefused(
                f"the database refused a statement: {told}", _refusal(error)
            ) from error


def _refusal(error: BaseException) -> str:
    """Return the kind of error, and what of the database's own raised it; never a value."""
    kind = type(error).__name__
    if by := getattr(error, "constraint_name", None):
        return f"{kind} by {by}"
    function = _IN_FUNCTION.match(getattr(error, "context", None) or "")
    return f"{kind} in {function[1]}" if function else kind


def _is_of_a_row(error: BaseException) -> bool:
    """Tell whether something of the application's on a row raised an error, not our statement.

    What our own tables and rights lack, the server says of the statement as a whole, without a
    context: only what a function or a foreign key does meanwhile has one.
    """
    at = getattr(error, "server_source_function", None)
    return bool(getattr(error, "context", None)) or at == _OF_A_POLICY_AT


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        passes = (_sqlstate(error) or "")[:2] in WAITING
        return passes or is_full_queue(error) or _is_of_a_standby(error)
    return isinstance(error, _UNAVAILABLE) and not _is_a_value(error)


def _is_of_a_standby(error: BaseException) -> bool:
    if _sqlstate(error) != NOT_SUPPORTED:
        return False
    at = getattr(error, "server_source_function", None)
    return at == _OF_A_STANDBY_AT or any(words in str(error) for words in _OF_A_STANDBY)


def _is_a_value(error: BaseException) -> bool:
    """Tell whether the driver could not even send a value."""
    of_the_driver = isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
    return of_the_driver and not isinstance(error, asyncpg.ClientConfigurationError)


def _sqlstate(error: BaseException) -> str | None:
    return getattr(error, "sqlstate", None)


def is_full_queue(error: BaseException) -> bool:
    """Tell whether NOTIFY may have found no room, because a session listens and does not hear."""
    cause = error.__cause__ or error
    return _sqlstate(cause) == LIMIT and _FULL_QUEUE in str(cause)


@asynccontextmanager
async def connecting(dsn: str) -> AsyncIterator[None]:
    """As `translated`, around what connects: tells where nobody answered, and a malformed DSN."""
    try:
        async with translated():
            yield
    except Unavailable as error:
        if isinstance(error.__cause__, asyncpg.ClientConfigurationError):
            raise ConfigurationError(_MALFORMED) from None
        for refusal, cure in _POOLERS_REFUSALS:
            if refusal in str(error.__cause__):
                raise ConfigurationError(f"{error.__cause__}: {cure}") from error.__cause__
        raise Unavailable(f"{error}{_told_where(dsn)}") from error.__cause__
    except StoreRefused as error:
        if not isinstance(error.__cause__, _SETTINGS):
            raise
        raise ConfigurationError(
            f"the database refused a parameter of its address: {error.__cause__}"
        ) from error.__cause__
    except (ValueError, OverflowError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(_MALFORMED) from None


# What the address says beyond libpq's parameters are settings of the server's.
_SETTINGS: Final = (
    asyncpg.UndefinedObjectError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.InvalidParameterValueError,
)
_POOLERS_REFUSALS: Final = (
    (
        "unsupported startup parameter",
        "a pooler like PgBouncer refuses the settings of a session; behind one in transaction mode"
        " set ASYNC_JOBS_DB_STATEMENT_CACHE_SIZE=0 (statement_cache_size=0), behind one in session"
        " mode name the parameters in its ignore_startup_parameters",
    ),
    (
        "statement pooling",
        "the pooler lends a connection for one statement only, and async_jobs needs transactions:"
        " set its pool_mode to transaction or session",
    ),
)

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
