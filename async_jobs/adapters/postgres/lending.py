"""A pool that lends a connection on, from one statement to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from typing import Any, NamedTuple

import asyncpg
from asyncpg.pool import PoolAcquireContext, PoolConnectionProxy

LENT_ON_SECONDS = 60.0
MADE_NEW_SECONDS = 5.0


class LendingPool(asyncpg.Pool):
    """An asyncpg pool whose connections are lent on for a minute before asyncpg has them back.

    asyncpg takes each connection back in a task of its own: a third of what a small statement
    costs its client. Here a connection that leaves an `async with` without an error and outside
    of a transaction waits for the next who asks. asyncpg, which closes what is worn out, has it
    back when others wait for a connection, when its minute is over, and after `release`, an
    error, or `expire_connections`.

    What comes back after an error or by `release` is made as new, a round trip: a call that was
    cancelled once its statement was prepared leaves locks to the next call on its connection.
    The others are as they were, because nothing here changes a session's state.

    Args:
        dsn: a libpq URL.
        lent_on_seconds: how long a connection is lent on; 0 for not at all.
        schema: where the tables are that its connections are to find; None for any.
        options: those of `asyncpg.create_pool`; `min_size`, `max_size` and
            `max_inactive_connection_lifetime` have to be given.
    """

    def __init__(
        self,
        dsn: str,
        *,
        lent_on_seconds: float = LENT_ON_SECONDS,
        schema: str | None = None,
        **options: Any,
    ) -> None:
        options = {
            "max_queries": 50_000,
            "loop": None,
            "connection_class": asyncpg.Connection,
            "record_class": asyncpg.Record,
            "reset": self._make_new,
        } | options
        super().__init__(dsn, **options)
        self.schema = schema
        self._lent_on_seconds = lent_on_seconds
        self._waiting: list[_Lent] = []
        self.askers = 0
        self._expired_at = float("-inf")
        self._end: asyncio.TimerHandle | None = None
        self._returning: dict[asyncio.Task[None], _Lent] = {}
        self._clean: set[int] = set()

    def acquire(self, *, timeout: float | None = None) -> _Loan:
        """See `asyncpg.Pool`."""
        return _Loan(self, timeout)

    def take(self) -> _Lent | None:
        """Return a connection that waits for the next who asks; None if asyncpg must lend one."""
        while self._waiting:
            lent = self._waiting.pop()
            if lent.is_open():
                return lent
            self._return(lent)
        return None

    def keep(self, lent: _Lent) -> bool:
        """Keep a connection for the next who asks; False if asyncpg must have it back."""
        loop = asyncio.get_running_loop()
        end = lent.since + self._lent_on_seconds
        if (
            self.askers
            or loop.time() >= end
            or lent.since <= self._expired_at
            or self.is_closing()
            or not lent.is_open()
            or lent.connection.is_in_transaction()
        ):
            return False
        self._waiting.append(lent)
        if self._end is None:
            self._end = loop.call_at(end, self._return_all)
        return True

    async def hand_back(self, lent: _Lent) -> None:
        """Give asyncpg a connection that is as it was."""
        pid = lent.connection.get_server_pid() if lent.is_open() else 0
        self._clean.add(pid)
        try:
            await self.release(lent.connection)
        finally:
            self._clean.discard(pid)

    async def _make_new(self, connection: asyncpg.Connection) -> None:
        if connection.get_server_pid() not in self._clean:
            await connection.execute(connection.get_reset_query(), timeout=MADE_NEW_SECONDS)

    def _return_all(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        # The one used last goes back last: asyncpg lends that one first, and its plans are warm.
        waiting, self._waiting = self._waiting, []
        for lent in waiting:
            self._return(lent)

    def _return(self, lent: _Lent) -> None:
        task = asyncio.get_running_loop().create_task(self.hand_back(lent))
        self._returning[task] = lent
        task.add_done_callback(self._returning.pop)

    def get_idle_size(self) -> int:
        """See `asyncpg.Pool`. Includes what waits to be lent on, and what is on its way back."""
        beside = (*self._waiting, *self._returning.values())
        return super().get_idle_size() + sum(lent.is_open() for lent in beside)

    async def expire_connections(self) -> None:
        """See `asyncpg.Pool`."""
        self._expired_at = asyncio.get_running_loop().time()
        self._return_all()
        await super().expire_connections()

    async def close(self) -> None:
        """See `asyncpg.Pool`."""
        self._return_all()
        await super().close()


class _Lent(NamedTuple):
    """A connection, and the loop's time when asyncpg lent it."""

    connection: PoolConnectionProxy
    since: float

    def is_open(self) -> bool:
        try:
            return not self.connection.is_closed()
        except asyncpg.InterfaceError:
            return False  # it was lost, and asyncpg took it back then


class _Loan(PoolAcquireContext):
    """What `acquire` returns, for `await` or `async with`; for one use."""

    __slots__ = ("_lender", "_lent")

    def __init__(self, lender: LendingPool, timeout: float | None) -> None:
        super().__init__(lender, timeout)
        self._lender = lender

    def __await__(self) -> Generator[Any, None, PoolConnectionProxy]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> PoolConnectionProxy:
        if self.done:
            raise asyncpg.InterfaceError("a connection is already acquired")
        lent = self._lender.take()
        if lent is None:
            self._lender.askers += 1
            try:
                connection = await super().__aenter__()
            finally:
                self._lender.askers -= 1
            lent = _Lent(connection, asyncio.get_running_loop().time())
        self.done = True
        self._lent = lent
        return lent.connection

    async def __aexit__(self, *exc: object) -> None:
        if exc[0] is not None:
            # One that cannot be made new is closed, and the caller's own error tells more.
            with suppress(Exception):
                await self._lender.release(self._lent.connection)
        elif not self._lender.keep(self._lent):
            await self._lender.hand_back(self._lent)
